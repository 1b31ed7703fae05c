"""Saturation detectors, and the policies of flow control.

Names, parameters and defaults are the reference's.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from inferway.resources.meta import Model
from inferway.resources.scalars import Between, Factor, GoDuration, Int64Count, PositiveCount, Ratio
from inferway.resources.violations import Violation, reject

from .plugin_type import PluginType, Role, plugin, refused

Limit = Annotated[int, Between(1, 10_000_000)]


class UtilizationDetector(Model):
    """`utilization-detector`"""

    queue_depth_threshold: Limit = Field(
        default=5, description="waiting requests at which an endpoint is saturated"
    )
    kv_cache_util_threshold: Ratio = Field(
        default=0.8, description="KV cache usage at which an endpoint is saturated"
    )
    metrics_staleness_threshold: GoDuration = Field(
        default="200ms", description="older metrics are stale"
    )
    staleness_policy: Literal["saturated", "ignore"] = Field(
        default="saturated", description="what an endpoint with stale metrics counts as"
    )
    headroom: Factor = Field(default=0.0, description="as a filter: how far above 1 is still kept")


class ConcurrencyDetector(Model):
    """`concurrency-detector`"""

    max_concurrency: Limit = Field(default=100, description="requests in flight per endpoint")
    max_token_concurrency: PositiveCount = Field(
        default=1_000_000, description="tokens in flight per endpoint"
    )
    concurrency_mode: Literal["requests", "tokens", "hybrid"] = "requests"
    headroom: Factor = Field(default=0.0, description="as a filter: how far above 1 is still kept")


class EngineQueueDetector(Model):
    """`engine-queue-detector`"""

    start_requests: Limit = Field(
        default=64, description="in flight per endpoint until its engine has shown what it takes"
    )


class StaticUsageLimit(Model):
    """`static-usage-limit-policy`"""

    threshold: Factor = Field(default=1.0, description="saturation at which every band waits")


class PriorityHoldback(Model):
    """`priority-holdback-policy`"""

    min_ceiling: Factor = Field(description="saturation at which the lowest priority waits")
    max_ceiling: Factor = Field(
        default=1.0, description="saturation at which the highest priority waits"
    )
    domain: Literal["rank", "value"] = Field(
        default="rank", description="what is spread between the two: places or priorities"
    )

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.max_ceiling < self.min_ceiling:
            message = f"must not be below minCeiling: {self.max_ceiling:g}"
            reject([Violation(message, ("maxCeiling",))])
        return self


class ProbabilisticAdmitter(Model):
    """`probabilistic-admitter`"""

    power: Annotated[int, Between(1, 100)] = Field(
        default=5, description="of the saturation, in the chance to be shed"
    )
    queue_depth_threshold: Int64Count = 5
    kv_cache_util_threshold: Ratio = 0.8


_NO_EVICTION = "requests that run are not evicted"

FLOW_CONTROL_PLUGINS: tuple[PluginType, ...] = (
    plugin(
        "utilization-detector",
        (Role.DETECTOR, Role.FILTER),
        "saturation by waiting requests and KV cache usage",
        UtilizationDetector,
    ),
    plugin(
        "concurrency-detector",
        (Role.DETECTOR, Role.FILTER),
        "saturation by work in flight",
        ConcurrencyDetector,
    ),
    plugin(
        "engine-queue-detector",
        Role.DETECTOR,
        "saturation by a queue that stands in the engine",
        EngineQueueDetector,
    ),
    plugin("virtual-counter-fairness-policy", Role.FAIRNESS, "flows get equal shares of tokens"),
    plugin("global-strict-fairness-policy", Role.FAIRNESS, "one queue for all flows of a band"),
    plugin("round-robin-fairness-policy", Role.FAIRNESS, "flows of a band take turns"),
    plugin("fcfs-ordering-policy", Role.ORDERING, "first come, first served"),
    plugin("edf-ordering-policy", Role.ORDERING, "earliest deadline first"),
    plugin("slo-deadline-ordering-policy", Role.ORDERING, "earliest TTFT objective first"),
    plugin(
        "static-usage-limit-policy", Role.USAGE_LIMIT, "one limit for all bands", StaticUsageLimit
    ),
    plugin(
        "priority-holdback-policy",
        Role.USAGE_LIMIT,
        "lower priorities stop at lower saturation",
        PriorityHoldback,
    ),
    plugin(
        "probabilistic-admitter",
        Role.OTHER,
        "sheds negative priority by chance before saturation",
        ProbabilisticAdmitter,
    ),
    plugin(
        "latency-slo-admitter",
        Role.OTHER,
        "refuses negative priorities whose latency objectives nobody can meet",
    ),
    refused(
        "program-aware-fairness",
        Role.FAIRNESS,
        "service is counted per flow, not per program",
        "use round-robin-fairness-policy",
    ),
    refused(
        "soft-reflective-ceiling-policy",
        Role.USAGE_LIMIT,
        "bands do not open and close in turns",
        "use priority-holdback-policy",
    ),
    refused("sheddable-eviction-filter", Role.OTHER, _NO_EVICTION, "remove it"),
    refused("priority-then-time-eviction-order-policy", Role.OTHER, _NO_EVICTION, "remove it"),
)
