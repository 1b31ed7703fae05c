"""The rules of one HTTPRoute as route entries.

Problem: a rule has alternatives (`matches`), backends with weights, and features, some of which ask
for what cannot be done. Model: every match of every rule is one `Route` with the rule's targets and
its place in the order. A rule that would behave differently from what was written refuses the whole
route, with the field and the reason. Backends that do not resolve do not refuse a route: their
share is answered 500, and where they should only have got a copy, nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from inferway.resources.scalars import duration_s
from inferway.routing.expressions import expression_problem
from inferway.routing.features import NO_FILTERS, Retry
from inferway.routing.filters import ReadFilters, read_filters
from inferway.routing.model import MatchKind, Route, RouteMatch, ServerGroup, ValueMatch
from inferway.routing.precedence import Origin, RankedRoute, precedence
from inferway.routing.sessions import (
    STICKY_ANNOTATION,
    session_of,
    session_problems,
    stickiness_of,
)
from inferway.routing.status import Refusal, RoutingWarning

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferway.resources import HTTPRoute
    from inferway.resources.http_route import (
        BackendRef,
        HeaderMatch,
        PathMatch,
        QueryParamMatch,
        RouteRule,
    )
    from inferway.resources.http_route import RouteMatch as WrittenMatch
    from inferway.routing.backends import Backends, Resolved

_PATH_KINDS = {
    "Exact": MatchKind.EXACT,
    "PathPrefix": MatchKind.PREFIX,
    "RegularExpression": MatchKind.REGEX,
}


@dataclass(frozen=True, slots=True)
class RouteProgram:
    """What one HTTPRoute asks for, wherever it attaches."""

    name: str  # namespace/name
    entries: tuple[RankedRoute, ...]
    unsupported: Refusal | None
    unresolved: Refusal | None
    pools: tuple[str, ...]  # InferencePools that it references and that exist
    splits: frozenset[tuple[str, ...]]  # of them those that share one rule
    groups: tuple[ServerGroup, ...]
    warnings: tuple[RoutingWarning, ...]


@dataclass(slots=True)
class _Found:
    """What reading the rules one after the other has found so far."""

    problems: list[str] = field(default_factory=list)
    unresolved: list[tuple[str, Refusal]] = field(default_factory=list)
    pools: dict[str, None] = field(default_factory=dict)
    splits: set[tuple[str, ...]] = field(default_factory=set)
    groups: dict[str, ServerGroup] = field(default_factory=dict)

    def reference(self, resolved: Resolved, place: str) -> None:
        """A backend; `place` is empty when whoever resolved it has reported its refusal."""
        if place and resolved.refusal is not None:
            self.unresolved.append((place, resolved.refusal))
        if resolved.pool is not None:
            self.pools[resolved.pool] = None
        if resolved.group is not None:
            self.groups[resolved.group.name] = resolved.group

    def filters(self, read: ReadFilters) -> None:
        self.problems += read.problems
        self.unresolved += read.unresolved
        for resolved in read.references:
            self.reference(resolved, "")


def route_program(route: HTTPRoute, backends: Backends) -> RouteProgram:
    """The entries of a route in document order; those of an unsupported one are not served."""
    found = _Found()
    entries: list[RankedRoute] = []
    stickiness, remark = stickiness_of(route)
    for index, rule in enumerate(route.spec.rules):
        served = replace(_served(route, index, backends, found), stickiness=stickiness)
        entries += _entries(route, index, served)
        found.problems += [f"spec.rules[{index}].{problem}" for problem in _problems(rule)]
    unsupported = None
    if found.problems:
        unsupported = Refusal("UnsupportedValue", f"not supported: {'; '.join(found.problems)}")
    place = f"metadata.annotations[{STICKY_ANNOTATION}]"
    return RouteProgram(
        name=route.qualified_name,
        entries=tuple(entries),
        unsupported=unsupported,
        unresolved=_combined(found.unresolved),
        pools=tuple(found.pools),
        splits=frozenset(found.splits),
        groups=tuple(found.groups.values()),
        warnings=(RoutingWarning(remark, route.key, place),) if remark else (),
    )


def _served(route: HTTPRoute, index: int, backends: Backends, found: _Found) -> Route:
    """What a rule does to a request that matches it; name and match are still to be filled in."""
    rule = route.spec.rules[index]
    place = f"spec.rules[{index}]"

    def resolve(reference: BackendRef) -> Resolved:
        return backends.resolve(reference, namespace=route.namespace)

    read = read_filters(rule.filters, f"{place}.filters", resolve)
    found.filters(read)
    targets = []
    sharing: dict[str, None] = {}
    for position, backend in enumerate(rule.backend_refs):
        field_ = f"{place}.backendRefs[{position}]"
        resolved = resolve(backend)
        found.reference(resolved, field_)
        own = read_filters(backend.filters, f"{field_}.filters", resolve)
        found.filters(own)
        target = resolved.target
        if own.filters is not None:
            target = replace(target, filters=(read.filters or NO_FILTERS).then(own.filters))
        targets.append(target)
        if resolved.pool is not None:
            sharing[resolved.pool] = None
    if len(sharing) > 1:
        found.splits.add(tuple(sharing))
    timeouts = rule.timeouts
    return Route(
        name="",
        match=RouteMatch(),
        # None when no traffic may go anywhere (which answers 500).
        targets=tuple(targets) if any(target.weight for target in targets) else (),
        request_timeout_s=timeouts.request_s if timeouts else None,
        backend_timeout_s=timeouts.backend_request_s if timeouts else None,
        filters=read.filters,
        retry=_retry(rule),
        session=session_of(rule, place=f"{route.qualified_name}/{index}"),
    )


def _retry(rule: RouteRule) -> Retry | None:
    if rule.retry is None:
        return None
    backoff = rule.retry.backoff
    return Retry(
        codes=rule.retry.codes,
        attempts=rule.retry.attempts,
        backoff_s=None if backoff is None else duration_s(backoff),
    )


def _entries(route: HTTPRoute, index: int, served: Route) -> Iterator[RankedRoute]:
    for position, written in enumerate(route.spec.rules[index].matches):
        match = _match(written)
        origin = Origin(
            route=route.qualified_name,
            created=route.metadata.creation_timestamp,
            rule=index,
            match=position,
        )
        name = f"{route.qualified_name}/{index}/{position}"
        entry = replace(served, name=name, match=match)
        yield RankedRoute(key=precedence(match, origin), route=entry)


def _match(written: WrittenMatch) -> RouteMatch:
    kind = _PATH_KINDS[written.path.type]
    path = written.path.value
    if kind is MatchKind.PREFIX:
        # Prefixes go by path element: /v1/ and /v1 are the same condition.
        path = path.rstrip("/") or "/"
    return RouteMatch(
        path_kind=kind,
        path=path,
        method=written.method,
        headers=_conditions(written.headers, lower=True),
        query=_conditions(written.query_params, lower=False),
    )


def _conditions(
    written: Sequence[HeaderMatch | QueryParamMatch], *, lower: bool
) -> tuple[ValueMatch, ...]:
    """Conditions in document order; of several with an equivalent name only the first counts."""
    found: dict[str, ValueMatch] = {}
    for one in written:
        name = one.name.lower() if lower else one.name
        kind = MatchKind.EXACT if one.type == "Exact" else MatchKind.REGEX
        found.setdefault(name, ValueMatch(name=name, kind=kind, value=one.value))
    return tuple(found.values())


def _problems(rule: RouteRule) -> Iterator[str]:
    """What cannot be served apart from filters, each with its field below the rule."""
    for position, match in enumerate(rule.matches):
        for part, condition in _conditions_of(match):
            if condition.type == "RegularExpression":
                problem = expression_problem(condition.value)
                if problem:
                    yield f"matches[{position}].{part}.value ({condition.value}: {problem})"
    yield from session_problems(rule)


def _conditions_of(
    match: WrittenMatch,
) -> Iterator[tuple[str, PathMatch | HeaderMatch | QueryParamMatch]]:
    yield "path", match.path
    for index, header in enumerate(match.headers):
        yield f"headers[{index}]", header
    for index, parameter in enumerate(match.query_params):
        yield f"queryParams[{index}]", parameter


def _combined(refusals: Sequence[tuple[str, Refusal]]) -> Refusal | None:
    """One refusal for all: the first reason, every message."""
    if not refusals:
        return None
    message = "; ".join(f"{field}: {refusal.message}" for field, refusal in refusals)
    return Refusal(refusals[0][1].reason, message)
