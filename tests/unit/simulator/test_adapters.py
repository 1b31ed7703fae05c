"""LoRA slots: loading, eviction, tiers."""

from dataclasses import replace

from inferway.simulator.adapters import LOADING, NO_SLOT, READY, AdapterSlots
from inferway.simulator.parameters import parameters_named

PARAMETERS = replace(parameters_named("llama-3-8b-h100"), max_loras=2, max_cpu_loras=3)


def loaded(slots: AdapterSlots, name: str, now_s: float) -> None:
    assert slots.request(name, now_s) == LOADING
    assert slots.finish_loads(now_s + 1) == [name]


def test_an_adapter_is_usable_once_its_load_has_finished() -> None:
    slots = AdapterSlots(PARAMETERS)
    assert slots.request("a", 10.0) == LOADING
    assert slots.request("a", 10.0) == LOADING
    assert slots.loads == 1
    arrival_s = slots.next_arrival_s()
    assert arrival_s == 10.0 + PARAMETERS.lora_load_s(in_host_memory=False)
    assert slots.finish_loads(arrival_s - 1e-6) == []
    assert slots.finish_loads(arrival_s) == ["a"]
    assert slots.request("a", arrival_s) == READY


def test_the_least_recently_used_idle_adapter_makes_room() -> None:
    slots = AdapterSlots(PARAMETERS)
    loaded(slots, "a", 0)
    loaded(slots, "b", 2)
    assert slots.request("a", 4) == READY
    assert slots.request("c", 4) == LOADING
    assert slots.resident == ("a",)


def test_adapters_in_use_are_never_evicted() -> None:
    slots = AdapterSlots(PARAMETERS)
    loaded(slots, "a", 0)
    loaded(slots, "b", 2)
    slots.running.update(["a", "b"])
    assert slots.request("c", 4) == NO_SLOT
    del slots.running["b"]
    assert slots.request("c", 4) == LOADING
    assert slots.resident == ("a",)


def test_a_load_in_progress_holds_its_slot() -> None:
    slots = AdapterSlots(PARAMETERS)
    assert slots.request("a", 0) == LOADING
    assert slots.request("b", 0) == LOADING
    assert slots.request("c", 0) == NO_SLOT


def test_coming_back_from_host_memory_is_faster() -> None:
    slots = AdapterSlots(PARAMETERS)
    for start, name in enumerate("abc"):
        loaded(slots, name, 2.0 * start)
    assert slots.request("a", 10.0) == LOADING
    assert slots.next_arrival_s() == 10.0 + PARAMETERS.lora_load_s(in_host_memory=True)


def test_host_memory_is_bounded() -> None:
    slots = AdapterSlots(PARAMETERS)
    for start, name in enumerate("abcd"):
        loaded(slots, name, 2.0 * start)
    assert slots.request("a", 10.0) == LOADING
    assert slots.next_arrival_s() == 10.0 + PARAMETERS.lora_load_s(in_host_memory=False)


def test_an_unregistered_adapter_loads_anew() -> None:
    slots = AdapterSlots(PARAMETERS)
    loaded(slots, "a", 0)
    slots.forget("a")
    assert slots.resident == ()
    assert slots.request("a", 2.0) == LOADING
