"""Which models each listener serves: the union over the pools that its routes reach.

Model servers say what they serve (`/v1/models`, read by the picker); routes say which pools a
listener reaches. A model is listed as long as one endpoint of one such pool has it. `created` is
when this control plane first heard of the model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.model_list import ModelInfo
from inferway.routing.model import TargetKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, MutableMapping

    from inferway.picker.config import PickerStatus, PoolStatus
    from inferway.routing.model import Listener, RoutingModel


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
        listener.name: _models(listener, pools, first_seen, now_s) for listener in model.listeners
    }


def _models(
    listener: Listener,
    pools: Mapping[str, PoolStatus],
    first_seen: MutableMapping[str, int],
    now_s: int,
) -> tuple[ModelInfo, ...]:
    found: dict[str, ModelInfo] = {}
    for name in _pool_names(listener):
        if name in pools:
            for info in _pool_models(pools[name], first_seen, now_s):
                found.setdefault(info.id, info)
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
        bases = [name for name in endpoint.models if name not in endpoint.adapters]
        for name in endpoint.models:
            adapter = name in endpoint.adapters
            yield ModelInfo(
                id=name,
                created=first_seen.setdefault(name, now_s),
                parent=bases[0] if adapter and bases else None,
            )
