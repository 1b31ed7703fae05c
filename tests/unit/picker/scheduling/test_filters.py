"""Each filter against worked examples."""

from __future__ import annotations

from base64 import b64encode
from math import nan
from typing import TYPE_CHECKING

import pytest

from inferway.picker.scheduling.contracts import Filter, Learns, Scorer
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.registry import PLUGINS
from inferway.testing import Asked, endpoints, request

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Request


def filter_of(name: str, **parameters: object) -> Filter:
    plugin = made(PLUGINS[name], parameters, name=name)  # type: ignore[arg-type]
    assert isinstance(plugin, Filter)
    return plugin


def kept(name: str, asked: Request, state: Endpoints, **parameters: object) -> list[int]:
    """Rows."""
    return filter_of(name, **parameters).keep(asked, state).nonzero()[0].tolist()


@pytest.mark.parametrize(
    ("matched", "pending", "candidates", "expected"),
    [
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0], None, [0, 1, 2]),  # nobody has it
        ([799.0, 800.0, 900.0], [0.0, 0.0, 0.0], None, [1, 2]),
        # 18 s at 15,928 tokens/s are 286,704 tokens; just that much is not too much.
        ([0.0, 900.0, 0.0], [0.0, 286_704.0, 0.0], None, [1]),
        ([0.0, 900.0, 0.0], [0.0, 286_705.0, 0.0], None, [0, 1, 2]),
        ([0.0, 900.0, 0.0], [1.0, 286_705.0, 1e9], None, [1]),
        # The best of the sticky ones counts.
        ([900.0, 900.0, 0.0], [1e9, 0.0, 0.0], None, [0, 1]),
        # Who cannot be chosen has no say.
        ([0.0, 900.0, 0.0], [0.0, 1e9, 1e9], [False, True, True], [1]),
        ([900.0, 0.0, 0.0], [0.0, 0.0, 0.0], [False, True, True], [0, 1, 2]),
        ([900.0, 900.0], [1e9, 1e9], None, [0, 1]),  # there are no others
    ],
)
def test_prefix_affinity(
    matched: list[float],
    pending: list[float],
    candidates: list[bool] | None,
    expected: list[int],
) -> None:
    count = len(matched)
    asked = request(count, matched_tokens=matched, candidates=candidates)
    state = endpoints(count, pending_tokens=pending)
    assert kept("prefix-cache-affinity-filter", asked, state) == expected


def test_prefix_affinity_parameters() -> None:
    asked = request(2, matched_tokens=[0.0, 500.0])
    state = endpoints(2, pending_tokens=[0.0, 3000.0])
    name, half = "prefix-cache-affinity-filter", {"affinityThreshold": 0.5}
    assert kept(name, asked, state, **half) == [1]
    slow = {**half, "peakPrefillThroughput": 1000, "maxTTFTPenaltyMs": 2999}
    assert kept(name, asked, state, **slow) == [0, 1]
    # Predicted: 3000 tokens wait there, which is 97 ms, and 500 less are to be computed: 16 ms.
    predicted = {**half, "ttftSource": "latencyPredictor"}
    assert kept(name, asked, state, **predicted, maxTTFTPenaltyMs=85) == [1]
    assert kept(name, asked, state, **predicted, maxTTFTPenaltyMs=75) == [0, 1]


def test_prefix_affinity_explores_as_often_as_it_is_told() -> None:
    plugin = filter_of("prefix-cache-affinity-filter", explorationProbability=0.25)
    state, explored = endpoints(2), 0
    for stream in range(4000):
        asked = request(2, matched_tokens=[900.0, 0.0], pick=Asked(stream=stream))
        found = plugin.keep(asked, state).tolist()
        assert found == plugin.keep(asked, state).tolist()  # a request gets one answer
        explored += found == [True, True]
    assert abs(explored - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (("active-requests", 2), [0, 1]),
        (("running-requests", 5), [2]),
        (("waiting-queue", 1), [0]),
        (("kv-cache-utilization", 0.5), [0, 1]),
    ],
)
def test_utilization(condition: tuple[str, float], expected: list[int]) -> None:
    state = endpoints(
        3,
        in_flight=[1.0, 2.0, 3.0],
        running=[7.0, 6.0, 5.0],
        waiting=[1.0, 2.0, nan],
        kv_usage_ratio=[nan, 0.5, 0.6] if condition[0] != "kv-cache-utilization" else [0.1, 0.5, 1],
    )
    metric, limit = condition
    conditions = [{"metric": metric, "maxValue": limit}]
    assert kept("utilization-filter", request(3), state, conditions=conditions) == expected


