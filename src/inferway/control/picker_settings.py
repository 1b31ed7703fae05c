"""From an EndpointPickerConfig to what the picker is told of a pool, section by section.

Pure. A function per section takes the object (None: the pool has none) and answers in the words of
`inferway.picker.config`; `pool_config` of the reconciler puts the answers together. What a section
does not say is left to the defaults of those words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.config import PluginConfig, PoolExplainConfig, ProfileConfig
from inferway.picker.health_config import HealthConfig
from inferway.resources.scalars import go_duration_s

if TYPE_CHECKING:
    from pydantic import JsonValue

    from inferway.resources import EndpointPickerConfig


_HEALTH_TIMES = {
    "window": "window_s",
    "ejection_time": "ejection_s",
    "max_ejection_time": "ejection_max_s",
    "probe_timeout": "probe_timeout_s",
    "max_retry_after": "retry_after_max_s",
    "back_pressure_recovery": "back_pressure_recovery_s",
}
_HEALTH_NUMBERS = {
    "ejection": "ejection",
    "consecutive_faults": "consecutive_faults",
    "min_requests": "window_requests_min",
    "fault_ratio": "window_fault_ratio",
    "panic_ratio": "panic_ratio",
    "back_pressure_factor": "back_pressure_factor",
    "min_share": "share_min",
}


def health_config(config: EndpointPickerConfig | None) -> HealthConfig:
    """When an endpoint is left alone."""
    if config is None or config.health is None:
        return HealthConfig()
    said = config.health.model_dump(exclude_none=True)
    return HealthConfig.model_validate(
        {_HEALTH_NUMBERS[name]: value for name, value in said.items() if name in _HEALTH_NUMBERS}
        | {
            _HEALTH_TIMES[name]: go_duration_s(value)
            for name, value in said.items()
            if name in _HEALTH_TIMES
        }
    )


def profile_config(config: EndpointPickerConfig | None) -> ProfileConfig | None:
    """The scheduling profile; None leaves it to the pool's policy."""
    if config is None or not config.profile:
        return None
    plugins = []
    for part in config.profile:
        plugin = config.part(part)
        told: dict[str, JsonValue] = {
            name: value
            for name, value in plugin.parameters.items()
            if value is not None and name not in plugin.plugin_type.ignored
        }
        plugins.append(
            PluginConfig(
                type=plugin.type, name=plugin.reference, weight=part.weight, parameters=told
            )
        )
    return ProfileConfig(plugins=tuple(plugins))


def first_token_deadline_ms(config: EndpointPickerConfig | None) -> int:
    """0: none."""
    conduct = config.conduct if config is not None else None
    if conduct is None or conduct.first_token_deadline is None:
        return 0
    return min(round(go_duration_s(conduct.first_token_deadline) * 1e3), 2**32 - 1)


def explain_config(config: EndpointPickerConfig | None) -> PoolExplainConfig:
    """What is remembered of decisions, and whether responses tell why."""
    if config is None:
        return PoolExplainConfig()
    headers = config.conduct is not None and config.conduct.response_headers
    if config.explain is None:
        return PoolExplainConfig(reason=headers)
    return PoolExplainConfig(record_every=config.explain.record_every, reason=headers)
