"""Filters of a route as fields of Envoy's routes, weighted entries and filters.

Problem: Envoy can change headers and the host per weighted entry, but the path only per route, and
reads `%` in a value as a command. Model: pure functions from values of the routing model to the
fields of one Envoy message. Invariant: the path after a rewrite is the Gateway API's, also where
Envoy's own prefix rewrite would double or lose a slash.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from inferway.envoy.messages import Json, JsonValue, typed
from inferway.routing.features import PathChange, PathChangeKind

if TYPE_CHECKING:
    from inferway.routing.features import Cors, Filters
    from inferway.routing.header_changes import HeaderChanges
    from inferway.routing.model import RouteMatch

CORS_FILTER = "envoy.filters.http.cors"
_CORS = "envoy.extensions.filters.http.cors.v3"
_WHOLE_PATH = "^/.*$"


def cors_filter() -> Json:
    """The filter in the listener's chain; what it does is said per route."""
    return {"name": CORS_FILTER, "typed_config": typed(f"{_CORS}.Cors")}


def per_filter(settings: Json) -> Json:
    """Of a Route or ClusterWeight: filter name to its settings there, if there are any."""
    return {"typed_per_filter_config": settings} if settings else {}


def header_fields(filters: Filters) -> Json:
    """Of a Route or ClusterWeight."""
    return {**_header_fields("request", filters.request), **response_header_fields(filters)}


def response_header_fields(filters: Filters) -> Json:
    """Of a Route that does not forward."""
    return _header_fields("response", filters.response)


def _header_fields(side: str, changes: HeaderChanges) -> Json:
    found: dict[str, JsonValue] = {}
    added = _added(changes)
    removed = [one.name for one in changes if one.replace and not one.values]
    if added:
        found[f"{side}_headers_to_add"] = added
    if removed:
        found[f"{side}_headers_to_remove"] = removed
    return found


def _added(changes: HeaderChanges) -> list[JsonValue]:
    added: list[JsonValue] = []
    for change in changes:
        action = "OVERWRITE_IF_EXISTS_OR_ADD" if change.replace else "APPEND_IF_EXISTS_OR_ADD"
        for value in change.values:
            header: Json = {"key": change.name, "value": value.replace("%", "%%")}
            added.append({"header": header, "append_action": action})
            action = "APPEND_IF_EXISTS_OR_ADD"
    return added


def host_fields(filters: Filters) -> Json:
    """Of a RouteAction or ClusterWeight."""
    if filters.rewrite is None or filters.rewrite.hostname is None:
        return {}
    return {"host_rewrite_literal": filters.rewrite.hostname}


def path_fields(change: PathChange | None, match: RouteMatch) -> Json:
    """Of a RouteAction. A change of prefix belongs to a match of kind prefix."""
    if change is None:
        return {}
    if change.kind is PathChangeKind.FULL:
        return _regex(_WHOLE_PATH, change.value)
    return prefix_fields(change.value, match.path.rstrip("/"))


def prefix_fields(replacement: str, prefix: str) -> Json:
    """Of a RouteAction or RedirectAction. `prefix` has no slash at its end."""
    if not prefix:
        return {} if replacement == "/" else {"prefix_rewrite": f"{replacement}/"}
    if replacement == "/":
        # The slash after the prefix goes with it, or there would be two.
        return _regex(f"^{re.escape(prefix)}/*", "/")
    return {"prefix_rewrite": replacement}


def _regex(pattern: str, substitution: str) -> Json:
    return {
        "regex_rewrite": {
            "pattern": {"regex": pattern},
            "substitution": substitution.replace("\\", "\\\\"),
        }
    }


def cors_settings(cors: Cors | None) -> Json:
    """For `typed_per_filter_config` of a Route or ClusterWeight."""
    if cors is None:
        return {}
    fields: dict[str, JsonValue] = {
        "allow_origin_string_match": [_origin(one) for one in cors.origins],
        "max_age": str(cors.max_age_s),
        "allow_credentials": cors.credentials,
    }
    for field, values in (
        ("allow_methods", cors.methods),
        ("allow_headers", cors.headers),
        ("expose_headers", cors.expose),
    ):
        if values:
            fields[field] = ", ".join(values)
    return {CORS_FILTER: typed(f"{_CORS}.CorsPolicy", **fields)}


def _origin(origin: str) -> Json:
    """`*` in the place of a host stands for one or more labels."""
    if origin == "*":
        return {"safe_regex": {"regex": ".*"}}
    if "*" not in origin:
        return {"exact": origin}
    return {"safe_regex": {"regex": re.escape(origin).replace(r"\*", "[^/:]+")}}
