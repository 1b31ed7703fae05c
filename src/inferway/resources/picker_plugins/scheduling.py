"""Filters, scorers, costs and pickers: what a scheduling profile is made of.

Names, parameters and defaults of the reference's types are the reference's; ours are named after
the policies of docs/policies.md.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator

from inferway.resources.meta import Model
from inferway.resources.references import LabelSelector
from inferway.resources.scalars import (
    Between,
    Boolean,
    Factor,
    HeaderName,
    Int64Count,
    LabelKey,
    Number,
    ObjectName,
    PositiveCount,
    Ratio,
    Within,
)
from inferway.resources.violations import Violation, reject

from .plugin_type import PluginType, ReadsHeaders, Role, plugin, refused

SESSION_HEADER = "x-session-id"  # the picker is told of it in any case
ROLE_LABEL = "llm-d.ai/role"
CONTEXT_RANGE_LABEL = "llm-d.ai/context-length-range"

AttributeName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Conditions = Annotated[tuple["MetricLimit", ...], Field(min_length=1, max_length=8)]


class PrefixCacheScorer(Model):
    """`prefix-cache-scorer`"""

    match_length_weight: Ratio = Field(
        default=0.0, description="share of the score that long matches get for their length"
    )
    match_length_scale_tokens: PositiveCount = Field(
        default=8192, description="a match of so many tokens is as long as counts"
    )
    prefix_match_info_producer_name: ObjectName | None = None
    # Before the index had a plugin of its own, its parameters stood here.
    auto_tune: Boolean | None = None
    block_size: PositiveCount | None = None
    block_size_tokens: PositiveCount | None = None
    hash_block_size: PositiveCount | None = None
    max_prefix_blocks_to_match: Int64Count | None = None
    max_prefix_tokens_to_match: Int64Count | None = None
    lru_capacity_per_server: PositiveCount | None = None


class PrecisePrefixCacheScorer(Model):
    """`precise-prefix-cache-scorer`"""

    token_processor_config: Mapping[str, JsonValue] | None = None
    indexer_config: Mapping[str, JsonValue] | None = None
    kv_events_config: Mapping[str, JsonValue] | None = None
    speculative_indexing: Boolean | None = None


class NoHitLruScorer(Model):
    """`no-hit-lru-scorer`"""

    lru_size: PositiveCount = Field(default=1024, description="endpoints that are remembered")
    prefix_plugin_type: ObjectName | None = None
    prefix_plugin_name: ObjectName | None = None
    prefix_match_info_producer_name: ObjectName | None = None


class TokenLoadScorer(Model):
    """`token-load-scorer`"""

    queue_threshold_tokens: PositiveCount = Field(
        default=4_194_304, description="uncached tokens in flight that score 0"
    )


class ActiveRequestScorer(Model):
    """`active-request-scorer`"""

    idle_threshold: Int64Count = Field(default=0, description="so many requests are as good as 0")
    max_busy_score: Ratio = Field(default=1.0, description="best score of one that is not idle")
    request_timeout: str | None = None


class LoadAwareScorer(Model):
    """`load-aware-scorer`"""

    threshold: PositiveCount = Field(default=128, description="waiting requests that score 0")


class ContextLengthAware(Model):
    """`context-length-aware`"""

    label: LabelKey = Field(default=CONTEXT_RANGE_LABEL, description="its value is min-max, tokens")
    enable_filtering: Boolean = Field(
        default=False, description="as a filter: drop endpoints whose range does not fit"
    )


class EncodedEndpointHeader(Model):
    header: HeaderName = "x-session-token"


class SessionSource(Model):
    """One of the two."""

    header: HeaderName | None = None
    attribute: AttributeName | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if (self.header is None) == (self.attribute is None):
            reject([Violation("needs either header or attribute")])
        return self


class SessionIdConfig(Model):
    sources: Annotated[tuple[SessionSource, ...], Field(min_length=1, max_length=8)] = (
        SessionSource(header=SESSION_HEADER),
    )
    eviction_ttl_s: PositiveCount = Field(
        default=300, alias="evictionTtlSeconds", description="a session is forgotten when unused"
    )
    eviction_sweep_s: PositiveCount | None = Field(default=None, alias="evictionSweepSeconds")


class SessionAffinity(ReadsHeaders):
    """`session-affinity-scorer`, `session-affinity-filter`"""

    strategy: Literal["encoded_endpoint_header", "session_id"] = "encoded_endpoint_header"
    encoded_endpoint_header_config: EncodedEndpointHeader = EncodedEndpointHeader()
    session_id_config: SessionIdConfig = SessionIdConfig()
    profile_name: ObjectName | None = None

    def request_headers(self) -> tuple[str, ...]:
        if self.strategy == "encoded_endpoint_header":
            return (self.encoded_endpoint_header_config.header.lower(),)
        names = [one.header.lower() for one in self.session_id_config.sources if one.header]
        return tuple(name for name in names if name != SESSION_HEADER)


class HeaderLabelAffinity(ReadsHeaders):
    """`header-label-affinity-scorer`"""

    header_name: HeaderName
    label_key: LabelKey

    def request_headers(self) -> tuple[str, ...]:
        return (self.header_name.lower(),)


class FixedRange(Model):
    min: Number
    max: Number

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.max <= self.min:
            reject([Violation(f"must be greater than min: {self.max:g}", ("max",))])
        return self


class Normalization(Model):
    """One of the two; none is the adaptive range."""

    adaptive_range: Mapping[str, JsonValue] | None = Field(
        default=None, description="from the least to the greatest of the candidates"
    )
    fixed_range: FixedRange | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if self.adaptive_range is not None and self.fixed_range is not None:
            reject([Violation("needs either adaptiveRange or fixedRange")])
        return self


class LinearAlgorithm(Model):
    type: Literal["linear_lower", "linear_higher"] = Field(description="which values are better")
    normalization: Normalization = Normalization()


class EndpointAttributeScorer(Model):
    """`endpoint-attribute-scorer`"""

    attribute_key: AttributeName
    algorithm: LinearAlgorithm
    producer: ObjectName | None = None


class PrefixCacheAffinityFilter(Model):
    """`prefix-cache-affinity-filter`"""

    affinity_threshold: Ratio = Field(
        default=0.8, description="share of the prompt that an endpoint must hold to be kept"
    )
    exploration_probability: Ratio = Field(
        default=0.0, description="chance that a request is kept by everyone"
    )
    max_ttft_penalty_ms: Factor = Field(
        default=18_000.0,
        alias="maxTTFTPenaltyMs",
        description="when the best of them would start so much later than the best other, "
        "everyone is kept",
    )
    ttft_source: Literal["prefillThroughput", "latencyPredictor"] = "prefillThroughput"
    peak_prefill_throughput: Annotated[int, Between(1, 10_000_000)] = Field(
        default=15_928, description="tokens per second of one endpoint"
    )


class MetricLimit(Model):
    metric: Literal["active-requests", "running-requests", "waiting-queue", "kv-cache-utilization"]
    max_value: Factor


class UtilizationFilter(Model):
    """`utilization-filter`"""

    conditions: Conditions
    fallback_on_empty: Boolean = Field(default=False, description="keep everyone instead of nobody")


class Threshold(Model):
    operator: Literal["<", "<=", ">", ">=", "==", "!=", "lt", "le", "gt", "ge", "eq", "ne"]
    value: Number


class ThresholdAlgorithm(Model):
    threshold: Threshold


class EndpointAttributeFilter(Model):
    """`endpoint-attribute-filter`"""

    attribute: AttributeName
    algorithm: ThresholdAlgorithm
    on_missing: Literal["Pass", "Reject"] = Field(
        default="Pass", description="what happens to endpoints without the value"
    )
    fallback_on_empty: Boolean = False


class ByLabel(Model):
    """`by-label`"""

    label: LabelKey
    valid_values: Annotated[tuple[str, ...], Field(max_length=64)] = ()
    allows_no_label: Boolean = False


class MaxEndpoints(Model):
    """The three pickers."""

    max_num_of_endpoints: PositiveCount | None = Field(
        default=None,
        description="how many endpoints an answer names, fallbacks included; unset, and at most: 4",
    )


class PowerOfTwo(Model):
    """`power-of-two`"""

    choices: Annotated[int, Between(2, 16)] = Field(
        default=2, description="endpoints that are drawn and compared"
    )


class ConsistentHash(Model):
    """`consistent-hash`"""

    key: Literal["session", "user", "prefix"] = Field(
        default="session", description="what is hashed; a request without it goes by load"
    )
    load_factor: Annotated[float, Within(1, 100)] = Field(
        default=1.25, description="an endpoint takes no more than so many times the mean load"
    )
    prefix_blocks: Annotated[int, Between(1, 1024)] = Field(
        default=4, description="leading blocks of the prompt that make up the key `prefix`"
    )


_INDEX = "the prefix index sizes itself by what each engine's cache holds"
_PRODUCER = "there is one prefix index"
_PREFIX_IGNORED = {
    "prefixMatchInfoProducerName": _PRODUCER,
    **dict.fromkeys(
        (
            "blockSize",
            "blockSizeTokens",
            "hashBlockSize",
            "maxPrefixBlocksToMatch",
            "maxPrefixTokensToMatch",
            "lruCapacityPerServer",
        ),
        _INDEX,
    ),
}

_SCORERS = (
    plugin("queue-scorer", Role.SCORER, "fewest waiting requests, min-max over the candidates"),
    plugin("running-requests-size-scorer", Role.SCORER, "fewest running requests, the same way"),
    plugin("kv-cache-utilization-scorer", Role.SCORER, "1 - KV cache usage"),
    plugin("kv-cache-scorer", Role.SCORER, "old name of `kv-cache-utilization-scorer`"),
    plugin("lora-affinity-scorer", Role.SCORER, "1 / 0.8 / 0.6 / 0 by where the adapter is"),
    plugin(
        "prefix-cache-scorer",
        Role.SCORER,
        "share of the prompt in the cache, with a part for its length",
        PrefixCacheScorer,
        ignored=_PREFIX_IGNORED,
    ),
    plugin(
        "precise-prefix-cache-scorer",
        Role.SCORER,
        "as `prefix-cache-scorer`: engines that publish KV events are known precisely",
        PrecisePrefixCacheScorer,
        ignored=dict.fromkeys(
            ("tokenProcessorConfig", "indexerConfig", "kvEventsConfig", "speculativeIndexing"),
            "there is one prefix index, and it reads KV events where servers publish them",
        ),
    ),
    plugin(
        "no-hit-lru-scorer",
        Role.SCORER,
        "requests that nobody has cached go to who got the last such request longest ago",
        NoHitLruScorer,
        ignored=dict.fromkeys(
            ("prefixPluginType", "prefixPluginName", "prefixMatchInfoProducerName"), _PRODUCER
        ),
    ),
    plugin("token-load-scorer", Role.SCORER, "fewest uncached tokens in flight", TokenLoadScorer),
    plugin(
        "active-request-scorer",
        Role.SCORER,
        "fewest requests in flight, relative to the most",
        ActiveRequestScorer,
        ignored={"requestTimeout": "requests in flight end when their streams end"},
    ),
    plugin(
        "load-aware-scorer", Role.SCORER, "0.5 when nothing waits, less the more", LoadAwareScorer
    ),
    plugin(
        "context-length-aware",
        (Role.SCORER, Role.FILTER),
        "who is meant for prompts of this length, by a label",
        ContextLengthAware,
    ),
    plugin(
        "session-affinity-scorer",
        Role.SCORER,
        "1 for the endpoint of the session",
        SessionAffinity,
        ignored={"profileName": "there is one profile"},
    ),
    plugin(
        "header-label-affinity-scorer",
        Role.SCORER,
        "1 where a label has the value of a request header",
        HeaderLabelAffinity,
    ),
    plugin(
        "endpoint-attribute-scorer",
        Role.SCORER,
        "linear in a scraped value",
        EndpointAttributeScorer,
        ignored={"producer": "attributes are scraped values, by their name"},
    ),
)

_FILTERS = (
    plugin(
        "prefix-cache-affinity-filter",
        Role.FILTER,
        "keeps who has most of the prompt cached, unless they are too busy",
        PrefixCacheAffinityFilter,
    ),
    plugin("utilization-filter", Role.FILTER, "drops who exceeds a limit", UtilizationFilter),
    plugin(
        "endpoint-attribute-filter",
        Role.FILTER,
        "drops by a threshold for a scraped value",
        EndpointAttributeFilter,
    ),
    plugin("label-selector-filter", Role.FILTER, "keeps by labels", LabelSelector),
    plugin("by-label-selector", Role.FILTER, "old name of `label-selector-filter`", LabelSelector),
    plugin("by-label", Role.FILTER, "keeps by the values of one label", ByLabel),
    plugin(
        "session-affinity-filter",
        Role.FILTER,
        "keeps the endpoint of the session while it is there",
        SessionAffinity,
        ignored={"profileName": "there is one profile"},
    ),
    plugin("decode-filter", Role.FILTER, f"keeps `{ROLE_LABEL}` with decode, or without a role"),
    plugin("prefill-filter", Role.FILTER, f"keeps `{ROLE_LABEL}` with prefill"),
    plugin("encode-filter", Role.FILTER, f"keeps `{ROLE_LABEL}` with encode"),
)

_PICKERS = (
    plugin("max-score-picker", Role.PICKER, "the best; ties are broken at random", MaxEndpoints),
    plugin("random-picker", Role.PICKER, "any candidate", MaxEndpoints),
    plugin(
        "weighted-random-picker", Role.PICKER, "by chance in proportion to the score", MaxEndpoints
    ),
)

_POLICIES = (
    plugin("marginal-cost", Role.COST, "expected marginal latency, in seconds"),
    plugin("expected-ttft", Role.COST, "expected time to the first token, in seconds"),
    plugin("lmetric", Role.COST, "uncached tokens ahead times requests in flight"),
    plugin("least-request", Role.COST, "requests in flight"),
    plugin("power-of-two", Role.COST, "requests in flight of a few drawn at random", PowerOfTwo),
    plugin("consistent-hash", Role.COST, "place on a hash ring, loads bounded", ConsistentHash),
    plugin("round-robin", Role.COST, "turns away from the next"),
    plugin("random", Role.COST, "chance"),
)

_DISAGGREGATED = "prefill and decode on different servers are not supported"
_USE_COST = "use marginal-cost, which predicts latency in process"

_REFUSED = (
    refused(
        "topology-affinity-scorer",
        Role.SCORER,
        "nothing tells where endpoints stand",
        "label the servers and use header-label-affinity-scorer or label-selector-filter",
    ),
    refused(
        "topology-affinity-filter",
        Role.FILTER,
        "nothing tells where endpoints stand",
        "label the servers and use label-selector-filter",
    ),
    refused(
        "mm-embeddings-cache-scorer",
        Role.SCORER,
        "caches of image embeddings are not tracked",
        "prefix-cache-scorer covers prompts with images as far as their text goes",
    ),
    refused("latency-scorer", Role.SCORER, "it needs a prediction service", _USE_COST),
    refused("predicted-latency-scorer", Role.SCORER, "it needs a prediction service", _USE_COST),
    refused("slo-headroom-tier-filter", Role.FILTER, "it needs a prediction service", _USE_COST),
    *(
        refused(
            f"multicluster-{name}-scorer",
            Role.SCORER,
            "peer clusters are not known",
            "name the servers of both clusters in one pool",
        )
        for name in ("queue", "kv-cache-utilization", "prefix-cache")
    ),
    refused(
        "header-based-testing-filter",
        Role.FILTER,
        "clients do not choose endpoints",
        "conformance tests use subset hints",
    ),
    *(
        refused(name, Role.PROFILE_HANDLER, _DISAGGREGATED, "use one profile, without a handler")
        for name in (
            "disagg-profile-handler",
            "pd-profile-handler",
            "data-parallel-profile-handler",
            "header-profile-handler",
            "slo-aware-profile-handler",
            "predicted-latency-profile-handler",
        )
    ),
    *(
        refused(name, Role.OTHER, _DISAGGREGATED, "remove it")
        for name in (
            "prefix-based-pd-decider",
            "always-disagg-pd-decider",
            "always-disagg-multimodal-decider",
            "disagg-headers-handler",
            "prefill-header-handler",
            "disaggregatedset-rollout-screener",
        )
    ),
)

SCHEDULING_PLUGINS: tuple[PluginType, ...] = (
    *_SCORERS,
    *_FILTERS,
    *_PICKERS,
    *_POLICIES,
    *_REFUSED,
)
