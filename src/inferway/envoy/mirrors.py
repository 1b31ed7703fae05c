"""Copies of requests, sent in a way that nobody waits for.

Problem: Envoy sends copies past the listener's filters, so a copy for a pool would not be picked
for: it would carry the destination of the original. And a mirror that hangs must cost neither the
client anything nor the gateway without limit. Model: every backend that some route mirrors to is a
cluster whose only endpoint is a listener inside Envoy (mirror_listeners.py), where the copy is
treated like a new request. Invariants: so many copies at once and no more (the rest is dropped,
Envoy counts them); a copy waits in buffers of its own, so that a mirror which does not read never
slows the original's upload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.clusters import way_in
from inferway.routing.features import MILLION, NO_FILTERS, Mirror

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from inferway.envoy.messages import Json, JsonValue, Resource
    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import Route, RoutingModel, TargetKind


def mirror_name(kind: TargetKind, name: str) -> str:
    """Name of the cluster, and of the listener behind it, that takes copies for a backend."""
    return f"mirror/{kind}/{name}"


def mirrored(model: RoutingModel) -> list[tuple[TargetKind, str]]:
    """Every backend that gets copies, once, in order."""
    found = {
        (mirror.kind, mirror.name)
        for listener in model.listeners
        for host in listener.hosts
        for route in host.routes
        for mirror in _mirrors(route)
    }
    return sorted(found)


def _mirrors(route: Route) -> Iterator[Mirror]:
    yield from (route.filters or NO_FILTERS).mirrors
    for target in route.targets:
        yield from (target.filters or NO_FILTERS).mirrors


def mirror_policies(mirrors: Sequence[Mirror]) -> Json:
    """Of a RouteAction."""
    if not mirrors:
        return {}
    return {"request_mirror_policies": [_policy(mirror) for mirror in mirrors]}


def _policy(mirror: Mirror) -> Json:
    policy: dict[str, JsonValue] = {
        "cluster": mirror_name(mirror.kind, mirror.name),
        "disable_shadow_host_suffix_append": True,
    }
    if mirror.millionths < MILLION:
        share: Json = {"numerator": mirror.millionths, "denominator": "MILLION"}
        policy["runtime_fraction"] = {"default_value": share}
    return policy


def mirror_clusters(model: RoutingModel, settings: EnvoySettings) -> list[Resource]:
    """One per backend that gets copies."""
    return [
        way_in(
            mirror_name(kind, name),
            requests_max=settings.mirrored_requests_max,
            # Above the largest body, so that a whole copy fits even when nobody takes it.
            buffer_bytes=2 * settings.body_bytes_max,
            settings=settings,
        )
        for kind, name in mirrored(model)
    ]
