"""What the picker is told of the section `flowControl`, in the style of each origin."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from inferway.control.flow_settings import flow_config
from inferway.picker.flowcontrol.config import (
    BandConfig,
    CeilingConfig,
    ConcurrencyConfig,
    EngineQueueConfig,
    FlowConfig,
    SheddingConfig,
    UtilizationConfig,
)
from inferway.resources import EndpointPickerConfig

REFERENCE = "llm-d.ai/v1alpha1"


def config(**fields: object) -> EndpointPickerConfig:
    return EndpointPickerConfig.model_validate({"metadata": {"name": "one"}, **fields})


def test_nothing_is_said() -> None:
    assert flow_config(None) == flow_config(config()) == FlowConfig()
    assert flow_config(config(apiVersion=REFERENCE)) == FlowConfig()


@pytest.mark.parametrize(
    ("gates", "said", "mode"),
    [
        ([], {}, "late-binding"),
        (["flowControl"], {}, "gate"),
        (["flowControl=false"], {}, "legacy"),
        (["flowControl", "flowControl=false"], {}, "legacy"),
        (["dataLayer=false"], {}, "late-binding"),
        (["flowControl"], {"mode": "lateBinding"}, "late-binding"),
        ([], {"mode": "legacy"}, "legacy"),
    ],
)
def test_modes(gates: list[str], said: dict[str, str], mode: str) -> None:
    assert flow_config(config(featureGates=gates, flowControl=said)).mode == mode


def test_the_gate_has_the_defaults_of_the_reference() -> None:
    found = flow_config(config(apiVersion=REFERENCE, featureGates=["flowControl"]))
    assert found == FlowConfig(
        mode="gate",
        requests_max=0,
        bytes_max=0,
        ttl_s=60.0,
        no_endpoint_ttl_s=60.0,
        default_band=BandConfig(fairness="global-strict"),
        detector=UtilizationConfig(),
        slo_admission="none",
    )
    shorter = config(featureGates=["flowControl"], flowControl={"defaultRequestTTL": "30s"})
    assert flow_config(shorter).no_endpoint_ttl_s == 30.0


def test_everything_is_said() -> None:
    said = config(
        plugins=[
            {"type": "round-robin-fairness-policy"},
            {"name": "tokens", "type": "virtual-counter-fairness-policy"},
            {"type": "edf-ordering-policy"},
            {"name": "slo", "type": "slo-deadline-ordering-policy"},
            {
                "name": "hold",
                "type": "priority-holdback-policy",
                "parameters": {"minCeiling": 0.7, "maxCeiling": 1.1, "domain": "value"},
            },
            {
                "name": "sat",
                "type": "concurrency-detector",
                "parameters": {"maxConcurrency": 64, "concurrencyMode": "hybrid"},
            },
            {"type": "probabilistic-admitter", "parameters": {"power": 3}},
        ],
        flowControl={
            "maxBytes": "1Gi",
            "maxRequests": 70,
            "defaultRequestTTL": "20s",
            "noEndpointRequestTTL": "2m",
            "maxSheddableWait": "500ms",
            "maxRetryAfter": "90s",
            "keepAlive": "5s",
            "identityHeader": "X-Client",
            "defaultPriorityBand": {"maxRequests": 0, "orderingPolicyRef": "slo"},
            "defaultNegativePriorityBand": {"maxRequests": 9, "maxBytes": "1k"},
            "priorityBands": [
                {
                    "priority": 10,
                    "maxRequests": 500,
                    "fairnessPolicyRef": "round-robin-fairness-policy",
                    "orderingPolicyRef": "edf-ordering-policy",
                    "requestTTL": "5s",
                },
                {"priority": -5, "fairnessPolicyRef": "tokens"},
            ],
            "usageLimitPolicyPluginRef": "hold",
            "saturationDetector": {"pluginRef": "sat"},
        },
    )
    assert said.request_headers == ("x-client",)
    assert flow_config(said) == FlowConfig(
        requests_max=70,
        bytes_max=2**30,
        ttl_s=20.0,
        no_endpoint_ttl_s=120.0,
        sheddable_wait_max_s=0.5,
        retry_after_max_s=90.0,
        keepalive_s=5.0,
        identity_header="x-client",
        default_band=BandConfig(ordering="slo-deadline"),
        negative_band=BandConfig(requests_max=9, bytes_max=1_000),
        bands={
            10: BandConfig(requests_max=500, fairness="round-robin", ordering="edf", ttl_s=5.0),
            -5: BandConfig(),
        },
        detector=ConcurrencyConfig(requests_max=64, mode="hybrid"),
        ceiling=CeilingConfig(least_ratio=0.7, most_ratio=1.1, domain="value"),
        shedding=SheddingConfig(power=3),
    )


def test_whose_latency_objectives_are_a_reason_to_refuse() -> None:
    admitter = [{"type": "latency-slo-admitter"}]
    assert flow_config(config(plugins=admitter)).slo_admission == "all"
    gate = config(featureGates=["flowControl"], plugins=admitter)
    assert flow_config(gate).slo_admission == "sheddable"


def detector_of(**fields: object) -> object:
    return flow_config(config(**fields)).detector


def test_detectors() -> None:
    by_name = {"saturationDetector": {"pluginRef": "d"}}
    strict = {"queueDepthThreshold": 7, "stalenessPolicy": "saturated", "headroom": 0.5}
    plugins = [{"name": "d", "type": "utilization-detector", "parameters": strict}]
    expected = UtilizationConfig(queue_depth_max=7, stale="saturated", headroom_ratio=0.5)
    assert detector_of(plugins=plugins, flowControl=by_name) == expected
    assert detector_of(plugins=plugins, **by_name) == expected
    assert detector_of(plugins=plugins) == EngineQueueConfig()
    lenient = [{"name": "d", "type": "utilization-detector"}]
    assert detector_of(plugins=lenient, flowControl=by_name) == UtilizationConfig()
    learning = {"name": "d", "type": "engine-queue-detector", "parameters": {"startRequests": 8}}
    assert detector_of(plugins=[learning], flowControl=by_name) == EngineQueueConfig(
        start_requests=8
    )
    former = {"queueDepthThreshold": 9, "metricsStalenessThreshold": "1s"}
    assert detector_of(saturationDetector=former) == UtilizationConfig(
        queue_depth_max=9, stale_after_s=1.0
    )


def test_one_threshold_for_all() -> None:
    found = flow_config(
        config(
            plugins=[{"type": "static-usage-limit-policy", "parameters": {"threshold": 0.9}}],
            flowControl={"usageLimitPolicyPluginRef": "static-usage-limit-policy"},
        )
    )
    assert found.ceiling == CeilingConfig(least_ratio=0.9, most_ratio=0.9)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"keepAlive": "0s"}, "must be 1s to 1h: 0s"),
        ({"maxRetryAfter": "500ms"}, "must be 1s to 1h: 500ms"),
    ],
)
def test_times_out_of_range_are_refused(said: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(flowControl=said)


def test_our_fields_are_not_those_of_the_reference() -> None:
    with pytest.raises(ValidationError, match=r"mode is a field of inferway.dev/v1alpha1"):
        config(apiVersion=REFERENCE, flowControl={"mode": "gate"})
