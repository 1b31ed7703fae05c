"""A redirect of the Gateway API as Envoy's.

Problem: without a port in the manifest the API wants the well-known port of the scheme, or else the
listener's, and never writes it where a client would assume it; Envoy keeps the port that stands in
the request's Host. Model: the port that must result is known here, so it is said to Envoy whenever
it is not the scheme's own; where it is, a request whose Host has a port takes a route of its own,
which says it after all: `https://example.com:443/` is longer than needed, and right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.envoy.route_filters import prefix_fields
from inferway.routing.features import PathChangeKind

if TYPE_CHECKING:
    from inferway.envoy.messages import Json, JsonValue
    from inferway.routing.features import Redirect
    from inferway.routing.model import RouteMatch

_WELL_KNOWN = {"http": 80, "https": 443}
_CODES = {
    301: "MOVED_PERMANENTLY",
    302: "FOUND",
    303: "SEE_OTHER",
    307: "TEMPORARY_REDIRECT",
    308: "PERMANENT_REDIRECT",
}
_WITH_PORT: Json = {"name": ":authority", "string_match": {"safe_regex": {"regex": ".*:[0-9]+"}}}


@dataclass(frozen=True, slots=True)
class Front:
    """What clients see of a listener."""

    scheme: str
    port: int


def redirect_routes(
    redirect: Redirect, match: Json, written: RouteMatch, front: Front
) -> list[Json]:
    """One or two routes with this match; `written` is what it was made from."""
    scheme = redirect.scheme or front.scheme
    port = redirect.port or (_WELL_KNOWN[redirect.scheme] if redirect.scheme else front.port)
    action = _action(redirect, written)
    if port != _WELL_KNOWN[scheme]:
        return [{"match": match, "redirect": {**action, "port_redirect": port}}]
    routes: list[Json] = [{"match": match, "redirect": action}]
    if redirect.hostname is None:
        headers = match.get("headers", [])
        conditions = [*headers, _WITH_PORT] if isinstance(headers, list) else [_WITH_PORT]
        explicit: Json = {**match, "headers": conditions}
        routes.insert(0, {"match": explicit, "redirect": {**action, "port_redirect": port}})
    return routes


def _action(redirect: Redirect, match: RouteMatch) -> Json:
    found: dict[str, JsonValue] = {"response_code": _CODES[redirect.status]}
    if redirect.scheme is not None:
        found["scheme_redirect"] = redirect.scheme
    if redirect.hostname is not None:
        found["host_redirect"] = redirect.hostname
    if redirect.path is None:
        return found
    if redirect.path.kind is PathChangeKind.FULL:
        return {**found, "path_redirect": redirect.path.value}
    return {**found, **prefix_fields(redirect.path.value, match.path.rstrip("/"))}
