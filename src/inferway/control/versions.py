"""Which versions a roll-out compares, and what the picker has counted of them.

A version is what the gateway sees: for a route's weights all requests to a pool, for a model's
weights the requests for a served model, in every pool whose rewrites lead to it (pools in one rule
share them). Pure: manifests, the routing model and the picker's last report in, readings out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inferway.observability.latency_buckets import BUCKETS
from inferway.resources import HTTPRoute
from inferway.rollout.counts import NOTHING, Counts, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.picker.config import PickerStatus, PoolStatus
    from inferway.resources import ResourceSet
    from inferway.resources.rollout import Rollout
    from inferway.routing.model import RoutingModel

# A pool's saturation as the reference picker's detector defines it.
QUEUE_FULL: Final = 5.0
KV_FULL_RATIO: Final = 0.8


@dataclass(frozen=True, slots=True)
class Version:
    """`model` None: every model of the pools."""

    pools: frozenset[str]
    model: str | None = None


def versions_of(
    rollout: Rollout, resources: ResourceSet, routing: RoutingModel
) -> tuple[Version, Version]:
    """The old and the new version; of no pool when they are not known."""
    spec = rollout.spec
    if spec.target_ref.kind != "HTTPRoute":
        pools = frozenset(
            pool.name
            for pool in routing.pools.values()
            for rewrite in pool.rewrites
            if any(target.model in (spec.from_, spec.to) for target in rewrite.targets)
        )
        return Version(pools, spec.from_), Version(pools, spec.to)
    route = resources.find(HTTPRoute, namespace=rollout.namespace, name=spec.target_ref.name)
    found: dict[str, frozenset[str]] = {}
    for rule in route.spec.rules if route is not None else ():
        for reference in rule.backend_refs:
            name = f"{reference.namespace or rollout.namespace}/{reference.name}"
            found.setdefault(reference.name, frozenset((name,)))
    return Version(found.get(spec.from_, frozenset())), Version(found.get(spec.to, frozenset()))


def reading_of(version: Version, status: PickerStatus) -> Reading:
    """What the picker reports of a version; without a report of it, nothing was counted."""
    counts = NOTHING
    for one in status.versions:
        if one.pool in version.pools and version.model in (None, one.model):
            counts = counts.plus(
                Counts(one.served, one.errors, one.shed, _dense(one.ttft), _dense(one.tpot))
            )
    known = [saturation_of(pool) for pool in status.pools if pool.name in version.pools]
    values = [value for value in known if value is not None]
    return Reading(counts, max(values) if values else None)


def saturation_of(pool: PoolStatus) -> float | None:
    """Mean over the endpoints of the fuller of queue and KV cache; None when nothing is known."""
    values = [
        max((one.waiting or 0.0) / QUEUE_FULL, (one.kv_usage_ratio or 0.0) / KV_FULL_RATIO)
        for one in pool.endpoints
        if one.waiting is not None or one.kv_usage_ratio is not None
    ]
    return math.fsum(values) / len(values) if values else None


def _dense(counts: Iterable[tuple[int, int]]) -> tuple[int, ...]:
    dense = [0] * BUCKETS
    for bucket, count in counts:
        dense[min(bucket, BUCKETS - 1)] += count
    return tuple(dense)
