"""What the picker is told of an EndpointPickerConfig."""

from __future__ import annotations

from inferway.control.picker_settings import profile_config
from inferway.picker.config import PluginConfig, ProfileConfig
from inferway.resources import EndpointPickerConfig


def config(**fields: object) -> EndpointPickerConfig:
    return EndpointPickerConfig.model_validate({"metadata": {"name": "one"}, **fields})


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
