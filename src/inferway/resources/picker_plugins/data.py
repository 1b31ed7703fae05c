"""What feeds decisions: parsers, producers, data sources, extractors, reporters.

Most of it the gateway does without being told.
"""

from collections.abc import Mapping

from pydantic import Field, JsonValue

from inferway.resources.meta import Model
from inferway.resources.scalars import (
    Boolean,
    Factor,
    GoDuration,
    Int64Count,
    ObjectName,
    PortNumber,
    PositiveCount,
)

from .engine_mappings import CoreExtractor
from .plugin_type import PluginType, Role, built_in, plugin, refused
from .sessions import SessionIds

_Free = Mapping[str, JsonValue]


class ApproximateIndex(Model):
    """`approx-prefix-cache-producer`"""

    auto_tune: Boolean | None = None
    block_size: PositiveCount | None = None
    block_size_tokens: PositiveCount | None = None
    max_prefix_tokens_to_match: Int64Count | None = None
    max_prefix_blocks_to_match: Int64Count | None = None
    lru_capacity_per_server: PositiveCount | None = None


_INDEX = "the prefix index sizes itself by what each engine's cache holds"
_SIZES = tuple(
    field.alias or name
    for name, field in ApproximateIndex.model_fields.items()
    if name != "auto_tune"
)


class PodDiscovery(Model):
    """Endpoints are those of the pool; only the port is used."""

    pod_label_selector: str | None = None
    pod_namespace: str | None = None
    socket_port: PortNumber | None = None


class KvEventsConfig(Model):
    """Where engines publish KV events, as the reference says it. Both engines' shapes are read, and
    each endpoint is followed at its own address.
    """

    zmq_endpoint: str | None = None
    topic_filter: str | None = None
    concurrency: PositiveCount | None = None
    discover_pods: Boolean | None = None
    pod_discovery_config: PodDiscovery | None = None
    engine_type: str | None = None


class PreciseIndex(Model):
    """`precise-prefix-cache-producer`"""

    token_processor_config: _Free | None = None
    indexer_config: _Free | None = None
    kv_events_config: KvEventsConfig | None = None
    speculative_indexing: Boolean | None = None
    speculative_ttl: GoDuration | None = Field(default=None, alias="speculativeTTL")


class Tokens(Model):
    """`token-producer`"""

    estimate: _Free | None = None
    vllm: _Free | None = None
    model_name: str | None = None
    uds_tokenizer_config: _Free | None = None


class InFlightLoad(Model):
    """`inflight-load-producer`"""

    add_estimated_output_tokens: Boolean | None = None
    output_ratio: Factor | None = None
    max_estimated_output_tokens: Int64Count | None = None
    sync_cross_replica_state: Boolean | None = None


class PredictedLatency(Model):
    """`predicted-latency-producer`"""

    slo_buffer_factor: Factor | None = None
    context_ttl: GoDuration | None = Field(default=None, alias="contextTTL")
    streaming_mode: Boolean | None = None
    predict_in_produce: Boolean | None = None
    sampling_mean: Factor | None = None
    max_decode_token_samples_for_prediction: Int64Count | None = None
    endpoint_role_label: str | None = None
    use_encoder_cache_features: Boolean | None = None


class MetricsSource(Model):
    """`metrics-data-source`"""

    scheme: str | None = None
    path: str | None = None
    port: PositiveCount | None = None
    insecure_skip_verify: Boolean | None = None
    ca_cert_path: str | None = None
    client_cert_path: str | None = None
    client_key_path: str | None = None
    interval: GoDuration | None = None


class NotificationSource(Model):
    """`k8s-notification-source`"""

    group: str | None = None
    version: str | None = None
    kind: str | None = None


class ParserPaths(Model):
    """Every parser."""

    name: ObjectName | None = None


_PARSED = "every API that the gateway knows is parsed, by path"
METRICS_EXTRACTORS = ("core-metrics-extractor", "model-server-protocol-metrics")  # one, renamed
_SCRAPED = "metrics are scraped as the ModelServer says, at a pace that adapts"

