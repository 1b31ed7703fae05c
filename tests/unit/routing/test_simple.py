"""A model for plain backends, without manifests."""

from __future__ import annotations

from inferway.routing.model import Target, TargetKind
from inferway.routing.simple import POOL_NAME, model_for_backends


def test_one_pool_behind_a_catch_all_route() -> None:
    model = model_for_backends(
        [("10.0.0.1", 8000), ("gpu-2.local", 8001)],
        listen_address="127.0.0.1",
        port=8080,
        policy="round-robin",
        fail_open=False,
    )
    (listener,) = model.listeners
    assert (listener.address, listener.port) == ("127.0.0.1", 8080)
    (host,) = listener.hosts
    assert host.hostnames == ("*",)
    assert [route.targets for route in host.routes] == [(Target(TargetKind.POOL, POOL_NAME, 1),)]
    pool = model.pools[POOL_NAME]
    assert [(one.host, one.port) for one in pool.endpoints] == [
        ("10.0.0.1", 8000),
        ("gpu-2.local", 8001),
    ]
    assert (pool.policy, pool.fail_open, pool.objectives) == ("round-robin", False, ())


def test_repeated_backend_is_one_endpoint() -> None:
    model = model_for_backends(
        [("a", 1), ("b", 1), ("a", 1)], listen_address="::1", port=1, policy="random"
    )
    endpoints = model.pools[POOL_NAME].endpoints
    assert [(one.host, one.server) for one in endpoints] == [
        ("a", "default/backend-0"),
        ("b", "default/backend-1"),
    ]
