"""A routing model without manifests, for `inferway run --backend URL`.

Problem: trying the gateway in front of a few running servers must not need a Gateway, a route and a
pool on paper. Model: one listener, one catch-all route, one pool `default/backends` with every
address given. What cannot be said here (host names, paths, weights, objectives) needs manifests;
nothing of this is added to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.routing.hostnames import ANY
from inferway.routing.model import (
    Endpoint,
    Listener,
    Pool,
    Route,
    RouteMatch,
    RoutingModel,
    Target,
    TargetKind,
    VirtualHost,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

POOL_NAME = "default/backends"


def model_for_backends(
    backends: Sequence[tuple[str, int]],
    *,
    listen_address: str,
    port: int,
    policy: str,
    fail_open: bool = True,
    engine: str = "vllm",
    metrics_path: str = "/metrics",
) -> RoutingModel:
    """One pool of the (host, port) pairs, in order and each once, behind a catch-all route."""
    endpoints = tuple(
        Endpoint(
            host=host,
            port=backend_port,
            server=f"default/backend-{index}",
            engine=engine,
            metrics_path=metrics_path,
        )
        for index, (host, backend_port) in enumerate(dict.fromkeys(backends))
    )
    pool = Pool(
        name=POOL_NAME,
        endpoints=endpoints,
        h2c=False,
        fail_open=fail_open,
        policy=policy,
        objectives=(),
    )
    listener = Listener(
        name="default/inferway/http",
        address=listen_address,
        port=port,
        hosts=(VirtualHost(hostnames=(ANY,), routes=(catch_all(POOL_NAME),)),),
    )
    return RoutingModel(listeners=(listener,), pools={POOL_NAME: pool})


def catch_all(pool: str) -> Route:
    """A route that sends everything to one pool."""
    target = Target(kind=TargetKind.POOL, name=pool, weight=1)
    return Route(name="default/inferway/0/0", match=RouteMatch(), targets=(target,))
