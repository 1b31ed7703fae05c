"""What the conditions of an object's status say, for people.

A status has conditions at up to three levels (the object, its listeners, its parents), most of
which are good when True and some when False. This reads the JSON form, so that the same words come
from the admin API of a running gateway and from `inferway validate`, which runs none.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Document = dict[str, Any]

# These describe trouble when they are True; all others when they are False. Not
# OverlappingTLSConfig: such requests are answered 421, and clients go on by themselves.
TROUBLE_WHEN_TRUE = frozenset({"Conflicted", "PartiallyInvalid"})
# A ModelServer that a route names directly belongs to no pool, and need not.
HARMLESS_REASONS = frozenset({"PlainBackend"})
# Without any condition: nobody had a reason to look at it.
WITHOUT_CONDITIONS = {
    "HTTPRoute": "no Gateway of ours is its parent",
    "InferencePool": "no route refers to it",
    "Gateway": "of another controller",
    "GatewayClass": "of another controller",
}
# Others refer to these; what comes of it is told there.
WITHOUT_STATUS = frozenset(
    {"ConfigMap", "EndpointSlice", "Namespace", "ReferenceGrant", "Secret", "Service"}
)


class Told(NamedTuple):
    """A condition, and where it stands: empty for the object itself."""

    level: str
    condition: Document

    @property
    def is_trouble(self) -> bool:
        bad = "True" if self.condition.get("type") in TROUBLE_WHEN_TRUE else "False"
        return (
            self.condition.get("status") == bad
            and self.condition.get("reason") not in HARMLESS_REASONS
        )


def told(status: Document) -> list[Told]:
    """Every condition of every level."""
    found = [Told("", one) for one in status.get("conditions", [])]
    for listener in status.get("listeners", []):
        place = f"listener {listener.get('name', '')}"
        found += [Told(place, one) for one in listener.get("conditions", [])]
    for parent in status.get("parents", []):
        place = f"parent {parent.get('parentRef', {}).get('name', '')}"
        found += [Told(place, one) for one in parent.get("conditions", [])]
    return found


def summary(kind: str, status: Document) -> tuple[str, str]:
    """The worst state of an object ("True", "False" or "Unknown"), and the condition that says
    so.
    """
    found = told(status)
    if not found and kind in WITHOUT_STATUS:
        return "True", ""
    if not found:
        return "Unknown", WITHOUT_CONDITIONS.get(kind, "")
    for one in found:
        if one.is_trouble:
            return "False", words(one.condition)
    for one in found:
        if one.condition.get("status") == "Unknown":
            return "Unknown", words(one.condition)
    return "True", ""


def words(condition: Document) -> str:
    return f"{condition.get('type', '')}: {condition.get('reason', '')}"