def test_utilization_keeps_unknown_endpoints_only_when_none_is_known_to_be_good() -> None:
    conditions = [
        {"metric": "waiting-queue", "maxValue": 5},
        {"metric": "kv-cache-utilization", "maxValue": 0.8},
    ]
    plugin = filter_of("utilization-filter", conditions=conditions)

    def rows(waiting: list[float], usage: list[float], **asked: object) -> list[int]:
        state = endpoints(3, waiting=waiting, kv_usage_ratio=usage)
        return plugin.keep(request(3, **asked), state).nonzero()[0].tolist()  # type: ignore[arg-type]

    assert rows([1.0, nan, 9.0], [0.1, nan, 0.1]) == [0]
    assert rows([6.0, nan, 9.0], [0.1, nan, 0.1]) == [1]
    assert rows([1.0, nan, 9.0], [0.1, nan, 0.1], candidates=[False, True, True]) == [0, 1]
    assert rows([nan, nan, nan], [nan, nan, 0.9]) == [0, 1]
    assert rows([9.0, 9.0, 9.0], [0.1, 0.1, 0.1]) == []


@pytest.mark.parametrize(("fallback", "required"), [(False, True), (True, False)])
@pytest.mark.parametrize("name", ["utilization-filter", "endpoint-attribute-filter"])
def test_who_falls_back_and_who_refuses(name: str, fallback: bool, required: bool) -> None:
    parameters: dict[str, object] = {
        "utilization-filter": {"conditions": [{"metric": "waiting-queue", "maxValue": 1}]},
        "endpoint-attribute-filter": {
            "attribute": "t",
            "algorithm": {"threshold": {"operator": "<", "value": 1}},
        },
    }[name]
    plugin = filter_of(name, **parameters, fallbackOnEmpty=fallback)
    assert getattr(plugin, "required", False) is required


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        ("<", [0, 3]),
        ("<=", [0, 1, 3]),
        (">", [2, 3]),
        (">=", [1, 2, 3]),
        ("==", [1, 3]),
        ("!=", [0, 2, 3]),
        ("lt", [0, 3]),
        ("ge", [1, 2, 3]),
    ],
)
def test_endpoint_attribute(operator: str, expected: list[int]) -> None:
    state = endpoints(4, attributes={"t": [1.0, 2.0, 3.0, nan]})
    algorithm = {"threshold": {"operator": operator, "value": 2}}
    parameters = {"attribute": "t", "algorithm": algorithm}
    name = "endpoint-attribute-filter"
    assert kept(name, request(4), state, **parameters) == expected
    rejected = kept(name, request(4), state, **parameters, onMissing="Reject")
    assert rejected == [row for row in expected if row != 3]


def test_endpoint_attribute_that_nobody_has() -> None:
    algorithm = {"threshold": {"operator": "<", "value": 2}}
    parameters = {"attribute": "t", "algorithm": algorithm}
    assert kept("endpoint-attribute-filter", request(2), endpoints(2), **parameters) == [0, 1]


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [0, 1]),
        ({"headroom": 0.2}, [0, 1, 2]),
        ({"queueDepthThreshold": 10}, [0, 1, 2]),
        ({"kvCacheUtilThreshold": 0.5}, [0]),
    ],
)
def test_utilization_detector(parameters: dict[str, object], expected: list[int]) -> None:
    state = endpoints(4, waiting=[0.0, 5.0, 6.0, 0.0], kv_usage_ratio=[0.4, 0.8, 0.1, 1.0])
    assert kept("utilization-detector", request(4), state, **parameters) == expected


