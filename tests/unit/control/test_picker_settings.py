"""What the picker is told of an EndpointPickerConfig."""

from __future__ import annotations

import json

from inferway.control.picker_settings import (
    explain_config,
    first_token_deadline_ms,
    health_config,
    profile_config,
)
from inferway.picker.config import PluginConfig, PoolExplainConfig, ProfileConfig
from inferway.picker.health_config import HealthConfig
from inferway.resources import EndpointPickerConfig
from inferway.resources.picker_health import PickerHealth


def config(**fields: object) -> EndpointPickerConfig:
    return EndpointPickerConfig.model_validate({"metadata": {"name": "one"}, **fields})


def test_the_deadline_for_a_first_token_is_none_or_milliseconds() -> None:
    assert first_token_deadline_ms(None) == 0
    assert first_token_deadline_ms(config(conduct={})) == 0
    assert first_token_deadline_ms(config(conduct={"firstTokenDeadline": "1.5s"})) == 1_500


def test_nothing_is_said_of_scheduling() -> None:
    assert profile_config(None) is None
    assert profile_config(config(plugins=[{"type": "openai-parser"}])) is None


def test_plugins_in_order_with_weights_and_what_has_an_effect_of_their_parameters() -> None:
    found = config(
        plugins=[
            {"type": "least-request"},
            {
                "name": "prefix",
                "type": "prefix-cache-scorer",
                "parameters": {"matchLengthWeight": 0.5, "hashBlockSize": 5, "autoTune": None},
            },
        ],
        schedulingProfiles=[
            {
                "name": "default",
                "plugins": [
                    {"pluginRef": "prefix", "weight": 3},
                    {"pluginRef": "least-request"},
                ],
            }
        ],
    )
    assert profile_config(found) == ProfileConfig(
        plugins=(
            PluginConfig(
                type="prefix-cache-scorer",
                name="prefix",
                weight=3.0,
                parameters={"matchLengthWeight": 0.5},
            ),
            PluginConfig(type="least-request", name="least-request"),
        )
    )


def test_health_in_full() -> None:
    assert health_config(None) == health_config(config()) == HealthConfig()
    said = {
        "ejection": False,
        "consecutiveFaults": 7,
        "window": "1m",
        "minRequests": 9,
        "faultRatio": 0.25,
        "ejectionTime": "2500ms",
        "maxEjectionTime": "5m",
        "probeTimeout": "4s",
        "panicRatio": 0.75,
        "maxRetryAfter": "0s",
        "backPressureFactor": 0.8,
        "backPressureRecovery": "3s",
        "minShare": 0.1,
    }
    assert health_config(config(health=said)) == HealthConfig(
        ejection=False,
        consecutive_faults=7,
        window_s=60.0,
        window_requests_min=9,
        window_fault_ratio=0.25,
        ejection_s=2.5,
        ejection_max_s=300.0,
        probe_timeout_s=4.0,
        panic_ratio=0.75,
        retry_after_max_s=0.0,
        back_pressure_factor=0.8,
        back_pressure_recovery_s=3.0,
        share_min=0.1,
    )
    assert len(said) == len(HealthConfig.model_fields)
    assert health_config(config(health={"window": "5s"})) == HealthConfig(window_s=5.0)


def test_the_described_defaults_are_the_pickers() -> None:
    """Descriptions of unset fields begin with the default; they are read here."""
    told: dict[str, object] = {}
    for name, field in PickerHealth.model_fields.items():
        text = (field.description or "").partition(":")[0].partition(";")[0]
        told[name] = text if text.endswith("s") else json.loads(text)
    assert health_config(config(health=PickerHealth.model_validate(told))) == HealthConfig()


def test_what_is_remembered() -> None:
    assert explain_config(None) == explain_config(config()) == PoolExplainConfig()
    told = {"responseHeaders": True}
    assert explain_config(config(conduct=told)) == PoolExplainConfig(reason=True)
    assert explain_config(config(explain={"recordEvery": 10})) == PoolExplainConfig(record_every=10)
    found = explain_config(config(explain={"recordEvery": 10}, conduct=told))
    assert found == PoolExplainConfig(record_every=10, reason=True)
