"""Endpoints as the addresses that the picker, the destination header and Envoy all use."""

from __future__ import annotations

import pytest

from inferway.routing.model import Endpoint, Pool, RoutingModel, ServerGroup
from inferway.routing.picker_config import (
    ResolvedEndpoint,
    endpoint_address,
    hosts_to_resolve,
    is_ip,
    pool_targets,
)


def endpoint(host: str, port: int = 8000, server: str = "default/s") -> Endpoint:
    return Endpoint(host=host, port=port, server=server, engine="sglang", metrics_path="/m")


def model(*endpoints: Endpoint, groups: tuple[Endpoint, ...] = ()) -> RoutingModel:
    pool = Pool(
        name="default/p",
        endpoints=endpoints,
        h2c=False,
        fail_open=True,
        policy="random",
        objectives=(("chat", 10),),
    )
    group = ServerGroup(name="default/g", endpoints=groups)
    return RoutingModel(pools={pool.name: pool}, server_groups={group.name: group})


@pytest.mark.parametrize(
    ("ip", "address"),
    [
        ("10.0.0.1", "10.0.0.1:8000"),
        ("::1", "[::1]:8000"),
        ("2001:DB8:0:0:0:0:0:1", "[2001:db8::1]:8000"),
    ],
)
def test_one_spelling_of_addresses(ip: str, address: str) -> None:
    assert endpoint_address(ip, 8000) == address


def test_only_names_need_resolving() -> None:
    assert is_ip("10.0.0.1")
    assert is_ip("::1")
    assert not is_ip("gpu-1")
    names = hosts_to_resolve(
        model(
            endpoint("b.local"),
            endpoint("10.0.0.1"),
            endpoint("b.local", 2),
            groups=(endpoint("a.local"), endpoint("::1")),
        )
    )
    assert names == ("a.local", "b.local")


def test_targets_carry_what_the_picker_needs() -> None:
    (targets,) = pool_targets(model(endpoint("10.0.0.1")), {})
    assert (targets.name, targets.policy, targets.objectives) == (
        "default/p",
        "random",
        (("chat", 10),),
    )
    assert targets.endpoints == (
        ResolvedEndpoint(
            address="10.0.0.1:8000", server="default/s", engine="sglang", metrics_path="/m"
        ),
    )


def test_a_name_with_several_addresses_is_several_endpoints() -> None:
    (targets,) = pool_targets(
        model(endpoint("svc.local"), endpoint("::1")), {"svc.local": ("10.0.0.2", "10.0.0.1")}
    )
    assert [one.address for one in targets.endpoints] == [
        "10.0.0.2:8000",
        "10.0.0.1:8000",
        "[::1]:8000",
    ]


def test_unresolved_name_gives_no_endpoint_and_same_address_counts_once() -> None:
    (targets,) = pool_targets(
        model(
            endpoint("gone.local"),
            endpoint("10.0.0.1", server="default/first"),
            endpoint("dup.local"),
        ),
        {"dup.local": ("10.0.0.1",)},
    )
    assert [(one.address, one.server) for one in targets.endpoints] == [
        ("10.0.0.1:8000", "default/first")
    ]
