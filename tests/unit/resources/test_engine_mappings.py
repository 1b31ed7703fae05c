"""Engine mappings of a configuration: what a metric is written like, and what is refused."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from inferway.resources.decode import decode
from inferway.resources.picker_plugins.engine_mappings import metric_of

HEAD = "apiVersion: llm-d.ai/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n"
KEYS = "{attributeKey: k, metricSpec: m}"
NOT_METRICS = (
    *("", " m", "m ", "1m", "m-n", "m\n", "m a=1"),
    *("m{}", "m{a}", "m{a=}", "m{=1}", "m{a=1", "m{a=1}}", "m{a=1,}", "m{a=1 2}"),
    *("m{a:b=1}", 'm{a="1}', "m{a==1}", "m{a=1,a=2}"),
)


@pytest.mark.parametrize(
    ("spec", "name", "labels"),
    [
        ("queue", "queue", ()),
        ("vllm:num_requests_waiting", "vllm:num_requests_waiting", ()),
        ("m{type=waiting}", "m", (("type", "waiting"),)),
        ("m{ a = 1 , b=x.y/z }", "m", (("a", "1"), ("b", "x.y/z"))),
        ('m{a="one, {two}=",b=2}', "m", (("a", "one, {two}="), ("b", "2"))),
        ('m{a=""}', "m", (("a", ""),)),
    ],
)
def test_a_metric_with_labels(spec: str, name: str, labels: tuple[tuple[str, str], ...]) -> None:
    assert metric_of(spec) == (name, labels)


@pytest.mark.parametrize("spec", NOT_METRICS)
def test_what_is_not_a_metric(spec: str) -> None:
    with pytest.raises(PydanticCustomError):
        metric_of(spec)


@pytest.mark.parametrize(
    ("parameters", "field", "message"),
    [
        (
            "{engineConfigs: [{name: a}, {name: b, kvUsageSpec: 'm{a}'}]}",
            "engineConfigs[1].kvUsageSpec",
            "not a metric: m{a}",
        ),
        (
            "{engineConfigs: [{name: a, customMetrics: [{attributeKey: k, metricSpec: ''}]}]}",
            "engineConfigs[0].customMetrics[0].metricSpec",
            "must not be empty",
        ),
        (
            "{engineConfigs: [{name: a, cacheNumBlocksLabelName: n}]}",
            "engineConfigs[0].cacheNumBlocksLabelName",
            "cacheNumBlocksLabelName is a label of cacheInfoSpec, which is not set",
        ),
        (
            "{engineConfigs: [{name: a}, {name: b}, {name: a}]}",
            "engineConfigs[2].name",
            "name must be unique: a",
        ),
        (
            f"{{engineConfigs: [{{name: a, customMetrics: [{KEYS}, {KEYS}]}}]}}",
            "engineConfigs[0].customMetrics[1].attributeKey",
            "attributeKey must be unique: k",
        ),
        ("{defaultEngine: slang}", "defaultEngine", "unknown engine: slang"),
        (
            "{engineConfigs: [{name: a, queue: m}]}",
            "engineConfigs[0].queue",
            "unknown field: queue",
        ),
    ],
)
def test_what_is_wrong_and_where(parameters: str, field: str, message: str) -> None:
    text = f"{HEAD}- {{type: core-metrics-extractor, parameters: {parameters}}}"
    [problem] = decode(text.encode(), file="picker.yaml").problems
    assert (problem.field, problem.message) == (f"plugins[0].parameters.{field}", message)


def test_engines_are_mapped_by_one_plugin() -> None:
    one = "- {type: model-server-protocol-metrics, parameters: {defaultEngine: sglang}}\n"
    other = "- {type: core-metrics-extractor, parameters: {defaultEngine: vllm}}\n"
    assert decode((HEAD + one).encode(), file="picker.yaml").problems == ()
    [problem] = decode((HEAD + one + other).encode(), file="picker.yaml").problems
    assert (problem.field, problem.message) == (
        "plugins[1].parameters",
        "another plugin maps engines already",
    )