def test_utilization_detector_and_what_is_not_known() -> None:
    name = "utilization-detector"
    state = endpoints(3, waiting=[6.0, nan, nan], kv_usage_ratio=[0.1, nan, 0.9])
    assert kept(name, request(3), state) == [1]
    known = endpoints(3, waiting=[1.0, nan, nan], kv_usage_ratio=[0.1, nan, 0.4])
    assert kept(name, request(3), known) == [0, 2]
    assert kept(name, request(3, candidates=[False, True, False]), known) == [0, 1, 2]
    # An old reading counts while nothing of ours runs there.
    state = endpoints(3, in_flight=[0.0, 1.0, 1.0], metrics_age_s=[9.0, 9.0, 0.1])
    assert kept(name, request(3), state) == [0, 2]
    assert kept(name, request(3), state, metricsStalenessThreshold="10s") == [0, 1, 2]
    only = request(3, candidates=[False, True, False])
    assert kept(name, only, state) == [0, 2]
    assert kept(name, only, state, stalenessPolicy="ignore") == [0, 1, 2]
    assert not getattr(filter_of(name), "required", False)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"maxConcurrency": 4}, [0, 2]),
        ({"maxConcurrency": 4, "headroom": 0.5}, [0, 1, 2]),
        ({"maxTokenConcurrency": 1000, "concurrencyMode": "tokens"}, [0, 1]),
        (
            {"maxConcurrency": 4, "maxTokenConcurrency": 1000, "concurrencyMode": "hybrid"},
            [0],
        ),
    ],
)
def test_concurrency_detector(parameters: dict[str, object], expected: list[int]) -> None:
    state = endpoints(
        4, in_flight=[3.0, 4.0, 1.0, 9.0], context_tokens=[999.0, 10.0, 1000.0, 5000.0]
    )
    assert kept("concurrency-detector", request(4), state, **parameters) == expected


LABELS = [{"app": "a", "tier": "gold"}, {"app": "a"}, {"app": "b", "tier": "tin"}, {}]


@pytest.mark.parametrize("name", ["label-selector-filter", "by-label-selector"])
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"matchLabels": {"app": "a"}}, [0, 1]),
        ({"matchLabels": {"app": "a", "tier": "gold"}}, [0]),
        ({}, [0, 1, 2, 3]),
        ({"matchExpressions": [{"key": "tier", "operator": "Exists"}]}, [0, 2]),
        ({"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}, [1, 3]),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["b", "c"]}]}, [2]),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a"]}]}, [2, 3]),
        (
            {
                "matchLabels": {"app": "a"},
                "matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}],
            },
            [1],
        ),
    ],
)
def test_label_selector(name: str, parameters: dict[str, object], expected: list[int]) -> None:
    assert kept(name, request(4), endpoints(4, labels=LABELS), **parameters) == expected


def test_by_label() -> None:
    state, parameters = endpoints(4, labels=LABELS), {"label": "tier", "validValues": ["gold"]}
    assert kept("by-label", request(4), state, **parameters) == [0]
    assert kept("by-label", request(4), state, **parameters, allowsNoLabel=True) == [0, 1, 3]


def test_label_filters_follow_other_endpoints() -> None:
    plugin = filter_of("by-label", label="app", validValues=["a"])
    assert plugin.keep(request(4), endpoints(4, labels=LABELS)).tolist()[:2] == [True, True]
    assert plugin.keep(request(2), endpoints(2, labels=LABELS[2:])).tolist() == [False, False]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("decode-filter", [1, 2, 3, 4]), ("prefill-filter", [0, 2, 3]), ("encode-filter", [5])],
)
def test_roles(name: str, expected: list[int]) -> None:
    roles = ["prefill", "decode", "prefill-decode", "both", "", "encode"]
    state = endpoints(6, labels=[{"llm-d.ai/role": one} if one else {} for one in roles])
    assert kept(name, request(6), state) == expected


def test_context_length_drops_only_when_it_is_told_to() -> None:
    labels = [{"llm-d.ai/context-length-range": one} for one in ("0-500", "500-2000", "")]
    state = endpoints(3, labels=labels)
    assert kept("context-length-aware", request(3), state, enableFiltering=True) == [1, 2]
    assert isinstance(filter_of("context-length-aware", enableFiltering=True), Scorer)
    assert not isinstance(made(PLUGINS["context-length-aware"], {}, name="c"), Filter)


def test_session_affinity_keeps_its_endpoint_while_it_may_be_chosen() -> None:
    plugin, state = filter_of("session-affinity-filter", strategy="session_id"), endpoints(3)
    assert isinstance(plugin, Learns)
    asked = request(3, pick=Asked(session="a"))
    assert plugin.keep(asked, state).all()
    plugin.placed(asked, state, 1)
    assert plugin.keep(asked, state).tolist() == [False, True, False]
    barred = request(3, pick=Asked(session="a"), candidates=[True, False, True])
    assert plugin.keep(barred, state).all()
    assert plugin.keep(request(3), state).all()


def test_session_affinity_believes_a_token() -> None:
    state = endpoints(2)
    token = b64encode(state.addresses[0].encode()).decode()
    asked = request(2, pick=Asked(headers={"x-where": token}))
    parameters = {"encodedEndpointHeaderConfig": {"header": "X-Where"}}
    assert kept("session-affinity-filter", asked, state, **parameters) == [0]
