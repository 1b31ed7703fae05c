"""What Envoy does with a request that it forwards: where to, how long, how often.

Problem: a route says little, and Envoy's defaults for the rest suit short web requests. Model: one
function gives all fields of an Envoy Route besides its name and match. Invariants: no default of
Envoy for time or retries is left in force; nothing is tried again once the answer has begun.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from inferway.envoy.clusters import pool_cluster, servers_cluster
from inferway.envoy.filters import pick_settings
from inferway.envoy.messages import Json, JsonValue, seconds, typed
from inferway.envoy.mirrors import mirror_policies
from inferway.envoy.picker_clusters import picked_name, picker_retry_policy
from inferway.envoy.route_filters import (
    cors_settings,
    header_fields,
    host_fields,
    path_fields,
    per_filter,
)
from inferway.envoy.sessions import hash_policy, scaled, session_settings
from inferway.routing.features import NO_FILTERS
from inferway.routing.model import Route, RouteMatch, Target, TargetKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.features import Filters
    from inferway.routing.model import Pool, RoutingModel

# `reset` is a connection that broke before the first byte of an answer, or a try that took longer
# than its time. Generating twice does no harm, and a model server that was killed must not show to
# its clients.
_RETRY_ON = "connect-failure,refused-stream,reset,retriable-status-codes"
_RETRY_CODES_DEFAULT = (503,)
_PREVIOUS_HOSTS = "envoy.retry_host_predicates.previous_hosts"
_BACKOFF_MAX_FACTOR = 10
_BACKOFF_S_MIN = 0.001  # the least that Envoy takes


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What every action needs to know."""

    model: RoutingModel
    settings: EnvoySettings


def forward(route: Route, targets: Sequence[Target], to: Forwarding) -> Json:
    """Fields of an Envoy Route that sends to one target, or by weight to several that agree."""
    own = [target.filters or NO_FILTERS for target in targets]
    alike = all(one == own[0] for one in own)
    common = own[0] if alike else NO_FILTERS
    if len(targets) == 1:
        destination: Json = {"cluster": _cluster(targets[0], to.model)}
        # Which of several targets gets a request is drawn for each stream anew.
        alone = sum(target.weight > 0 for target in route.targets) == 1
        settings = _pick(targets[0], to.model, relay=alone)
    else:
        entries = [
            _entry(target, NO_FILTERS if alike else one, to)
            for target, one in zip(targets, own, strict=True)
        ]
        destination = _split(route, entries, [target.weight for target in targets])
        settings = {}
    settings = {**settings, **cors_settings(common.cors), **session_settings(route.session)}
    rewrite = own[0].rewrite
    return {
        "route": {
            **destination,
            **host_fields(common),
            **path_fields(rewrite.path if rewrite else None, route.match),
            **mirror_policies(own[0].mirrors),
            **_times(route, to.settings),
            "retry_policy": _retry_policy(route, targets[0], to),
        },
        **per_filter(settings),
        **header_fields(common),
    }


def agree(targets: Sequence[Target], route: Route, model: RoutingModel) -> bool:
    """Whether one route of Envoy can hold all these targets: they differ in nothing but what its
    weighted entries can say.
    """

    def of_route(target: Target) -> object:
        filters = target.filters or NO_FILTERS
        path = filters.rewrite and filters.rewrite.path
        broken = target.kind is TargetKind.ERROR
        time_s = _try_timeout_s(route, target, model)
        picked = is_foreign(target, model)
        return broken, filters.redirect, filters.unknown, path, filters.mirrors, time_s, picked

    return all(of_route(one) == of_route(targets[0]) for one in targets)


def _entry(target: Target, filters: Filters, to: Forwarding) -> Json:
    return {
        "name": _cluster(target, to.model),
        **host_fields(filters),
        **header_fields(filters),
        **per_filter({**_pick(target, to.model, relay=False), **cors_settings(filters.cors)}),
    }


