"""Which models each listener serves: the union over the pools that its routes reach.

Model servers say what they serve (`/v1/models`, read by the picker); routes say which pools a
listener reaches. A model is listed as long as one endpoint of one such pool has it, and an alias as
long as one of its targets is; its `root` is the heaviest of these. `created` is when this control
plane first heard of the name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.model_list import ModelInfo
from inferway.routing.model import TargetKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from inferway.picker.config import PickerStatus, PoolStatus
    from inferway.routing.model import Listener, Rewrite, RoutingModel


def listed_models(
    model: RoutingModel,
    status: PickerStatus | None,
    *,
    first_seen: MutableMapping[str, int],
    now_s: int,
) -> dict[str, tuple[ModelInfo, ...]]:
    """Listener name → models by id. `first_seen` (id → Unix seconds) is filled in for new ids."""
    pools = {pool.name: pool for pool in status.pools} if status else {}
    return {
        listener.name: _models(model, listener, pools, first_seen, now_s)
        for listener in model.listeners
    }


def _models(
    model: RoutingModel,
    listener: Listener,
    pools: Mapping[str, PoolStatus],
    first_seen: MutableMapping[str, int],
    now_s: int,
) -> tuple[ModelInfo, ...]:
    found: dict[str, ModelInfo] = {}
    aliases: dict[str, ModelInfo] = {}
    for name in _pool_names(listener):
        if name in pools:
            served = {info.id: info for info in _pool_models(pools[name], first_seen, now_s)}
            for rewrite in model.pools[name].rewrites:
                alias = _alias(rewrite, served, first_seen, now_s)
                if alias is not None:
                    aliases.setdefault(alias.id, alias)
            for info in served.values():
                found.setdefault(info.id, info)
    found = {**aliases, **found}
    return tuple(found[name] for name in sorted(found))


def _pool_names(listener: Listener) -> list[str]:
    names = {
        target.name
        for host in listener.hosts
        for route in host.routes
        for target in route.targets
        if target.kind is TargetKind.POOL and target.weight > 0
    }
    return sorted(names)


def _pool_models(
    pool: PoolStatus, first_seen: MutableMapping[str, int], now_s: int
) -> Iterable[ModelInfo]:
    for endpoint in pool.endpoints:
        for name in endpoint.models:
            yield ModelInfo(
                id=name,
                created=first_seen.setdefault(name, now_s),
                parent=endpoint.parents.get(name),
            )


def _alias(
    rewrite: Rewrite,
    served: Mapping[str, ModelInfo],
    first_seen: MutableMapping[str, int],
    now_s: int,
) -> ModelInfo | None:
    """The alias as clients see it; None when no target is there, or it is no name of its own."""
    targets = [target for target in rewrite.targets if target.model in served]
    if not targets or not rewrite.model:
        return None
    heaviest = served[max(targets, key=lambda target: target.weight).model]
    created = first_seen.setdefault(rewrite.model, now_s)
    return ModelInfo(rewrite.model, created, root=heaviest.id, parent=heaviest.parent)
