"""The stores together: configurations, pools that share endpoints, status."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from inferway.picker.config import EndpointConfig, EndpointStatus, PoolConfig
from inferway.picker.datalayer.accounting import Charge
from inferway.picker.datalayer.engines import LoraReading, Reading
from inferway.picker.datalayer.models import Served
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.engine_config import EngineConfig, MetricConfig


class NoIndex:
    """An index that knows nothing and counts clears."""

    def __init__(self) -> None:
        self.cleared: list[int] = []

    def set_capacity(self, endpoint: int, bytes_max: int) -> None: ...

    def match(self, hashes: np.ndarray, seed: int, endpoints: int) -> np.ndarray:
        return np.zeros(endpoints)

    def insert(self, endpoint: int, hashes: np.ndarray, seed: int) -> None: ...

    def clear(self, endpoint: int) -> None:
        self.cleared.append(endpoint)


def pool(name: str, *addresses: str, engine: str = "vllm") -> PoolConfig:
    return PoolConfig(
        name=name,
        endpoints=tuple(EndpointConfig(address=a, server=a, engine=engine) for a in addresses),
    )


@pytest.fixture
def index() -> NoIndex:
    return NoIndex()


@pytest.fixture
def layer(index: NoIndex) -> DataLayer:
    made = DataLayer(index, len)
    made.configure([pool("p", "a:1", "b:1"), pool("q", "b:1", "c:1")])
    return made


def place(layer: DataLayer, stream: int, address: str, model: str = "m") -> None:
    layer.in_flight.place(1, stream, Charge(address, model, 10, 30))


def test_an_endpoint_of_two_pools_is_charged_in_both(layer: DataLayer) -> None:
    place(layer, 1, "b:1")
    assert layer.pools["p"].table.accounting(1) == (1.0, 10.0, 30.0)
    assert layer.pools["q"].table.accounting(0) == (1.0, 10.0, 30.0)
    assert layer.own_requests("b:1") == 1.0
    assert layer.own_requests("nobody:1") == 0.0


def test_requests_under_way_survive_a_new_configuration(layer: DataLayer) -> None:
    place(layer, 1, "b:1")
    place(layer, 2, "c:1")
    layer.configure([pool("r", "c:1", "d:1"), pool("p", "b:1")])
    assert sorted(layer.pools) == ["p", "r"]
    assert layer.pools["r"].table.in_flight(0) == 1.0
    assert layer.pools["p"].table.in_flight(0) == 1.0
    layer.configure([pool("p", "d:1")])
    layer.configure([pool("p", "d:1", "b:1")])  # back again, its stream still runs
    assert layer.pools["p"].table.in_flight(1) == 1.0
    layer.in_flight.done(1, 1)
    layer.in_flight.done(1, 2)
    assert layer.pools["p"].table.accounting(1) == (0.0, 0.0, 0.0)


def test_an_unknown_engine_changes_nothing(layer: DataLayer) -> None:
    before = layer.pools
    with pytest.raises(ValueError, match="engine: 'tgi'"):
        layer.configure([pool("p", "x:1"), pool("s", "z:1", engine="tgi")])
    assert layer.pools is before
    assert sorted(layer.engines) == ["a:1", "b:1", "c:1"]


def test_a_scrape_reaches_every_pool_of_the_endpoint(layer: DataLayer) -> None:
    layer.scraped("b:1", Reading(waiting=5.0, running=1.0, kv_usage_ratio=0.5), 2.0, 7.0)
    for name, row in (("p", 1), ("q", 0)):
        view = layer.pools[name].table.view()
        assert view.waiting[row] == 5.0
        assert view.foreign_requests[row] == 4.0
    layer.scraped("gone:1", Reading(waiting=5.0), 0.0, 7.0)


def test_a_restart_forgets_cache_and_adapters(layer: DataLayer, index: NoIndex) -> None:
    layer.models("a:1", Served(("m", "t"), ("t",)))
    lora = LoraReading(frozenset("t"), frozenset(), 1)
    layer.scraped("a:1", Reading(lora=lora, progress=100.0), 0.0, 1.0)
    assert layer.pools["p"].lora.tiers("t").tolist() == [0.0, 1.0]
    layer.scraped("a:1", Reading(progress=5.0), 0.0, 2.0)
    assert index.cleared == [0]
    assert layer.pools["p"].lora.tiers("t").tolist() == [1.0, 1.0]


def test_adapters_in_flight_take_room(layer: DataLayer) -> None:
    layer.models("a:1", Served(("m", "t", "u"), ("t", "u")))
    layer.scraped("a:1", Reading(lora=LoraReading(frozenset(), frozenset(), 1)), 0.0, 1.0)
    assert layer.pools["p"].lora.tiers("u")[0] == 1.0
    place(layer, 1, "a:1", "m")
    assert layer.pools["p"].lora.tiers("u")[0] == 1.0
    place(layer, 2, "a:1", "t")
    assert layer.pools["p"].lora.tiers("u")[0] == 3.0
    layer.in_flight.drop_filter(1)
    assert layer.pools["p"].lora.tiers("u")[0] == 1.0


def test_a_replayed_stream_is_charged_where_it_runs(layer: DataLayer) -> None:
    frame = SimpleNamespace(
        stream=4, charged_uncached=8, charged_context=9, phase=1, model="m", endpoint="a:1"
    )
    layer.in_flight.replay(1, frame)  # type: ignore[arg-type]
    assert layer.pools["p"].table.accounting(0) == (1.0, 0.0, 9.0)


def test_status_says_what_is_known_and_nothing_else(layer: DataLayer) -> None:
    place(layer, 1, "a:1")
    layer.pools["p"].table.count_pick(0)
    layer.scraped("a:1", Reading(waiting=5.0, running=1.0, kv_usage_ratio=0.5), 2.0, 7.0)
    layer.models("a:1", Served(("m", "t"), ("t",)))
    layer.reachable("a:1", True)
    layer.models("gone:1", Served(("m",)))
    layer.reachable("gone:1", True)
    status = layer.status("p", now_s=8.5)
    assert status.name == "p"
    assert status.endpoints == (
        EndpointStatus(
            address="a:1",
            reachable=True,
            age_s=1.5,
            models=("m", "t"),
            adapters=("t",),
            in_flight=1,
            pending_tokens=10,
            waiting=5.0,
            running=1.0,
            kv_usage_ratio=0.5,
            picks=1,
        ),
        EndpointStatus(address="b:1", reachable=None, age_s=None),
    )


def test_further_values_reach_the_pools_that_ask_and_survive_a_new_configuration(
    layer: DataLayer,
) -> None:
    heat = EngineConfig(name="vllm", attributes={"heat": MetricConfig(name="celsius")})
    asks = pool("q", "b:1", "c:1").model_copy(update={"engines": (heat,)})
    layer.configure([pool("p", "a:1", "b:1"), asks])
    layer.scraped("b:1", Reading(attributes={"heat": 70.0}), 0.0, 7.0)
    assert layer.pools["p"].table.view().attributes == {}
    layer.configure([asks.model_copy(update={"policy": "random"})])
    found = layer.pools["q"].table.view().attributes
    assert np.array_equal(found["heat"], [70.0, np.nan], equal_nan=True)
