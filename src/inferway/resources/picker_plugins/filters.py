"""Filters of the reference picker, with its names, parameters and defaults."""

from typing import Annotated, Final, Literal

from pydantic import Field

from inferway.resources.meta import Model
from inferway.resources.references import LabelSelector
from inferway.resources.scalars import (
    Between,
    Boolean,
    Factor,
    LabelKey,
    Number,
    Ratio,
)

from .plugin_type import PluginType, Role, plugin
from .sessions import AttributeName, SessionAffinity

ROLE_LABEL = "llm-d.ai/role"

Conditions = Annotated[tuple["MetricLimit", ...], Field(min_length=1, max_length=8)]


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


class SloHeadroomTierFilter(Model):
    """`slo-headroom-tier-filter`"""

    epsilon_explore_neg: Ratio = Field(
        default=0.01, description="chance that those are kept that would miss them"
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


FILTERS: Final[tuple[PluginType, ...]] = (
    plugin(
        "prefix-cache-affinity-filter",
        Role.FILTER,
        "keeps who has most of the prompt cached, unless they are too busy",
        PrefixCacheAffinityFilter,
    ),
    plugin(
        "slo-headroom-tier-filter",
        Role.FILTER,
        "keeps who is predicted to meet the request's latency objectives",
        SloHeadroomTierFilter,
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
