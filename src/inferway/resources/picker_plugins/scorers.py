"""Scorers of the reference picker, with its names, parameters and defaults."""

from collections.abc import Mapping
from typing import Final, Literal, Self

from pydantic import Field, JsonValue, model_validator

from inferway.resources.meta import Model
from inferway.resources.scalars import (
    Boolean,
    Factor,
    HeaderName,
    Int64Count,
    LabelKey,
    Number,
    ObjectName,
    PositiveCount,
    Ratio,
)
from inferway.resources.violations import Violation, reject

from .plugin_type import PluginType, ReadsHeaders, Role, plugin
from .sessions import AttributeName, SessionAffinity

CONTEXT_RANGE_LABEL = "llm-d.ai/context-length-range"


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


class LatencyScorer(Model):
    """`latency-scorer`"""

    ttft_weight: Factor = 0.8
    tpot_weight: Factor = 0.2
    headroom_selection_strategy: Literal["least", "most"] = Field(
        default="least",
        description="of those that meet the objectives, the tightest fit or the most headroom",
    )
    composite_kv_weight: Factor | None = Field(default=None, alias="compositeKVWeight")
    composite_queue_weight: Factor | None = None
    composite_prefix_weight: Factor | None = None


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

SCORERS: Final[tuple[PluginType, ...]] = (
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
    *(
        plugin(
            name,
            Role.SCORER,
            "who meets the request's latency objectives, and by how much",
            LatencyScorer,
            ignored=dict.fromkeys(
                ("compositeKVWeight", "compositeQueueWeight", "compositePrefixWeight"),
                "there is always a prediction",
            ),
        )
        for name in ("latency-scorer", "predicted-latency-scorer")
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
