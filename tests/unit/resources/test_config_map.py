"""ConfigMaps: only those with the label are read, and they must say what it promises."""

import pytest

from inferway.resources import ConfigMap
from inferway.resources.decode import Decoded, decode


def decoded(data: str, label: str = "inference.networking.k8s.io/bbr-managed: 'true'") -> Decoded:
    text = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: n, labels: {{{label}}}}}\n{data}"
    return decode(text.encode(), file="m.yaml")


@pytest.mark.parametrize(
    "label",
    ["inference.networking.k8s.io/bbr-managed: 'true'", "inference.llm-d.ai/ipp-managed: 'true'"],
)
def test_a_base_model_and_its_adapters(label: str) -> None:
    data = "data:\n  baseModel: llama\n  adapters: |\n    - food-review\n    - 'cad: 2'\n"
    [entry] = decoded(data, label).entries
    assert isinstance(entry.resource, ConfigMap)
    assert entry.resource.is_managed
    assert entry.resource.base_model == "llama"
    assert entry.resource.adapters == ("food-review", "cad: 2")


@pytest.mark.parametrize("data", ["data: {baseModel: m}", "data: {baseModel: m, adapters: ''}"])
def test_a_base_model_without_adapters(data: str) -> None:
    [entry] = decoded(data).entries
    assert isinstance(entry.resource, ConfigMap)
    assert entry.resource.adapters == ()


@pytest.mark.parametrize(
    ("data", "field", "line"),
    [
        ("data: {adapters: '[]'}", "data.baseModel", 4),
        ("data: {baseModel: ' '}", "data.baseModel", 4),
        ("data:\n  baseModel: m\n  adapters: food", "data.adapters", 6),
        ("data:\n  baseModel: m\n  adapters: '[1]'", "data.adapters", 6),
        ("data:\n  baseModel: m\n  adapters: '- [a'", "data.adapters", 6),
        ("data:\n  baseModel: m\n  adapters: '[\"a\\u0001b\"]'", "data.adapters", 6),
    ],
)
def test_what_the_label_promises_is_wanted(data: str, field: str, line: int) -> None:
    [problem] = decoded(data).problems
    assert (problem.field, problem.line) == (field, line)


def test_other_config_maps_may_hold_anything() -> None:
    for label in ("app: x", "inference.networking.k8s.io/bbr-managed: 'false'"):
        assert not decoded("data: {adapters: food}", label).problems