DATA_PLUGINS: tuple[PluginType, ...] = (
    built_in("single-profile-handler", Role.PROFILE_HANDLER, "there is one profile"),
    *(
        built_in(name, Role.PARSER, _PARSED)
        for name in (
            "openai-parser",
            "anthropic-parser",
            "vllmhttp-parser",
            "passthrough-parser",
        )
    ),
    *(
        refused(
            name, Role.PARSER, "requests of this API are not read", "such requests are passed on"
        )
        for name in ("sglanghttp-parser", "vllmgrpc-parser", "vertexai-parser")
    ),
    built_in(
        "approx-prefix-cache-producer",
        Role.OTHER,
        _INDEX,
        ApproximateIndex,
        ignored=dict.fromkeys(_SIZES, _INDEX),
    ),
    plugin(
        "precise-prefix-cache-producer",
        Role.OTHER,
        "the prefix index follows the KV events that every server of the pool publishes, at "
        "`kvEventsConfig.podDiscoveryConfig.socketPort` (5557)",
        PreciseIndex,
        ignored={
            "tokenProcessorConfig": "there is no tokenizer: docs/kv-events.md",
            "indexerConfig": "the prefix index sizes itself by what each engine's cache holds",
            "speculativeIndexing": "a prompt is in the index from the pick on",
            "speculativeTTL": "what is not confirmed leaves as the least recently used does",
        },
    ),
    built_in(
        "token-producer", Role.OTHER, "tokens are estimated from bytes, measured per model", Tokens
    ),
    built_in(
        "tokenizer", Role.OTHER, "tokens are estimated from bytes, measured per model", Tokens
    ),
    built_in(
        "inflight-load-producer", Role.OTHER, "work in flight is always counted", InFlightLoad
    ),
    built_in(
        "predicted-latency-producer",
        Role.OTHER,
        "latency is predicted in process, from speeds learnt from answers",
        PredictedLatency,
    ),
    plugin(
        "session-id-producer",
        Role.OTHER,
        "what session affinity finds where its source is an attribute",
        SessionIds,
    ),
    built_in("metrics-data-source", Role.DATA_SOURCE, _SCRAPED, MetricsSource),
    *(
        plugin(name, Role.EXTRACTOR, "what engines call their metrics", CoreExtractor)
        for name in METRICS_EXTRACTORS
    ),
    built_in("models-data-source", Role.DATA_SOURCE, "/v1/models is always read", MetricsSource),
    built_in("models-data-extractor", Role.EXTRACTOR, "/v1/models is always read"),
    built_in(
        "k8s-notification-source",
        Role.DATA_SOURCE,
        "endpoints are those of the manifests",
        NotificationSource,
    ),
    built_in(
        "endpoint-notification-source", Role.DATA_SOURCE, "endpoints are those of the manifests"
    ),
    built_in(
        "destination-endpoint-served-verifier", Role.OTHER, "a test plugin; it has no effect here"
    ),
    *(
        refused(name, Role.OTHER, why, instead)
        for name, why, instead in (
            (
                "burst-prefix-cache-producer",
                "requests are not held back to be sorted",
                "bursts spread, and equal prompts follow the prefix index",
            ),
            (
                "mm-embeddings-cache-producer",
                "caches of image embeddings are not tracked",
                "remove it",
            ),
            ("p2p-source-producer", "caches are not copied between servers", "remove it"),
            (
                "request-attribute-reporter",
                "usage is reported as metrics, not to other filters",
                "see docs/metrics.md",
            ),
            (
                "agent-identity",
                "fairness goes by the fairness header",
                "send x-llm-d-inference-fairness-id",
            ),
        )
    ),
    *(
        refused(name, Role.DATA_SOURCE, why, "label the servers by hand")
        for name, why in (
            ("dcgm-data-source", "GPU exporters are not scraped"),
            ("multicluster-metrics-data-source", "peer clusters are not known"),
        )
    ),
    *(
        refused(name, Role.EXTRACTOR, why, "label the servers by hand")
        for name, why in (
            ("dcgm-extractor", "GPU exporters are not scraped"),
            ("topology-extractor", "nothing tells where endpoints stand"),
            ("multicluster-metrics-extractor", "peer clusters are not known"),
        )
    ),
)
