"""Scheduling plugins of the reference that this gateway does not have, and what to do instead."""

from typing import Final

from .plugin_type import PluginType, Role, refused

_DISAGGREGATED = "prefill and decode on different servers are not supported"

NOT_SERVED: Final[tuple[PluginType, ...]] = (
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
