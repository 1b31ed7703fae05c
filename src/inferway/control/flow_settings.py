"""From an EndpointPickerConfig to the flow control of a pool.

Pure. A file of the reference without its gate `flowControl` gets our default as well: everything
waits by priority. With the gate it gets the reference's queue, and with `flowControl=false` what
the reference does without one; `mode` says it outright. In those two modes what is not said is as
in the reference, but for stale metrics, which stop the pool only where that is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from inferway.picker.flowcontrol.config import (
    BandConfig,
    CeilingConfig,
    ConcurrencyConfig,
    EngineQueueConfig,
    FlowConfig,
    SheddingConfig,
    UtilizationConfig,
)
from inferway.resources.endpoint_picker_config import parameters_of
from inferway.resources.picker_flow import FlowControl
from inferway.resources.picker_plugins import flow_control as plugins
from inferway.resources.scalars import go_duration_s

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import (
        DetectorConfig,
        Fairness,
        Ordering,
        SloAdmissionOf,
    )
    from inferway.resources import EndpointPickerConfig
    from inferway.resources.endpoint_picker_config import PickerPlugin
    from inferway.resources.picker_flow import DefaultBand

Mode = Literal["late-binding", "gate", "legacy"]

_MODES: Final[dict[str, Mode]] = {
    "lateBinding": "late-binding",
    "gate": "gate",
    "legacy": "legacy",
}
_FAIRNESS: Final[dict[str, Fairness]] = {
    "virtual-counter-fairness-policy": "vtc",
    "round-robin-fairness-policy": "round-robin",
    "global-strict-fairness-policy": "global-strict",
}
_ORDERING: Final[dict[str, Ordering]] = {
    "fcfs-ordering-policy": "fcfs",
    "edf-ordering-policy": "edf",
    "slo-deadline-ordering-policy": "slo-deadline",
}


def flow_config(config: EndpointPickerConfig | None) -> FlowConfig:
    """How requests of the pool wait."""
    if config is None:
        return FlowConfig()
    said = config.flow_control or FlowControl()
    mode = _mode(config, said)
    told: dict[str, object] = {
        "mode": mode,
        "requests_max": said.max_requests if mode == "late-binding" else said.max_requests or 0,
        "bytes_max": said.max_bytes if mode == "late-binding" else said.max_bytes or 0,
        "ttl_s": _seconds(said.default_request_ttl),
        "no_endpoint_ttl_s": _no_endpoint_s(mode, said),
        "sheddable_wait_max_s": _seconds(said.max_sheddable_wait),
        "retry_after_max_s": _seconds(said.max_retry_after),
        "keepalive_s": _seconds(said.keep_alive),
        "identity_header": said.identity_header and said.identity_header.lower(),
        "default_band": _band(config, mode, said.default_priority_band),
        "negative_band": said.default_negative_priority_band
        and _band(config, mode, said.default_negative_priority_band),
        "bands": {one.priority: _band(config, mode, one) for one in said.priority_bands},
        "detector": _detector(config, mode),
        "ceiling": _ceiling(config, said),
        "shedding": _shedding(config),
        "slo_admission": _slo_admission(config, mode),
    }
    return FlowConfig.model_validate({name: v for name, v in told.items() if v is not None})


def _mode(config: EndpointPickerConfig, said: FlowControl) -> Mode:
    if said.mode is not None:
        return _MODES[said.mode]
    if config.gate("flowControl"):
        return "gate"
    return "legacy" if config.gate_is_off("flowControl") else "late-binding"


def _slo_admission(config: EndpointPickerConfig, mode: Mode) -> SloAdmissionOf:
    if mode == "late-binding":
        return "all"
    listed = any(plugin.type == "latency-slo-admitter" for plugin in config.plugins)
    return "sheddable" if listed else "none"


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else go_duration_s(duration)


def _no_endpoint_s(mode: Mode, said: FlowControl) -> float | None:
    if said.no_endpoint_request_ttl is not None or mode != "gate":
        return _seconds(said.no_endpoint_request_ttl)
    return _seconds(said.default_request_ttl or "60s")


def _band(config: EndpointPickerConfig, mode: Mode, said: DefaultBand | None) -> BandConfig:
    fairness: Fairness = "vtc" if mode == "late-binding" else "global-strict"
    told: dict[str, object] = {"fairness": fairness}
    if said is not None:
        if said.fairness_policy_ref is not None:
            told["fairness"] = _FAIRNESS[config.plugin(said.fairness_policy_ref).type]
        if said.ordering_policy_ref is not None:
            told["ordering"] = _ORDERING[config.plugin(said.ordering_policy_ref).type]
        told["ttl_s"] = _seconds(said.request_ttl)
        if said.max_requests:
            told["requests_max"] = said.max_requests
        if said.max_bytes:
            told["bytes_max"] = said.max_bytes
    return BandConfig.model_validate(told)


def _detector(config: EndpointPickerConfig, mode: Mode) -> DetectorConfig:
    flow, former = config.flow_control, config.saturation_detector
    reference = flow.saturation_detector if flow is not None else None
    if reference is not None:
        return _detector_of(config.plugin(reference.plugin_ref))
    if former is not None and former.plugin_ref is not None:
        return _detector_of(config.plugin(former.plugin_ref))
    if former is not None:
        told = {
            "queue_depth_max": former.queue_depth_threshold or None,
            "kv_usage_max_ratio": former.kv_cache_util_threshold or None,
            "stale_after_s": _seconds(former.metrics_staleness_threshold),
        }
        return UtilizationConfig.model_validate({k: v for k, v in told.items() if v is not None})
    return EngineQueueConfig() if mode == "late-binding" else UtilizationConfig()


def _detector_of(plugin: PickerPlugin) -> DetectorConfig:
    if plugin.type == "utilization-detector":
        by_use = parameters_of(plugin, plugins.UtilizationDetector)
        written = "stalenessPolicy" in plugin.parameters
        return UtilizationConfig(
            queue_depth_max=by_use.queue_depth_threshold,
            kv_usage_max_ratio=by_use.kv_cache_util_threshold or 0.8,
            headroom_ratio=by_use.headroom,
            stale_after_s=go_duration_s(by_use.metrics_staleness_threshold),
            stale=by_use.staleness_policy if written else "ignore",
        )
    if plugin.type == "concurrency-detector":
        by_count = parameters_of(plugin, plugins.ConcurrencyDetector)
        return ConcurrencyConfig(
            requests_max=by_count.max_concurrency,
            tokens_max=by_count.max_token_concurrency,
            mode=by_count.concurrency_mode,
            headroom_ratio=by_count.headroom,
        )
    learning = parameters_of(plugin, plugins.EngineQueueDetector)
    return EngineQueueConfig(start_requests=learning.start_requests)


def _ceiling(config: EndpointPickerConfig, said: FlowControl) -> CeilingConfig:
    reference = said.usage_limit_policy_plugin_ref
    if reference is None:
        return CeilingConfig()
    plugin = config.plugin(reference)
    if plugin.type == "priority-holdback-policy":
        holdback = parameters_of(plugin, plugins.PriorityHoldback)
        return CeilingConfig(
            least_ratio=holdback.min_ceiling,
            most_ratio=holdback.max_ceiling,
            domain=holdback.domain,
        )
    threshold = parameters_of(plugin, plugins.StaticUsageLimit).threshold
    return CeilingConfig(least_ratio=threshold, most_ratio=threshold)


def _shedding(config: EndpointPickerConfig) -> SheddingConfig | None:
    for plugin in config.plugins:
        if plugin.type == "probabilistic-admitter":
            said = parameters_of(plugin, plugins.ProbabilisticAdmitter)
            return SheddingConfig(
                power=said.power,
                queue_depth_max=said.queue_depth_threshold or 5.0,
                kv_usage_max_ratio=said.kv_cache_util_threshold or 0.8,
            )
    return None
