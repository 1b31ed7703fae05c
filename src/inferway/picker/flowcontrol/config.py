"""The settings of one pool's flow control, as control sends them to the picker.

Names and defaults follow the reference picker's `flowControl` section where it has the setting;
what is ours says so. A limit of 0 is no limit.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fairness = Literal["vtc", "round-robin", "global-strict"]
Ordering = Literal["fcfs", "edf", "slo-deadline"]
SloAdmissionOf = Literal["all", "sheddable", "none"]
NotNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BandConfig(_Settings):
    """What holds for one priority, or for all that are not listed."""

    requests_max: NotNegative = Field(default=5_000, description="requests that may wait; 0: any")
    bytes_max: NotNegative = Field(
        default=1_000_000_000, description="bytes of their bodies, which Envoy holds; 0: any"
    )
    ttl_s: Seconds | None = Field(
        default=None, description="longest wait; 0: for ever; None: the pool's"
    )
    fairness: Fairness = Field(
        default="vtc", description="between flows: by tokens served, in turn, or not at all"
    )
    ordering: Ordering = Field(default="fcfs", description="inside a flow")


class EngineQueueConfig(_Settings):
    """Our default: an endpoint is full when its engine keeps a queue; see engine_queue.py."""

    type: Literal["engine-queue"] = "engine-queue"
    start_requests: Annotated[int, Field(ge=1)] = Field(
        default=64, description="in flight per endpoint until its engine has shown what it takes"
    )


class UtilizationConfig(_Settings):
    """The reference's `utilization-detector`."""

    type: Literal["utilization"] = "utilization"
    queue_depth_max: Annotated[float, Field(gt=0)] = 5.0
    kv_usage_max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8
    headroom_ratio: Annotated[float, Field(ge=0)] = 0.0
    stale_after_s: Seconds = Field(default=0.2, description="age of values that counts as stale")
    stale: Literal["saturated", "ignore"] = Field(
        default="ignore",
        description="an endpoint with requests of ours and stale values: full, or not looked at",
    )


class ConcurrencyConfig(_Settings):
    """The reference's `concurrency-detector`."""

    type: Literal["concurrency"] = "concurrency"
    requests_max: Annotated[int, Field(ge=1)] = 100
    tokens_max: Annotated[int, Field(ge=1)] = 1_000_000
    mode: Literal["requests", "tokens", "hybrid"] = "requests"
    headroom_ratio: Annotated[float, Field(ge=0)] = 0.0


DetectorConfig = Annotated[
    EngineQueueConfig | UtilizationConfig | ConcurrencyConfig, Field(discriminator="type")
]


class CeilingConfig(_Settings):
    """How much of an endpoint (or pool) a priority may fill: 1.0 is up to where it is saturated.

    The highest priority that has a band gets `most_ratio`, the lowest `least_ratio`, the others
    lie between: by rank or by the priority's value.
    """

    least_ratio: Annotated[float, Field(ge=0)] = 1.0
    most_ratio: Annotated[float, Field(ge=0)] = 1.0
    domain: Literal["rank", "value"] = "rank"


class SheddingConfig(_Settings):
    """The reference's `probabilistic-admitter`: negative priorities are refused with probability
    min(factor · saturation^power, 1) before the pool is full.
    """

    factor: Annotated[float, Field(gt=0)] = 300.0
    power: Annotated[float, Field(gt=0)] = 5.0
    queue_depth_max: Annotated[float, Field(gt=0)] = 5.0
    kv_usage_max_ratio: Annotated[float, Field(gt=0, le=1)] = 0.8


class FlowConfig(_Settings):
    mode: Literal["late-binding", "gate", "legacy"] = Field(
        default="late-binding",
        description="late-binding: a request waits for the endpoint that was chosen for it; gate:"
        " for the pool, as in the reference with its gate flowControl; legacy: nothing waits, and"
        " a saturated pool refuses negative priorities, as in the reference without the gate",
    )
    requests_max: NotNegative = Field(
        default=10_000, description="requests of the pool that may wait, over all bands; 0: any"
    )
    bytes_max: NotNegative = Field(
        default=2_000_000_000, description="bytes of their bodies; 0: any"
    )
    ttl_s: Seconds = Field(default=60.0, description="longest wait; 0: for ever")
    no_endpoint_ttl_s: Seconds = Field(
        default=0.0,
        description="longest wait while no endpoint is ready (scale from zero); 0: refused at once",
    )
    sheddable_wait_max_s: Seconds = Field(
        default=1.0,
        description="a negative priority that would have to wait longer is refused at once",
    )
    retry_after_max_s: Annotated[float, Field(ge=1, le=3_600)] = Field(
        default=60.0, description="the longest Retry-After that is promised"
    )
    keepalive_s: Annotated[float, Field(ge=1, le=3_600)] = Field(
        default=10.0,
        description="a stream that waits longer gets a comment at this pace, so that nothing on the"
        " way gives it up",
    )
    identity_header: str = Field(
        default="",
        description="header with the authenticated client: the flow of a request"
        " without a fairness id",
    )
    default_band: BandConfig = BandConfig()
    negative_band: BandConfig | None = Field(
        default=None, description="for negative priorities that are not listed; None: as any other"
    )
    bands: dict[int, BandConfig] = Field(default_factory=dict, description="by priority")
    detector: DetectorConfig = EngineQueueConfig()
    ceiling: CeilingConfig = CeilingConfig()
    shedding: SheddingConfig | None = None
    slo_admission: SloAdmissionOf = Field(
        default="all",
        description="whose latency objectives are a reason to refuse when none can be met: all"
        " requests that have one, negative priorities, or nobody",
    )

    def band(self, priority: int) -> BandConfig:
        """What holds for a priority."""
        listed = self.bands.get(priority)
        if listed is not None:
            return listed
        if priority < 0 and self.negative_band is not None:
            return self.negative_band
        return self.default_band
