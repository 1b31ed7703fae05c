"""Tiers of adapters: the rules, the known weaknesses of the gauge, and our own decisions."""

from __future__ import annotations

import numpy as np
import pytest

from inferway.picker.datalayer.engines import LoraReading
from inferway.picker.datalayer.lora import FULL, RESIDENT, ROOM, WAITING, LoraState


class World:
    """Two endpoints, adapters named a to j, a base model, and what is in flight where."""

    def __init__(self, addresses: tuple[str, ...] = ("x", "y")) -> None:
        self.in_flight: dict[str, dict[str, int]] = {}
        self.state = LoraState(
            lambda address: self.in_flight.get(address, {}), lambda model: model in "abcdefghij"
        )
        (self.pool,) = self.state.rebind([addresses])

    def scraped(
        self, running: str = "", waiting: str = "", slots: int | None = 2, address: str = "x"
    ) -> None:
        self.state.record(address, LoraReading(frozenset(running), frozenset(waiting), slots))

    def sent(self, model: str, address: str = "x") -> None:
        models = self.in_flight.setdefault(address, {})
        models[model] = models.get(model, 0) + 1
        self.state.active_changed(address, model)
        self.state.placed(address, model)

    def ended(self, model: str, address: str = "x") -> None:
        self.in_flight[address][model] -= 1
        if not self.in_flight[address][model]:
            del self.in_flight[address][model]
        self.state.active_changed(address, model)

    def tier(self, adapter: str) -> float:
        return float(self.pool.tiers(adapter)[0])


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("running", "waiting", "adapter", "tier"),
    [
        ("a", "", "a", RESIDENT),
        ("a", "", "b", ROOM),
        ("ab", "", "c", FULL),
        ("ab", "c", "c", WAITING),
        ("a", "b", "b", WAITING),  # full with what waits
        ("", "", "a", ROOM),
        # vLLM repeats the running names among the waiting: each counts once.
        ("a", "a", "a", RESIDENT),
        ("a", "a", "b", ROOM),
        ("ab", "ab", "c", FULL),
    ],
)
def test_tiers_of_a_scraped_engine_with_two_slots(
    world: World, running: str, waiting: str, adapter: str, tier: float
) -> None:
    world.scraped(running, waiting)
    assert world.tier(adapter) == tier


def test_an_engine_that_never_had_an_adapter_has_room(world: World) -> None:
    world.state.record("x", None)
    assert world.pool.tiers("a").tolist() == [ROOM, ROOM]


def test_an_adapter_just_sent_counts_as_resident_there_only(world: World) -> None:
    world.scraped()
    world.sent("a")
    assert world.pool.tiers("a").tolist() == [RESIDENT, ROOM]


def test_what_is_in_flight_from_us_takes_room(world: World) -> None:
    world.scraped()
    world.sent("a")
    assert world.tier("c") == ROOM
    world.sent("b")
    assert world.tier("c") == FULL
    world.sent("b")
    world.ended("b")
    assert world.tier("c") == FULL
    world.ended("b")
    assert world.tier("c") == ROOM


def test_an_idle_adapter_is_still_resident_until_others_push_it_out(world: World) -> None:
    world.scraped("a")
    world.scraped("")  # a is done, and absent from the gauge, but still loaded
    assert world.tier("a") == RESIDENT
    world.scraped("b")
    assert world.tier("a") == RESIDENT
    world.scraped("c")
    assert world.tier("a") == ROOM
    assert world.tier("b") == RESIDENT


def test_the_least_recently_used_is_pushed_out(world: World) -> None:
    world.scraped()
    for adapter in "abac":
        world.sent(adapter)
        world.ended(adapter)
    assert [world.tier(adapter) for adapter in "abc"] == [RESIDENT, ROOM, RESIDENT]


def test_fewer_slots_than_assumed_forget_the_oldest(world: World) -> None:
    for adapter in "abc":
        world.sent(adapter)
        world.ended(adapter)
    assert world.tier("a") == RESIDENT
    world.scraped(slots=2)
    assert [world.tier(adapter) for adapter in "abc"] == [ROOM, RESIDENT, RESIDENT]


def test_base_models_take_no_room(world: World) -> None:
    world.scraped(slots=1)
    world.sent("base")
    world.sent("other base")
    assert world.tier("a") == ROOM


def test_a_restarted_engine_has_nothing(world: World) -> None:
    world.scraped("ab")
    assert world.tier("c") == FULL
    world.state.forget("x")
    assert [world.tier(adapter) for adapter in "ac"] == [ROOM, ROOM]


def test_rebinding_keeps_addresses_that_stay(world: World) -> None:
    world.scraped("ab", address="y")
    pools = world.state.rebind([("z", "y"), ("y",)])
    assert [pool.tiers("a").tolist() for pool in pools] == [[ROOM, RESIDENT], [RESIDENT]]
    world.scraped("ab", address="x")  # gone: ignored
    world.state.placed("x", "a")
    world.state.forget("x")


def test_kept_columns_always_equal_a_fresh_computation() -> None:
    rng = np.random.default_rng(6)
    addresses = tuple("xyz")
    world = World(addresses)
    for _ in range(600):
        address, adapter = rng.choice(list("xyz")), rng.choice(list("abcdef"))
        match rng.integers(0, 4):
            case 0:
                world.sent(adapter, address)
            case 1 if adapter in world.in_flight.get(address, {}):
                world.ended(adapter, address)
            case 2:
                names = rng.choice(list("abcdef"), 2)
                world.scraped(names[0], names[1], int(rng.integers(1, 4)), address)
            case _:
                world.state.forget(address)
        asked = rng.choice(list("abcdef"))
        fresh = [world.state.tier(asked, a) for a in addresses]
        assert world.pool.tiers(asked).tolist() == fresh


def test_what_the_engine_says_is_loaded_is_believed(world: World) -> None:
    def loaded(*names: str) -> None:
        reading = LoraReading(frozenset(), frozenset(), 4, frozenset(names))
        world.state.record("x", reading)

    world.scraped(running="a", slots=4)
    loaded("b", "c")
    assert [world.tier(name) for name in ("a", "b", "c")] == [ROOM, RESIDENT, RESIDENT]
    world.sent("a")
    loaded("b")
    assert [world.tier(name) for name in ("a", "b", "c")] == [RESIDENT, RESIDENT, ROOM]
