"""Endpoints of a pool: every active port of every member."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferway.resources import ResourceSet
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate

Load = Callable[[str], ResourceSet]

POOL = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: llm}
spec: {selector: {matchLabels: {app: llm}}, targetPorts: [{number: 8000}, {number: 8001}]}
---
"""
SERVER = """
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: gpu, labels: {app: llm}, annotations: {ANNOTATION}}
spec: {addresses: [{host: 10.0.0.1}, {host: 10.0.0.2, port: 9000}]}
"""
MAPPING = """---
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
metadata: {name: own}
plugins:
- type: core-metrics-extractor
  parameters: {engineLabelKey: kind, defaultEngine: sglang, engineConfigs: [{name: mine}]}
"""


def ports(load: Load, annotation: str) -> tuple[list[tuple[str, int]], tuple[str, ...]]:
    """Host and port of every endpoint, and the warnings about the annotation."""
    text = POOL + SERVER.replace("ANNOTATION", annotation)
    translation = translate(load(text), settings=RoutingSettings())
    found = [(one.host, one.port) for one in translation.model.pools["default/llm"].endpoints]
    warnings = [one.message for one in translation.warnings if "active-ports" in one.field]
    return found, tuple(warnings)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("", [8000, 8001]),
        ("llm-d.ai/active-ports: '8001'", [8001]),
        ("inference.networking.k8s.io/active-ports: '8001, 8000'", [8000, 8001]),
        ("llm-d.ai/active-ports: '7000'", []),
    ],
)
def test_active_ports(load: Load, annotation: str, expected: list[int]) -> None:
    found, warnings = ports(load, annotation)
    assert found == [*(("10.0.0.1", port) for port in expected), ("10.0.0.2", 9000)]
    assert warnings == ()


def test_a_list_that_cannot_be_read_is_a_warning(load: Load) -> None:
    found, warnings = ports(load, "llm-d.ai/active-ports: '8001;8000'")
    assert [port for _host, port in found] == [8000, 8001, 9000]
    [warning] = warnings
    assert "8001;8000" in warning


def labelled(labels: str, engine: str) -> str:
    server = SERVER.replace("{ANNOTATION}", "{}").replace("app: llm}", f"app: llm, {labels}}}")
    return server.replace("spec: {", f"spec: {{{engine}, " if engine else "spec: {")


@pytest.mark.parametrize(
    ("labels", "engine", "expected", "warned"),
    [
        ("", "", "vllm", False),
        ("llm-d.ai/engine-type: sglang", "", "sglang", False),
        ("inference.networking.k8s.io/engine-type: triton", "", "triton", False),
        ("llm-d.ai/engine-type: sglang", "engine: vllm", "vllm", False),
        ("llm-d.ai/engine-type: jetstream", "", "vllm", True),
    ],
)
def test_engine_by_field_then_label(
    load: Load, labels: str, engine: str, expected: str, warned: bool
) -> None:
    translation = translate(load(POOL + labelled(labels, engine)), settings=RoutingSettings())
    endpoints = translation.model.pools["default/llm"].endpoints
    assert {one.engine for one in endpoints} == {expected}
    warnings = [one for one in translation.warnings if "engine-type" in one.field]
    assert len(warnings) == warned
    assert all("jetstream" in one.message for one in warnings)


@pytest.mark.parametrize(
    ("labels", "engine", "expected", "warnings"),
    [
        ("", "", "sglang", []),
        ("kind: mine", "", "mine", []),
        ("kind: triton", "", "triton", []),
        ("llm-d.ai/engine-type: triton", "", "sglang", []),
        ("kind: mine", "engine: vllm", "vllm", []),
        ("kind: jetstream", "", "sglang", ["metadata.labels[kind]"]),
    ],
)
def test_engine_in_a_pool_that_knows_further_ones(
    load: Load, labels: str, engine: str, expected: str, warnings: list[str]
) -> None:
    pool = POOL.replace("name: llm", "name: llm, annotations: {inferway.dev/picker-config: own}", 1)
    translation = translate(
        load(pool + labelled(labels, engine) + MAPPING), settings=RoutingSettings()
    )
    endpoints = translation.model.pools["default/llm"].endpoints
    assert {one.engine for one in endpoints} == {expected}
    assert [one.field for one in translation.warnings if "engine" in one.message] == warnings