def _split(route: Route, entries: Sequence[Json], weights: Sequence[int]) -> Json:
    sticky = route.stickiness
    shares = weights if sticky is None else scaled(weights)
    clusters = [{**entry, "weight": weight} for entry, weight in zip(entries, shares, strict=True)]
    if sticky is None:
        return {"weighted_clusters": {"clusters": clusters}}
    return {
        "weighted_clusters": {"clusters": clusters, "use_hash_policy": True},
        "hash_policy": hash_policy(sticky),
    }


def is_foreign(target: Target, model: RoutingModel) -> bool:
    """Whether the target is a pool that brings its own picker."""
    return target.kind is TargetKind.POOL and model.pools[target.name].picker is not None


def pool_action(pool: Pool, to: Forwarding) -> Json:
    """The RouteAction that leads to a pool's endpoints, whoever picks among them."""
    ours = replace(to.model, pools={pool.name: replace(pool, picker=None)})
    target = Target(TargetKind.POOL, pool.name, 1)
    route = Route(name="", match=RouteMatch(), targets=(target,))
    action = forward(route, [target], replace(to, model=ours))["route"]
    return action if isinstance(action, dict) else {}


def _cluster(target: Target, model: RoutingModel) -> str:
    if is_foreign(target, model):
        return picked_name(target.name)
    if target.kind is TargetKind.POOL:
        return pool_cluster(target.name)
    return servers_cluster(target.name)


def _pick(target: Target, model: RoutingModel, *, relay: bool) -> Json:
    if target.kind is not TargetKind.POOL or is_foreign(target, model):
        return {}
    return pick_settings(model.pools[target.name], relay=relay)


def _times(route: Route, settings: EnvoySettings) -> Json:
    """Streams may take as long as they keep moving; only the route may ask for an end. Envoy's
    `timeout` starts with the first try; the time before (in the picker) counts as well, and that is
    `max_stream_duration`.
    """
    request_s = route.request_timeout_s or 0.0
    times: Json = {"timeout": seconds(request_s), "idle_timeout": seconds(settings.idle_timeout_s)}
    if not request_s:
        return times
    return {**times, "max_stream_duration": {"max_stream_duration": seconds(request_s)}}


def _try_timeout_s(route: Route, target: Target, model: RoutingModel) -> float | None:
    """The route's word; without one, that of a policy for the backend."""
    if route.backend_timeout_s is not None or route.request_timeout_s is not None:
        return route.backend_timeout_s
    match target.kind:
        case TargetKind.POOL:
            return model.pools[target.name].backend_timeout_s
        case TargetKind.SERVERS:
            return model.server_groups[target.name].backend_timeout_s
        case TargetKind.ERROR:
            return None


def _retry_policy(route: Route, target: Target, to: Forwarding) -> Json:
    settings, retry = to.settings, route.retry
    try_s = _try_timeout_s(route, target, to.model)
    limits: Json = {"per_try_timeout": seconds(try_s)} if try_s else {}
    if is_foreign(target, to.model):
        # Endpoints are tried one after the other behind the picker.
        fails_open = to.model.pools[target.name].fail_open
        return {**(picker_retry_policy() if fails_open else {}), **limits}
    codes = retry.codes if retry and retry.codes else _RETRY_CODES_DEFAULT
    attempts = retry.attempts if retry else None
    policy: dict[str, JsonValue] = {
        "retry_on": _RETRY_ON,
        "retriable_status_codes": list(codes),
        "num_retries": settings.retries_max if attempts is None else attempts,
        # When the picker's list is at its end, the fallback policy must not choose a host that
        # has just failed, as long as there is another.
        "retry_host_predicate": [
            {
                "name": _PREVIOUS_HOSTS,
                "typed_config": typed(
                    "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                ),
            }
        ],
        "host_selection_retry_max_attempts": 3,
        **limits,
    }
    if retry is not None and retry.backoff_s is not None:
        base_s = max(retry.backoff_s, _BACKOFF_S_MIN)
        policy["retry_back_off"] = {
            "base_interval": seconds(base_s),
            "max_interval": seconds(base_s * _BACKOFF_MAX_FACTOR),
        }
    return policy
