"""HTTPRoute: which requests go to which backends. The whole v1 shape, with retry and
sessionPersistence of the experimental channel.

Defaults and limits are those of the upstream CRD. Matching order and whether references resolve are
routing's business.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .http_route_filters import Method, RouteFilter, filter_list_violations, repeated
from .meta import Model, Object
from .references import BackendObjectReference, ParentReference
from .scalars import (
    Between,
    Count,
    Duration,
    HeaderName,
    HeaderValue,
    Hostname,
    SectionName,
    duration_s,
)
from .violations import Violation, reject

RULES_MAX = 16
MATCHES_PER_RULE_MAX = 64
MATCHES_PER_ROUTE_MAX = 128
WEIGHT_MAX = 1_000_000

_PATH_CHARACTERS = re.compile(r"(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+")
_PATH_FORBIDDEN = ("//", "/./", "/../", "%2f", "%2F", "#")
_PATH_FORBIDDEN_ENDS = ("/..", "/.")


class PathMatch(Model):
    type: Literal["Exact", "PathPrefix", "RegularExpression"] = "PathPrefix"
    value: Annotated[str, Field(max_length=1024)] = "/"

    @model_validator(mode="after")
    def _path_is_well_formed(self) -> Self:
        if self.type == "RegularExpression":
            return self
        problem = ""
        if not self.value.startswith("/"):
            problem = "must start with '/'"
        for part in _PATH_FORBIDDEN:
            if not problem and part in self.value:
                problem = f"must not contain '{part}'"
        for end in _PATH_FORBIDDEN_ENDS:
            if not problem and self.value.endswith(end):
                problem = f"must not end with '{end}'"
        if not problem and not _PATH_CHARACTERS.fullmatch(self.value):
            problem = "must only contain characters that are valid in a URL path"
        if problem:
            message = f"value of type {self.type} {problem}: {self.value}"
            reject([Violation(message, ("value",))])
        return self


class HeaderMatch(Model):
    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: HeaderValue


class QueryParamMatch(Model):
    type: Literal["Exact", "RegularExpression"] = "Exact"
    name: HeaderName
    value: Annotated[str, Field(min_length=1, max_length=1024)]


class RouteMatch(Model):
    """Conditions that must all hold."""

    path: PathMatch = PathMatch()
    headers: Annotated[tuple[HeaderMatch, ...], Field(max_length=16)] = ()
    query_params: Annotated[tuple[QueryParamMatch, ...], Field(max_length=16)] = ()
    method: Method | None = None

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        found = [
            Violation(f"header name must be unique: {name}", ("headers", index, "name"))
            for index, name in repeated(header.name for header in self.headers)
        ]
        found += [
            Violation(f"parameter name must be unique: {name}", ("queryParams", index, "name"))
            for index, name in repeated(parameter.name for parameter in self.query_params)
        ]
        reject(found)
        return self


class BackendRef(BackendObjectReference):
    weight: Annotated[int, Between(0, WEIGHT_MAX)] = 1
    filters: Annotated[tuple[RouteFilter, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _filters_fit_together(self) -> Self:
        reject(filter_list_violations(self.filters))
        return self


class RouteTimeouts(Model):
    """Zero disables a timeout; unset leaves it to the gateway."""

    request: Duration | None = None
    backend_request: Duration | None = None

    @property
    def request_s(self) -> float | None:
        return None if self.request is None else duration_s(self.request)

    @property
    def backend_request_s(self) -> float | None:
        return None if self.backend_request is None else duration_s(self.backend_request)

    @model_validator(mode="after")
    def _backend_within_request(self) -> Self:
        request_s, backend_s = self.request_s, self.backend_request_s
        if request_s and backend_s is not None and backend_s > request_s:
            message = (
                "backendRequest cannot be longer than request: "
                f"{self.backend_request} > {self.request}"
            )
            reject([Violation(message, ("backendRequest",))])
        return self


class RouteRetry(Model):
    """`attempts` is in addition to the first try; 0 disables retries."""

    codes: tuple[Annotated[int, Between(400, 599)], ...] = ()
    attempts: Count | None = None
    backoff: Duration | None = None


class CookieConfig(Model):
    lifetime_type: Literal["Session", "Permanent"] = "Session"


class SessionPersistence(Model):
    session_name: Annotated[str, Field(max_length=128)] | None = None
    absolute_timeout: Duration | None = None
    idle_timeout: Duration | None = None
    type: Literal["Cookie", "Header"] = "Cookie"
    cookie_config: CookieConfig | None = None

    @model_validator(mode="after")
    def _permanent_cookie_expires(self) -> Self:
        permanent = (
            self.cookie_config is not None and self.cookie_config.lifetime_type == "Permanent"
        )
        if permanent and self.absolute_timeout is None:
            message = "absoluteTimeout must be set when the cookie's lifetimeType is Permanent"
            reject([Violation(message, ("absoluteTimeout",))])
        return self


def _match_everything_if_empty(matches: tuple[RouteMatch, ...]) -> tuple[RouteMatch, ...]:
    return matches or (RouteMatch(),)


class RouteRule(Model):
    """Applies when any of `matches` does; there is always at least one (an empty list means every
    request).
    """

    name: SectionName | None = None
    matches: Annotated[
        tuple[RouteMatch, ...],
        Field(max_length=MATCHES_PER_RULE_MAX),
        AfterValidator(_match_everything_if_empty),
    ] = (RouteMatch(),)
    filters: Annotated[tuple[RouteFilter, ...], Field(max_length=16)] = ()
    backend_refs: Annotated[tuple[BackendRef, ...], Field(max_length=16)] = ()
    timeouts: RouteTimeouts | None = None
    retry: RouteRetry | None = None
    session_persistence: SessionPersistence | None = None

    @model_validator(mode="after")
    def _filters_fit_rule(self) -> Self:
        found = filter_list_violations(self.filters)
        places: list[tuple[tuple[str | int, ...], RouteFilter]] = [
            (("filters", index), filter_) for index, filter_ in enumerate(self.filters)
        ]
        for backend_index, backend in enumerate(self.backend_refs):
            for index, filter_ in enumerate(backend.filters):
                places.append((("backendRefs", backend_index, "filters", index), filter_))
        one_prefix = len(self.matches) == 1 and self.matches[0].path.type == "PathPrefix"
        for path, filter_ in places:
            if filter_.replaces_prefix and not one_prefix:
                message = (
                    "ReplacePrefixMatch needs exactly one match of type PathPrefix in the rule"
                )
                found.append(Violation(message, path))
            if filter_.type == "RequestRedirect" and self.backend_refs and path[0] == "filters":
                message = "RequestRedirect cannot be used together with backendRefs"
                found.append(Violation(message, path))
        reject(found)
        return self


class HTTPRouteSpec(Model):
    """`rules` unset: one rule that matches everything and has no backend. `hostnames` empty: those
    of the listener.
    """

    parent_refs: Annotated[tuple[ParentReference, ...], Field(max_length=32)] = ()
    hostnames: Annotated[tuple[Hostname, ...], Field(max_length=16)] = ()
    rules: Annotated[tuple[RouteRule, ...], Field(min_length=1, max_length=RULES_MAX)] = (
        RouteRule(),
    )

    @model_validator(mode="after")
    def _entries_fit_together(self) -> Self:
        found = self._parent_violations()
        names = [rule.name or f"\0{index}" for index, rule in enumerate(self.rules)]
        found += [
            Violation(
                f"rule name must be unique within the route: {name}", ("rules", index, "name")
            )
            for index, name in repeated(names)
        ]
        matches = sum(len(rule.matches) for rule in self.rules)
        if matches > MATCHES_PER_ROUTE_MAX:
            message = (
                f"at most {MATCHES_PER_ROUTE_MAX} matches are allowed over all rules: {matches}"
            )
            found.append(Violation(message, ("rules",)))
        reject(found)
        return self

    def _parent_violations(self) -> list[Violation]:
        """References to one parent must differ in sectionName or port, and all set the same of the
        two.
        """
        first: dict[tuple[str, str, str | None, str], ParentReference] = {}
        seen: set[ParentReference] = set()
        found = []
        for index, parent in enumerate(self.parent_refs):
            identity = (parent.group, parent.kind, parent.namespace, parent.name)
            other = first.setdefault(identity, parent)
            same_fields = (other.section_name is None) == (parent.section_name is None) and (
                other.port is None
            ) == (parent.port is None)
            if parent in seen:
                message = f"parentRefs must be distinct: {parent.name}"
                found.append(Violation(message, ("parentRefs", index)))
            elif not same_fields:
                message = (
                    f"all parentRefs to one parent must set sectionName, or all port: {parent.name}"
                )
                found.append(Violation(message, ("parentRefs", index)))
            seen.add(parent)
        return found


class HTTPRoute(Object):
    api_version: Literal["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"] = (
        "gateway.networking.k8s.io/v1"
    )
    kind: Literal["HTTPRoute"] = "HTTPRoute"
    spec: HTTPRouteSpec
