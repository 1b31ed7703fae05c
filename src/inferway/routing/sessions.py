"""Which server, and which side of a split, a client keeps.

Problem: `sessionPersistence` promises more than a stateless data plane can keep, and a roll-out by
weight moves a user back and forth unless something about the user decides. Model: a session is an
address that the client carries (cookie or header) and that wins over every choice; stickiness is a
hash of something that the client sends anyway, and decides only the side of a weighted split.

Refused, with the field: what would need a clock or a memory in the gateway (idleTimeout; an
absoluteTimeout of anything but a permanent cookie), and a header session over several backends (a
header has no place for the backend, a cookie beside the session's has).
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING

from inferway.resources.scalars import HEADER_NAME_PATTERN, duration_s
from inferway.routing.features import CarrierKind, Session, Stickiness
from inferway.routing.filters import is_own_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferway.resources import HTTPRoute
    from inferway.resources.http_route import RouteRule, SessionPersistence

STICKY_ANNOTATION = "inferway.dev/sticky-weights"
_TOKEN = re.compile(HEADER_NAME_PATTERN)
_NAME_DIGITS = 8


def session_of(rule: RouteRule, *, place: str) -> Session | None:
    """The session of a rule. `place` is unique to it: a name that is not given is made from it."""
    written = rule.session_persistence
    if written is None:
        return None
    permanent = written.cookie_config is not None and (
        written.cookie_config.lifetime_type == "Permanent"
    )
    lifetime = written.absolute_timeout if permanent else None
    digest = hashlib.sha256(place.encode()).hexdigest()[:_NAME_DIGITS]
    carrier = CarrierKind(written.type.lower())
    name = written.session_name or f"inferway-session-{digest}"
    return Session(
        carrier=carrier,
        name=name.lower() if carrier is CarrierKind.HEADER else name,
        lifetime_s=None if lifetime is None else max(1, math.ceil(duration_s(lifetime))),
    )


def session_problems(rule: RouteRule) -> Iterator[str]:
    """What cannot be honoured, each with its field below the rule."""
    written = rule.session_persistence
    if written is None:
        return
    name = written.session_name
    header = written.type == "Header"
    if name is not None and not _TOKEN.fullmatch(name):
        yield "sessionPersistence.sessionName (not a name of a cookie or header)"
    elif name is not None and header and is_own_header(name.lower()):
        yield f"sessionPersistence.sessionName ({name} has a meaning of its own)"
    if written.idle_timeout is not None:
        yield "sessionPersistence.idleTimeout (sessions are not remembered by the gateway)"
    yield from _lifetime_problems(written)
    live = [backend for backend in rule.backend_refs if backend.weight]
    if header and len(live) > 1:
        yield "sessionPersistence.type (Header over several backends; Cookie can)"


def _lifetime_problems(written: SessionPersistence) -> Iterator[str]:
    if written.type == "Header":
        if written.cookie_config is not None:
            yield "sessionPersistence.cookieConfig (type is Header)"
        if written.absolute_timeout is not None:
            yield "sessionPersistence.absoluteTimeout (only a permanent cookie expires)"
        return
    permanent = written.cookie_config is not None and (
        written.cookie_config.lifetime_type == "Permanent"
    )
    if written.absolute_timeout is not None and not permanent:
        yield (
            "sessionPersistence.absoluteTimeout (only a permanent cookie expires: "
            "set cookieConfig.lifetimeType: Permanent)"
        )
    elif written.absolute_timeout is not None and duration_s(written.absolute_timeout) == 0:
        yield "sessionPersistence.absoluteTimeout (a session cannot last 0 s)"


def stickiness_of(route: HTTPRoute) -> tuple[Stickiness | None, str]:
    """What the route's annotation asks for, and a remark when it is not understood."""
    asked = route.metadata.annotations.get(STICKY_ANNOTATION)
    if asked is None:
        return None, ""
    kind, _, name = asked.partition(":")
    if kind not in tuple(CarrierKind) or not _TOKEN.fullmatch(name):
        return (
            None,
            f"not understood: {asked}; weights are not sticky; write header:NAME or cookie:NAME",
        )
    carrier = CarrierKind(kind)
    return Stickiness(carrier, name.lower() if carrier is CarrierKind.HEADER else name), ""
