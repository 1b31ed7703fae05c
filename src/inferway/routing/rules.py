"""The rules of one HTTPRoute as route entries.

Problem: a rule has alternatives (`matches`), backends with weights and features, not all of which
this version serves. Model: every match of every rule is one `Route` with the rule's targets and its
place in the order. A rule that asks for something that is not served would behave differently from
what was written, so the whole route is refused, with the field and what is supported. Backends that
do not resolve do not refuse a route: their share is answered 500.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.routing.expressions import expression_problem
from inferway.routing.model import MatchKind, Route, RouteMatch, ServerGroup, Target, ValueMatch
from inferway.routing.precedence import Origin, RankedRoute, precedence
from inferway.routing.status import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferway.resources import HTTPRoute
    from inferway.resources.http_route import HeaderMatch, PathMatch, QueryParamMatch, RouteRule
    from inferway.resources.http_route import RouteMatch as WrittenMatch
    from inferway.routing.backends import Backends, Resolved

_PATH_KINDS = {
    "Exact": MatchKind.EXACT,
    "PathPrefix": MatchKind.PREFIX,
    "RegularExpression": MatchKind.REGEX,
}
_SUPPORTED = "supported in a rule: name, matches, backendRefs with weight, timeouts"


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


def route_program(route: HTTPRoute, backends: Backends) -> RouteProgram:
    """The entries of a route in document order; `unsupported` ones are for the status only."""
    entries: list[RankedRoute] = []
    unresolved: list[tuple[str, Refusal]] = []
    pools: dict[str, None] = {}
    splits: set[tuple[str, ...]] = set()
    groups: dict[str, ServerGroup] = {}
    for index, rule in enumerate(route.spec.rules):
        resolved = [
            backends.resolve(reference, namespace=route.namespace)
            for reference in rule.backend_refs
        ]
        entries += _entries(route, index, _targets(resolved))
        sharing = tuple(dict.fromkeys(one.pool for one in resolved if one.pool is not None))
        if len(sharing) > 1:
            splits.add(sharing)
        for position, one in enumerate(resolved):
            if one.refusal is not None:
                field = f"spec.rules[{index}].backendRefs[{position}]"
                unresolved.append((field, one.refusal))
            if one.pool is not None:
                pools[one.pool] = None
            if one.group is not None:
                groups[one.group.name] = one.group
    return RouteProgram(
        name=route.qualified_name,
        entries=tuple(entries),
        unsupported=_unsupported(route.spec.rules),
        unresolved=_combined(unresolved),
        pools=tuple(pools),
        splits=frozenset(splits),
        groups=tuple(groups.values()),
    )


def _entries(route: HTTPRoute, index: int, targets: tuple[Target, ...]) -> Iterator[RankedRoute]:
    rule = route.spec.rules[index]
    timeouts = rule.timeouts
    for position, written in enumerate(rule.matches):
        match = _match(written)
        origin = Origin(
            route=route.qualified_name,
            created=route.metadata.creation_timestamp,
            rule=index,
            match=position,
        )
        entry = Route(
            name=f"{route.qualified_name}/{index}/{position}",
            match=match,
            targets=targets,
            request_timeout_s=timeouts.request_s if timeouts else None,
            backend_timeout_s=timeouts.backend_request_s if timeouts else None,
        )
        yield RankedRoute(key=precedence(match, origin), route=entry)


def _targets(resolved: Sequence[Resolved]) -> tuple[Target, ...]:
    """All targets with their weights; none when no traffic may go anywhere (which answers 500)."""
    targets = tuple(one.target for one in resolved)
    return targets if any(target.weight for target in targets) else ()


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


def _unsupported(rules: Sequence[RouteRule]) -> Refusal | None:
    found = [
        f"spec.rules[{index}].{part}"
        for index, rule in enumerate(rules)
        for part in _unsupported_parts(rule)
    ]
    if not found:
        return None
    return Refusal("UnsupportedValue", f"not supported: {', '.join(found)}; {_SUPPORTED}")


def _unsupported_parts(rule: RouteRule) -> Iterator[str]:
    for position, match in enumerate(rule.matches):
        for part, condition in _conditions_of(match):
            if condition.type == "RegularExpression":
                problem = expression_problem(condition.value)
                if problem:
                    yield f"matches[{position}].{part}.value ({condition.value}: {problem})"
    for index, one in enumerate(rule.filters):
        yield f"filters[{index}] ({one.type})"
    for position, backend in enumerate(rule.backend_refs):
        for index, one in enumerate(backend.filters):
            yield f"backendRefs[{position}].filters[{index}] ({one.type})"
    if rule.retry is not None:
        yield "retry"
    if rule.session_persistence is not None:
        yield "sessionPersistence"


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
