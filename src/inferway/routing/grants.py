"""ReferenceGrants: which references may leave their namespace.

Problem: whoever may write a route in one namespace must not reach what another namespace holds
unless its owner agrees. Model: one set of (who, what) pairs over all grants; a reference inside its
own namespace needs none. Invariant: whether a reference is permitted is decided before anybody
looks whether its target exists, so a refusal tells nothing about the other namespace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.resources.references import GATEWAY_GROUP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.resources import ReferenceGrant


@dataclass(frozen=True, slots=True)
class Referrer:
    """The kind of object that refers, and its namespace."""

    group: str
    kind: str
    namespace: str


@dataclass(frozen=True, slots=True)
class Referent:
    """The object that is referred to."""

    group: str
    kind: str
    namespace: str
    name: str


def route_in(namespace: str) -> Referrer:
    """An HTTPRoute of this namespace."""
    return Referrer(GATEWAY_GROUP, "HTTPRoute", namespace)


def gateway_in(namespace: str) -> Referrer:
    """A Gateway of this namespace."""
    return Referrer(GATEWAY_GROUP, "Gateway", namespace)


class Grants:
    """Every ReferenceGrant. Built once per translation; a look-up is two set accesses."""

    def __init__(self, grants: Iterable[ReferenceGrant]) -> None:
        self._pairs = {
            (
                Referrer(who.group, who.kind, who.namespace),
                Referent(what.group, what.kind, grant.namespace, what.name or ""),
            )
            for grant in grants
            for who in grant.spec.from_
            for what in grant.spec.to
        }

    def permit(self, who: Referrer, what: Referent) -> bool:
        """Whether `who` may refer to `what`."""
        every = Referent(what.group, what.kind, what.namespace, "")
        return (
            who.namespace == what.namespace
            or (who, what) in self._pairs
            or (who, every) in self._pairs
        )
