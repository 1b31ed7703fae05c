"""What control and the picker tell each other, as JSON lines over one unix socket.

Control sends a whole `PickerConfig` at every change; the picker builds a new runtime from it and
swaps (ARCHITECTURE.md rule 5), keeping what it knows of endpoints that stay. The picker sends a
`PickerStatus` when something changed, at least every second.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from inferway.picker.engine_config import EngineConfig  # noqa: TC001 - read at run time
from inferway.picker.flowcontrol.config import FlowConfig
from inferway.picker.health_config import HealthConfig


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KvEventsConfig(_Message):
    port: int = Field(description="where the first rank publishes; each further one a port higher")
    replay_port: int | None = Field(
        default=None, description="the same for missed events; None: they cannot be asked for"
    )
    ranks: int = Field(default=1, ge=1, description="data-parallel ranks behind the endpoint")
    topic: str = Field(default="", description="events of topics that begin so; empty: of all")


class EndpointConfig(_Message):
    address: str = Field(
        description="ip:port, or [ip6]:port: what Envoy and the destination header use"
    )
    server: str = Field(description="namespace/name of the ModelServer")
    engine: str = "vllm"
    metrics_path: str = "/metrics"
    labels: dict[str, str] = Field(default_factory=dict, description="of the ModelServer")
    kv_events: KvEventsConfig | None = Field(
        default=None, description="None: the server does not publish what its cache holds"
    )
    ready: bool = Field(default=True, description="false: health checks fail; it gets no picks")
    draining: bool = Field(default=False, description="true: it gets no picks, and ends its work")


class RewriteConfig(_Message):
    model: str = Field(
        description="name that is asked for; empty: every name without an own rewrite"
    )
    targets: tuple[tuple[str, Annotated[int, Field(ge=1)]], ...] = Field(
        min_length=1, description="models that serve it, each with its weight above 0"
    )
    sticky: Literal["none", "session", "user"] = Field(
        default="none", description="for whom the choice between several targets stays the same"
    )


class PluginConfig(_Message):
    type: str = Field(min_length=1, description="which plugin")
    name: str = Field(default="", description="unique inside a profile; empty: its type")
    weight: float = Field(
        default=1.0,
        allow_inf_nan=False,
        description="factor of its score or cost; others ignore it",
    )
    parameters: dict[str, JsonValue] = Field(
        default_factory=dict, description="arguments of the plugin, in camel case"
    )


class ProfileConfig(_Message):
    plugins: tuple[PluginConfig, ...] = Field(min_length=1, description="filters run in this order")


class PoolExplainConfig(_Message):
    record_every: int = Field(
        default=1, ge=0, description="one of so many decisions is kept; 0: none"
    )
    reason: bool = Field(
        default=False, description="true: tell the filter why, for the header of the response"
    )


class PoolConfig(_Message):
    name: str = Field(description="namespace/name of the InferencePool")
    endpoints: tuple[EndpointConfig, ...] = ()
    engines: tuple[EngineConfig, ...] = Field(
        default=(), description="beside the built-in ones, or in place of them"
    )
    policy: str = Field(default="marginal-cost", description="name of a profile that we bring")
    profile: ProfileConfig | None = Field(default=None, description="instead of the policy")
    objectives: dict[str, int] = Field(
        default_factory=dict, description="objective name to priority"
    )
    rewrites: tuple[RewriteConfig, ...] = ()
    first_token_deadline_ms: int = Field(
        default=0,
        ge=0,
        le=2**32 - 1,
        description="a stream without a token for so long gets another endpoint; 0: never",
    )
    health: HealthConfig = HealthConfig()
    explain: PoolExplainConfig = PoolExplainConfig()
    flow: FlowConfig = FlowConfig()


class ScrapeConfig(_Message):
    interval_min_s: float = Field(
        default=0.1, description="fastest pace per endpoint while requests run"
    )
    interval_max_s: float = Field(
        default=5.0, description="slowest pace, reached when idle or when the cost cap bites"
    )
    cost_max_ratio: float = Field(
        default=0.05, description="share of one core that scraping may use"
    )
    timeout_s: float = Field(default=1.0, description="per scrape")
    concurrency_max: int = Field(default=16, description="scrapes under way at once")


class ExplainConfig(_Message):
    decisions_max: int = Field(
        default=8_192,
        ge=0,
        le=1_000_000,
        description="picks of all pools that are remembered; 0: none",
    )
    bytes_max: int = Field(
        default=64 * 1024 * 1024, ge=0, description="memory that they may take (estimate)"
    )
    per_second_max: int = Field(
        default=1_000,
        ge=10,
        description="further picks of a second are not recorded: recording costs as much as a third"
        " of deciding, and what is remembered would reach back ever less",
    )


class PickerConfig(_Message):
    version: int = Field(description="counts up; echoed in the status")
    pools: tuple[PoolConfig, ...] = ()
    scrape: ScrapeConfig = ScrapeConfig()
    explain: ExplainConfig = ExplainConfig()
    measured: tuple[str, ...] = Field(
        default=(), description="pools whose versions are counted for a roll-out"
    )
    heartbeat_ms: int = Field(
        default=100,
        ge=10,
        le=10_000,
        description="pace of the heartbeats that tell a hung picker from a busy one",
    )
    index_blocks_max: int = Field(
        default=4_000_000, ge=1, description="prefix index entries over all endpoints"
    )


class SpeedStatus(_Message):
    """The engine constants in force, learnt from answers (docs/policies.md)."""

    prefill_tokens_per_s: float
    attention_s: float = Field(description="per pair of prompt tokens")
    first_token_s: float = Field(description="what a first token takes beyond its prefill")
    step_s: float = Field(description="one decode step of a batch of one")
    context_token_s: float = Field(description="per context token and step")
    observations: int = Field(description="that were believed")
    dropped: int = Field(description="observations that were not")


class EndpointStatus(_Message):
    address: str
    ready: bool = Field(default=True, description="false: it gets no picks")
    unready: str = Field(default="", description="why it is not ready")
    health: str = Field(default="active", description="active, ejected or probing")
    cause: str = Field(default="", description="what ejected it last, if that is not forgotten")
    until_s: float | None = Field(
        default=None, description="seconds until its ejection or its Retry-After is over"
    )
    weight: float = Field(default=1.0, description="part of its normal traffic that it gets")
    faults: dict[str, int] = Field(default_factory=dict, description="reported, by class")
    ejections: dict[str, int] = Field(default_factory=dict, description="by cause")
    reachable: bool | None = Field(description="None: not tried yet")
    age_s: float | None = Field(description="since the last good scrape")
    models: tuple[str, ...] = Field(
        default=(), description="models and adapters that /v1/models lists"
    )
    adapters: tuple[str, ...] = Field(
        default=(), description="those of them that are LoRA adapters"
    )
    parents: dict[str, str] = Field(
        default_factory=dict, description="each adapter's base model, as the server tells it"
    )
    in_flight: int = 0
    pending_tokens: int = Field(
        default=0, description="uncached prompt tokens sent there whose first token has not come"
    )
    waiting: float | None = None
    running: float | None = None
    kv_usage_ratio: float | None = None
    speed: SpeedStatus | None = Field(default=None, description="None: nothing is learnt yet")
    picks: int = 0


class TrafficStatus(_Message):
    """Counted since the picker started."""

    outcomes: dict[str, int] = Field(
        default_factory=dict, description="picks by what came of them; zeros are left out"
    )
    prompt_tokens: float = Field(default=0.0, description="of picked requests; estimate")
    matched_tokens: float = Field(
        default=0.0, description="those of them that the picked endpoint probably had cached"
    )
    ttft: tuple[tuple[float | None, int], ...] = Field(
        default=(),
        description="answers by the time to their first byte: upper bound in seconds (None: "
        "beyond all) and count; empty ones are left out",
    )


class PluginStatus(_Message):
    """A plugin that others wrote, in one pool."""

    name: str = Field(description="in its profile")
    type: str
    source: str = Field(description="where it was loaded from")
    version: str = Field(default="", description="in force; empty: none could be loaded")
    error: str = Field(default="", description="why the newest version is not in force")
    resting: bool = Field(default=False, description="after a fault; its term is left out")
    problem: str = Field(default="", description="the last fault of the version in force")
    calls: int = 0
    seconds: float = 0.0
    faults: dict[str, int] = Field(default_factory=dict, description="calls that failed, by cause")


class BandStatus(_Message):
    """Requests of one priority that wait in the picker."""

    priority: int
    requests: int
    bytes: int
    requests_max: int = Field(description="0: any number")
    bytes_max: int = Field(description="0: any number")
    flows: dict[str, int] = Field(default_factory=dict, description="requests by flow")


class FlowStatus(_Message):
    """What waits for a pool, highest priority first."""

    saturation: float | None = Field(
        default=None, description="of the pool, 1 is full; None: not known"
    )
    bands: tuple[BandStatus, ...] = ()
    requests_max: int = 0
    bytes_max: int = 0
    tickets: int = Field(default=0, description="refused requests that were told when to come back")


class PoolStatus(_Message):
    name: str
    endpoints: tuple[EndpointStatus, ...] = ()
    traffic: TrafficStatus = TrafficStatus()
    panic: bool = Field(
        default=False, description="so many are ejected that ejections are passed over"
    )
    plugins: tuple[PluginStatus, ...] = ()
    flow: FlowStatus = FlowStatus()


class VersionStatus(_Message):
    """Counted since the pool is measured. Histograms are (bucket, count) of
    observability.latency_buckets.
    """

    pool: str
    model: str
    served: int
    errors: int
    shed: int
    ttft: tuple[tuple[int, int], ...] = ()
    tpot: tuple[tuple[int, int], ...] = ()


class PickerStatus(_Message):
    version: int = Field(description="of the configuration that is in force")
    up_s: float = Field(default=0.0, description="since the picker started")
    pools: tuple[PoolStatus, ...] = ()
    versions: tuple[VersionStatus, ...] = ()
    filters: int = Field(default=0, description="Envoy processes whose filter is connected")
    error: str = Field(
        default="", description="why the newest configuration was refused, if it was"
    )
    metrics: str = Field(default="", description="the picker's own metrics in Prometheus text form")
