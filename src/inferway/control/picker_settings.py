"""From an EndpointPickerConfig to what the picker is told of a pool, section by section.

Pure. A function per section takes the object (None: the pool has none) and answers in the words of
`inferway.picker.config`; `pool_config` of the reconciler puts the answers together. What a section
does not say is left to the defaults of those words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.config import (
    KvEventsConfig,
    PluginConfig,
    PoolExplainConfig,
    ProfileConfig,
)
from inferway.picker.health_config import HealthConfig
from inferway.resources.endpoint_picker_config import parameters_of
from inferway.resources.model_server import KvEvents as KvEventsSection
from inferway.resources.picker_plugins.data import PreciseIndex
from inferway.resources.scalars import go_duration_s
from inferway.routing.model import KvEvents

if TYPE_CHECKING:
    from pydantic import JsonValue

    from inferway.resources import EndpointPickerConfig
    from inferway.routing.picker_config import ResolvedEndpoint

_PRECISE_INDEX = "precise-prefix-cache-producer"


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


def kv_events_config(
    endpoint: ResolvedEndpoint, config: EndpointPickerConfig | None
) -> KvEventsConfig | None:
    """Where an endpoint publishes its KV events: as its server says, else as the pool does."""
    told = endpoint.kv_events or _pool_kv_events(config)
    if told is None:
        return None
    at = told.at(endpoint.place)
    return KvEventsConfig(port=at.port, replay_port=at.replay_port, ranks=at.ranks, topic=at.topic)


def _pool_kv_events(config: EndpointPickerConfig | None) -> KvEvents | None:
    """Our section, else the reference's plugin."""
    if config is None:
        return None
    section = config.kv_events
    if section is None:
        plugin = next((one for one in config.plugins if one.type == _PRECISE_INDEX), None)
        if plugin is None:
            return None
        events = parameters_of(plugin, PreciseIndex).kv_events_config
        discovery = events.pod_discovery_config if events else None
        port = discovery.socket_port if discovery else None
        topic = events.topic_filter if events else None
        told = {"port": port, "topic": topic}
        section = KvEventsSection.model_validate(
            {name: value for name, value in told.items() if value is not None}
        )
    return KvEvents(section.port, section.replay_port, section.ranks, section.topic)
