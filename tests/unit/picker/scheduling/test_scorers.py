"""Each scorer against worked numbers. Oracles on random states are in tests/property."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from math import nan
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway.picker.scheduling.contracts import Learns, Scorer
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.registry import PLUGINS
from inferway.picker.scheduling.sessions import SESSIONS_MAX, SessionMemory
from inferway.testing import Asked, endpoints, request

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Request


def scorer(name: str, **parameters: object) -> Scorer:
    plugin = made(PLUGINS[name], parameters, name=name)  # type: ignore[arg-type]
    assert isinstance(plugin, Scorer)
    return plugin


def scores(name: str, asked: Request, state: Endpoints, **parameters: object) -> list[float]:
    return scorer(name, **parameters).score(asked, state).tolist()


@pytest.mark.parametrize(
    ("name", "column"), [("queue-scorer", "waiting"), ("running-requests-size-scorer", "running")]
)
@pytest.mark.parametrize(
    ("values", "candidates", "expected"),
    [
        ([0.0, 5.0, 10.0], None, [1.0, 0.5, 0.0]),
        ([7.0, 7.0], None, [1.0, 1.0]),
        ([3.0], None, [1.0]),
        ([nan, 2.0, 4.0], None, [0.0, 1.0, 0.0]),
        ([nan, nan], None, [0.0, 0.0]),
        ([nan, 2.0], None, [0.0, 1.0]),
        # Those who cannot be chosen set no scale.
        ([0.0, 5.0, 10.0], [False, True, True], [1.0, 1.0, 0.0]),
        ([90.0, 5.0, 10.0], [False, True, True], [0.0, 1.0, 0.0]),
        ([0.0, 5.0, 9.0], [False, True, False], [1.0, 1.0, 0.0]),
    ],
)
def test_fewest_by_scale(
    name: str,
    column: str,
    values: list[float],
    candidates: list[bool] | None,
    expected: list[float],
) -> None:
    asked = request(len(values), candidates=candidates)
    assert scores(name, asked, endpoints(len(values), **{column: values})) == expected


def test_kv_usage() -> None:
    state = endpoints(5, kv_usage_ratio=[0.0, 0.25, 1.0, nan, 1.2])
    assert scores("kv-cache-utilization-scorer", request(5), state) == [1.0, 0.75, 0.0, 0.0, 0.0]


def test_lora_affinity_by_tier() -> None:
    asked = request(4, adapter_tier=[0.0, 1.0, 2.0, 3.0])
    assert scores("lora-affinity-scorer", asked, endpoints(4)) == [1.0, 0.8, 0.6, 0.0]
    assert scores("lora-affinity-scorer", request(2), endpoints(2)) == [1.0, 1.0]


@pytest.mark.parametrize("name", ["prefix-cache-scorer", "precise-prefix-cache-scorer"])
def test_prefix_is_the_share_of_the_prompt(name: str) -> None:
    asked = request(3, prompt_tokens=1000.0, matched_tokens=[0.0, 250.0, 999.0])
    assert scores(name, asked, endpoints(3)) == [0.0, 0.25, 0.999]


@pytest.mark.parametrize(
    ("prompt", "matched", "expected"),
    [
        # 0.75·(4096/16384) + 0.25·(4096/8192)²
        (16_384.0, 4096.0, 0.1875 + 0.0625),
        # A match beyond the scale counts as long as the scale.
        (40_000.0, 20_000.0, 0.375 + 0.25),
        (40_000.0, 0.0, 0.0),
    ],
)
def test_prefix_with_a_part_for_its_length(prompt: float, matched: float, expected: float) -> None:
    asked = request(1, prompt_tokens=prompt, matched_tokens=[matched])
    found = scores("prefix-cache-scorer", asked, endpoints(1), matchLengthWeight=0.25)
    assert found == pytest.approx([expected])


def test_prefix_length_scale() -> None:
    asked = request(1, prompt_tokens=1000.0, matched_tokens=[500.0])
    parameters = {"matchLengthWeight": 1.0, "matchLengthScaleTokens": 1000}
    assert scores("prefix-cache-scorer", asked, endpoints(1), **parameters) == [0.25]


def test_token_load_includes_the_request() -> None:
    asked = request(3, prompt_tokens=1000.0, matched_tokens=[0.0, 500.0, 0.0])
    state = endpoints(3, pending_tokens=[0.0, 1500.0, 9000.0])
    found = scores("token-load-scorer", asked, state, queueThresholdTokens=4000)
    assert found == [0.75, 0.5, 0.0]


@pytest.mark.parametrize(
    ("in_flight", "parameters", "candidates", "expected"),
    [
        ([0.0, 4.0, 8.0], {}, None, [1.0, 0.5, 0.0]),
        ([0.0, 0.0], {}, None, [1.0, 1.0]),
        ([2.0, 2.0], {}, None, [0.0, 0.0]),
        ([2.0, 4.0, 8.0], {"idleThreshold": 2}, None, [1.0, 0.5, 0.0]),
        ([1.0, 4.0, 8.0], {"maxBusyScore": 0.5}, None, [0.4375, 0.25, 0.0]),
        ([0.0, 2.0, 80.0], {}, [True, True, False], [1.0, 0.0, 0.0]),
    ],
)
def test_active_requests(
    in_flight: list[float],
    parameters: dict[str, object],
    candidates: list[bool] | None,
    expected: list[float],
) -> None:
    asked = request(len(in_flight), candidates=candidates)
    state = endpoints(len(in_flight), in_flight=in_flight)
    assert scores("active-request-scorer", asked, state, **parameters) == expected


def test_load_aware() -> None:
    state = endpoints(5, waiting=[0.0, 32.0, 128.0, 500.0, nan])
    assert scores("load-aware-scorer", request(5), state) == [0.5, 0.375, 0.0, 0.0, 0.0]
    assert scores("load-aware-scorer", request(5), state, threshold=64)[1] == 0.25


def test_no_hit_lru_fills_endpoints_in_turn() -> None:
    plugin = scorer("no-hit-lru-scorer")
    assert isinstance(plugin, Learns)
    cold, state = request(4), endpoints(4)
    assert plugin.score(cold, state).tolist() == [1.0, 1.0, 1.0, 1.0]
    plugin.placed(cold, state, 2)
    plugin.placed(cold, state, 0)
    # Two were never used; of the others, row 2 was used longest ago.
    assert plugin.score(cold, state).tolist() == pytest.approx([0.0, 1.0, 1 / 3, 1.0])
    plugin.placed(cold, state, 2)
    assert plugin.score(cold, state).tolist() == pytest.approx([1 / 3, 1.0, 0.0, 1.0])
    # Among two of them, the one that was used longest ago is first.
    narrow = request(4, candidates=[True, False, True, False])
    assert plugin.score(narrow, state).tolist()[::2] == [1.0, 0.0]
    # Addresses count, not rows.
    moved = endpoints(2, addresses=[state.addresses[2], state.addresses[0]])
    assert plugin.score(request(2), moved).tolist() == [0.0, 1.0]


def test_no_hit_lru_has_no_say_about_prompts_that_are_cached() -> None:
    plugin = scorer("no-hit-lru-scorer")
    assert isinstance(plugin, Learns)
    state, warm = endpoints(3), request(3, matched_tokens=[0.0, 10.0, 0.0])
    plugin.placed(warm, state, 1)
    assert plugin.score(warm, state).tolist() == [0.5, 0.5, 0.5]
    assert plugin.score(request(3), state).tolist() == [1.0, 1.0, 1.0]
    # Cached where it cannot go is not cached.
    elsewhere = request(3, matched_tokens=[0.0, 10.0, 0.0], candidates=[True, False, True])
    assert plugin.score(elsewhere, state).tolist() == [1.0, 1.0, 1.0]


def test_no_hit_lru_remembers_so_many_endpoints() -> None:
    plugin = scorer("no-hit-lru-scorer", lruSize=1)
    assert isinstance(plugin, Learns)
    state = endpoints(2)
    plugin.placed(request(2), state, 0)
    plugin.placed(request(2), state, 1)
    assert plugin.score(request(2), state).tolist() == [1.0, 0.0]
    # The one that was used longest ago is forgotten, not the first that was ever used.
    plugin, state = scorer("no-hit-lru-scorer", lruSize=2), endpoints(3)
    assert isinstance(plugin, Learns)
    for row in (0, 1, 0, 2):
        plugin.placed(request(3), state, row)
    assert plugin.score(request(3), state).tolist() == [0.5, 1.0, 0.0]


@pytest.mark.parametrize(
    ("label", "length", "expected"),
    [
        # width 8000, room 7000: 0.3 + 0.7·(0.7/1.8 + 0.3·7/8)
        ("0-8000", 1000.0, 0.3 + 0.7 * (0.7 / 1.8 + 0.2625)),
        ("1000-1000", 1000.0, 0.3 + 0.7 * 0.7),
        ("2000-8000", 1000.0, 0.15),
        ("0-500", 1000.0, 0.2),
        ("", 1000.0, 0.5),
        ("8000-0", 1000.0, 0.5),
        ("lots", 1000.0, 0.5),
    ],
)
def test_context_length(label: str, length: float, expected: float) -> None:
    state = endpoints(1, labels=[{"llm-d.ai/context-length-range": label}])
    asked = request(1, prompt_tokens=length)
    assert scores("context-length-aware", asked, state) == pytest.approx([expected])


def test_context_length_by_another_label() -> None:
    state = endpoints(2, labels=[{"range": "0-10"}, {"range": "0-2000"}])
    found = scores("context-length-aware", request(2), state, label="range")
    assert found[0] < 0.3 < found[1]


def test_header_label() -> None:
    labels = [{"zone": "a"}, {"zone": "b"}, {"zone": ""}]
    state = endpoints(3, labels=labels)
    parameters = {"headerName": "X-Zone", "labelKey": "zone"}
    asked = request(3, pick=Asked(headers={"x-zone": "b"}))
    assert scores("header-label-affinity-scorer", asked, state, **parameters) == [0.0, 1.0, 0.0]
    # Nothing asked for is no wish for an empty label.
    assert scores("header-label-affinity-scorer", request(3), state, **parameters) == [0.0] * 3


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ({"type": "linear_lower"}, [1.0, 0.5, 0.0, 0.0]),
        ({"type": "linear_higher"}, [0.0, 0.5, 1.0, 0.0]),
        (
            {"type": "linear_lower", "normalization": {"fixedRange": {"min": 0, "max": 8}}},
            [0.75, 0.5, 0.25, 0.0],
        ),
        (
            {"type": "linear_higher", "normalization": {"fixedRange": {"min": 3, "max": 5}}},
            [0.0, 0.5, 1.0, 0.0],
        ),
        ({"type": "linear_lower", "normalization": {"adaptiveRange": {}}}, [1.0, 0.5, 0.0, 0.0]),
    ],
)
def test_endpoint_attribute(algorithm: dict[str, object], expected: list[float]) -> None:
    state = endpoints(4, attributes={"temperature": [2.0, 4.0, 6.0, nan]})
    parameters = {"attributeKey": "temperature", "algorithm": algorithm}
    assert scores("endpoint-attribute-scorer", request(4), state, **parameters) == expected


def test_endpoint_attribute_that_nobody_has() -> None:
    parameters = {"attributeKey": "t", "algorithm": {"type": "linear_lower"}}
    assert scores("endpoint-attribute-scorer", request(2), endpoints(2), **parameters) == [0.0, 0.0]


def asked_at(second: float, count: int = 3, **fields: object) -> Request:
    pick = Asked(received_ns=int(second * 1e9), **fields)  # type: ignore[arg-type]
    return request(count, pick=pick)


def test_session_goes_where_it_was_and_is_forgotten() -> None:
    plugin = scorer(
        "session-affinity-scorer", strategy="session_id", sessionIdConfig={"evictionTtlSeconds": 60}
    )
    assert isinstance(plugin, Learns)
    state = endpoints(3)
    first = asked_at(10, session="a")
    assert plugin.score(first, state).tolist() == [0.0, 0.0, 0.0]
    plugin.placed(first, state, 1)
    assert plugin.score(asked_at(50, session="a"), state).tolist() == [0.0, 1.0, 0.0]
    assert plugin.score(asked_at(50, session="b"), state).tolist() == [0.0, 0.0, 0.0]
    plugin.placed(asked_at(50, session="a"), state, 1)  # used: it lives on
    assert plugin.score(asked_at(110, session="a"), state).tolist() == [0.0, 1.0, 0.0]
    assert plugin.score(asked_at(111, session="a"), state).tolist() == [0.0, 0.0, 0.0]
    # Its endpoint stands in another row now, or is gone.
    moved = endpoints(2, addresses=["10.9.9.9:1", state.addresses[1]])
    assert plugin.score(asked_at(60, 2, session="a"), moved).tolist() == [0.0, 1.0]
    gone = endpoints(1, addresses=["10.9.9.9:1"])
    assert plugin.score(asked_at(60, 1, session="a"), gone).tolist() == [0.0]


def test_session_from_the_first_source_that_has_one() -> None:
    sources = [{"header": "X-Chat"}, {"attribute": "session-id"}]
    plugin = scorer(
        "session-affinity-scorer", strategy="session_id", sessionIdConfig={"sources": sources}
    )
    assert isinstance(plugin, Learns)
    state = endpoints(3)
    plugin.placed(asked_at(1, headers={"x-chat": "one"}, session="two"), state, 2)
    assert plugin.score(asked_at(2, session="one"), state).tolist() == [0.0, 0.0, 1.0]
    assert plugin.score(asked_at(2, session="two"), state).tolist() == [0.0, 0.0, 0.0]


def test_session_token_names_the_endpoint() -> None:
    plugin, state = scorer("session-affinity-scorer"), endpoints(3)
    token = b64encode(state.addresses[2].encode()).decode()
    found = plugin.score(asked_at(1, headers={"x-session-token": token}), state)
    assert found.tolist() == [0.0, 0.0, 1.0]
    for token in ("", "%%%", "/+8=", "x" * 5000, b64encode(b"10.9.9.9:1").decode()):
        found = plugin.score(asked_at(1, headers={"x-session-token": token}), state)
        assert found.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("name", ["queue-scorer", "kv-cache-utilization-scorer"])
def test_what_is_kept_of_one_scrape_does_not_colour_the_next(name: str) -> None:
    plugin, asked = scorer(name), request(2)
    state = endpoints(2, waiting=[0.0, 1.0], kv_usage_ratio=[0.0, 1.0])
    assert plugin.score(asked, state).tolist() == [1.0, 0.0]
    assert plugin.score(asked, state) is plugin.score(asked, state)
    later = replace(state, waiting=np.array([1.0, 0.0]), kv_usage_ratio=np.array([1.0, 0.0]))
    assert plugin.score(asked, later).tolist() == [0.0, 1.0]


def test_what_is_kept_is_for_these_candidates() -> None:
    plugin, state = scorer("queue-scorer"), endpoints(3, waiting=[0.0, 1.0, 2.0])
    assert plugin.score(request(3), state).tolist() == [1.0, 0.5, 0.0]
    narrow = request(3, candidates=[False, True, True])
    assert plugin.score(narrow, state).tolist() == [1.0, 1.0, 0.0]


def test_sessions_are_bounded_in_number_and_age() -> None:
    memory = SessionMemory(ttl_s=10.0)
    for number in range(SESSIONS_MAX + 2):
        memory.remember(f"s{number}", "a", 0)
        memory.remember("s0", "a", 0)  # in use: it is not the oldest
    assert len(memory) == SESSIONS_MAX
    assert [memory.recall(name, 1) for name in ("s0", "s1", "s2", "s3")] == ["a", None, None, "a"]
    memory.remember("late", "b", 10_000_000_001)
    assert len(memory) == 1
