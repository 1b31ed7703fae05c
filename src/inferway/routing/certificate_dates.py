"""Certificates that are out of date, or soon will be.

Problem: an expired certificate fails every client at once, weeks after anybody touched a manifest.
Model: a remark per certificate from its dates and the time, added to the status of the listeners
that show it. A certificate out of date is still served: the clients' refusal tells them more than
a closed port. Soon is 14 days before the end, or the last third of a short life, which leaves a
renewal that works time to happen.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from inferway.resources.conditions import Condition
    from inferway.routing.model import Certificate
    from inferway.routing.status import ListenerStatus, ObjectStatus

SOON = timedelta(days=14)
_SHORT_LIFE_PART = 3


def remarks(certificates: Iterable[Certificate], now: datetime) -> dict[str, str]:
    """Certificate name to what is to be said about its dates, of those that need it."""
    found = {one.name: _remark(one, now) for one in certificates}
    return {name: remark for name, remark in found.items() if remark}


def _remark(certificate: Certificate, now: datetime) -> str:
    name, starts, expires = certificate.name, certificate.starts, certificate.expires
    if now >= expires:
        return f"the certificate of Secret {name} expired at {_shown(expires)}"
    if now < starts:
        return f"the certificate of Secret {name} is not valid before {_shown(starts)}"
    if expires - now <= min(SOON, (expires - starts) / _SHORT_LIFE_PART):
        return f"the certificate of Secret {name} expires at {_shown(expires)}"
    return ""


def _shown(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def with_remarks(
    statuses: Iterable[ObjectStatus], found: Mapping[str, str]
) -> tuple[ObjectStatus, ...]:
    """The statuses with what `remarks` gave, in ResolvedRefs of the listeners concerned."""
    if not found:
        return tuple(statuses)
    return tuple(
        replace(status, listeners=tuple(_remarked(one, found) for one in status.listeners))
        for status in statuses
    )


def _remarked(listener: ListenerStatus, found: Mapping[str, str]) -> ListenerStatus:
    said = [found[name] for name in listener.certificates if name in found]

    def added(condition: Condition) -> Condition:
        if condition.type != "ResolvedRefs" or not said:
            return condition
        return replace(condition, message="; ".join(filter(None, [condition.message, *said])))

    return replace(listener, conditions=tuple(added(one) for one in listener.conditions))
