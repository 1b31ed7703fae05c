"""Sessions and sticky splits in Envoy's words.

Problem: a session's server must win over the picker's choice and over the weights; Envoy's session
filter does the former, but it comes after the choice of a cluster. Model: the filter is in every
listener's chain and is configured per route; where a rule has several backends, a second cookie
names the backend, and a route in front of the split sends whoever has it there. A backend without
weight has no such route: weight 0 means no traffic. Stickiness is Envoy's hash as the split's
random number; the weights are scaled to one total, so that a session changes sides only when a
bound passes it, and never back while the weights move one way.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

from inferway.envoy.messages import Json, JsonValue, typed
from inferway.routing.features import MILLION, NO_FILTERS, CarrierKind, Filters
from inferway.routing.header_changes import HeaderChange
from inferway.routing.model import TargetKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.routing.features import Session, Stickiness
    from inferway.routing.model import Target

SESSION_FILTER = "envoy.filters.http.stateful_session"
_FILTER = "envoy.extensions.filters.http.stateful_session.v3"
_STATE = "envoy.extensions.http.stateful_session"
_DIGITS = 8


def session_filter() -> Json:
    """The filter in the listener's chain, which does nothing unless a route asks for it."""
    return {"name": SESSION_FILTER, "typed_config": typed(f"{_FILTER}.StatefulSession")}


def session_settings(session: Session | None) -> Json:
    """For `typed_per_filter_config` of a Route. An address that has left its cluster is no session:
    the request is picked for like any other.
    """
    if session is None:
        return {}
    if session.carrier is CarrierKind.HEADER:
        state = typed(f"{_STATE}.header.v3.HeaderBasedSessionState", name=session.name)
    else:
        cookie: dict[str, JsonValue] = {"name": session.name, "path": "/"}
        cookie["attributes"] = [{"name": "HttpOnly"}]
        if session.lifetime_s is not None:
            cookie["ttl"] = f"{session.lifetime_s}s"
        state = typed(f"{_STATE}.cookie.v3.CookieBasedSessionState", cookie=cookie)
    name = f"envoy.http.stateful_session.{session.carrier}"
    settings: Json = {"session_state": {"name": name, "typed_config": state}}
    return {SESSION_FILTER: typed(f"{_FILTER}.StatefulSessionPerRoute", stateful_session=settings)}


def marking(session: Session, target: Target) -> Target:
    """The target, with answers that tell the client which backend it has."""
    if target.kind is TargetKind.ERROR:
        return target
    value = f"{_cookie(session)}={_digest(target)}; Path=/; HttpOnly"
    if session.lifetime_s is not None:
        value += f"; Max-Age={session.lifetime_s}"
    mark = HeaderChange("set-cookie", replace=False, values=(value,))
    filters = (target.filters or NO_FILTERS).then(Filters(response=(mark,)))
    return replace(target, filters=filters)


def marked(session: Session, target: Target) -> Json:
    """The condition on headers that a request of that backend's sessions meets."""
    pair = re.escape(f"{_cookie(session)}={_digest(target)}")
    pattern = rf"(.*;\s*)?{pair}(\s*;.*)?"
    return {"name": "cookie", "string_match": {"safe_regex": {"regex": pattern}}}


def _cookie(session: Session) -> str:
    return f"{session.name}-backend"


def _digest(target: Target) -> str:
    return hashlib.sha256(f"{target.kind}/{target.name}".encode()).hexdigest()[:_DIGITS]


def hash_policy(stickiness: Stickiness) -> list[Json]:
    """Of a RouteAction. A request without the value has no hash, and its side is random."""
    if stickiness.carrier is CarrierKind.HEADER:
        return [{"header": {"header_name": stickiness.name}}]
    return [{"cookie": {"name": stickiness.name}}]


def scaled(weights: Sequence[int]) -> list[int]:
    """The same shares with a sum of a million, each bound between two of them rounded down."""
    total = sum(weights)
    bounds = [sum(weights[: index + 1]) * MILLION // total for index in range(len(weights))]
    return [bound - before for before, bound in zip([0, *bounds], bounds, strict=False)]
