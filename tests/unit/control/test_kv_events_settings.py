"""Where an endpoint's KV events are followed: as its server says, else as its pool does."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.control.picker_settings import kv_events_config
from inferway.picker.config import KvEventsConfig
from inferway.picker.datalayer.kv_events.subscriber import Source, sources
from inferway.resources import EndpointPickerConfig, ModelServer
from inferway.routing.picker_config import ResolvedEndpoint
from inferway.routing.pools import server_endpoints


def config(**fields: Any) -> EndpointPickerConfig:
    return EndpointPickerConfig.model_validate(
        {"kind": "EndpointPickerConfig", "metadata": {"name": "c"}, **fields}, by_alias=True
    )


def server(addresses: list[dict[str, Any]], events: dict[str, Any] | None) -> ModelServer:
    spec = {"addresses": addresses, **({} if events is None else {"kvEvents": events})}
    return ModelServer.model_validate({"metadata": {"name": "s"}, "spec": spec}, by_alias=True)


def resolved(of: ModelServer, ports: tuple[int, ...] = (), **active: Any) -> list[ResolvedEndpoint]:
    return [
        ResolvedEndpoint(
            address=f"{one.host}:{one.port}",
            server=one.server,
            engine=one.engine,
            metrics_path=one.metrics_path,
            kv_events=one.kv_events,
            place=one.place,
        )
        for one in server_endpoints(of, ports, **active)
    ]


def test_nothing_is_followed_unless_it_is_said() -> None:
    (endpoint,) = resolved(server([{"host": "10.0.0.1", "port": 8000}], None))
    assert kv_events_config(endpoint, None) is None
    assert kv_events_config(endpoint, config()) is None


def test_each_address_on_a_host_publishes_a_port_higher() -> None:
    addresses = [
        {"host": "10.0.0.1", "port": 8000},
        {"host": "10.0.0.1", "port": 8001},
        {"host": "10.0.0.2", "port": 8000},
    ]
    endpoints = resolved(server(addresses, {"port": 6000, "replayPort": 7000, "ranks": 2}))
    found = [kv_events_config(endpoint, None) for endpoint in endpoints]
    assert found == [
        KvEventsConfig(port=6000, replay_port=7000, ranks=2),
        KvEventsConfig(port=6002, replay_port=7002, ranks=2),
        KvEventsConfig(port=6000, replay_port=7000, ranks=2),
    ]


def test_a_rank_that_is_not_active_keeps_its_place() -> None:
    (endpoint,) = resolved(server([{"host": "10.0.0.1"}], {}), (8000, 8001), active={8001})
    assert kv_events_config(endpoint, None) == KvEventsConfig(port=5558)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"kvEvents": {}}, KvEventsConfig(port=5557)),
        ({"kvEvents": {"topic": "kv@", "port": 1}}, KvEventsConfig(port=1, topic="kv@")),
        ({"plugins": [{"type": "precise-prefix-cache-producer"}]}, KvEventsConfig(port=5557)),
        (
            {
                "plugins": [
                    {
                        "type": "precise-prefix-cache-producer",
                        "parameters": {
                            "kvEventsConfig": {
                                "topicFilter": "kv@",
                                "concurrency": 4,
                                "discoverPods": True,
                                "podDiscoveryConfig": {"socketPort": 6000},
                            }
                        },
                    }
                ]
            },
            KvEventsConfig(port=6000, topic="kv@"),
        ),
    ],
)
def test_a_pool_says_it_for_all_its_servers(
    fields: dict[str, Any], expected: KvEventsConfig
) -> None:
    (silent,) = resolved(server([{"host": "10.0.0.1", "port": 8000}], None))
    (speaking,) = resolved(server([{"host": "10.0.0.1", "port": 8000}], {"port": 9000}))
    assert kv_events_config(silent, config(**fields)) == expected
    assert kv_events_config(speaking, config(**fields)) == KvEventsConfig(port=9000)


def test_publishers_of_an_endpoint() -> None:
    told = KvEventsConfig(port=5557, replay_port=5657, ranks=2, topic="kv@")
    assert sources("[fd00::1]:8000", told) == [
        Source("[fd00::1]:8000", 0, "tcp://[fd00::1]:5557", "tcp://[fd00::1]:5657", "kv@"),
        Source("[fd00::1]:8000", 1, "tcp://[fd00::1]:5558", "tcp://[fd00::1]:5658", "kv@"),
    ]
