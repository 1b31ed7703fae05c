"""The plugins that a profile can name by type, and the policies: profiles that have a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.scheduling.consistent_hash import ConsistentHash
from inferway.picker.scheduling.expected_ttft import ExpectedTtft
from inferway.picker.scheduling.filters import attribute as kept_attribute
from inferway.picker.scheduling.filters import (
    labels,
    prefix_affinity,
    saturation,
    slo_headroom,
    utilization,
)
from inferway.picker.scheduling.filters import session_affinity as kept_session
from inferway.picker.scheduling.least_request import LeastRequest
from inferway.picker.scheduling.lmetric import Lmetric
from inferway.picker.scheduling.marginal_cost import MarginalCost
from inferway.picker.scheduling.pickers import max_score, random_picker, weighted_random
from inferway.picker.scheduling.plugins import made
from inferway.picker.scheduling.power_of_two import PowerOfTwo
from inferway.picker.scheduling.presets import POLICIES
from inferway.picker.scheduling.profile import Profile, Term
from inferway.picker.scheduling.random_choice import RandomChoice
from inferway.picker.scheduling.round_robin import RoundRobin
from inferway.picker.scheduling.scorers import (
    active_requests,
    context_length,
    header_label,
    kv_usage,
    latency,
    load_aware,
    lora_affinity,
    no_hit_lru,
    prefix,
    queue,
    running,
    token_load,
)
from inferway.picker.scheduling.scorers import attribute as scored_attribute
from inferway.picker.scheduling.scorers import session_affinity as scored_session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.picker.config import PluginConfig, ProfileConfig
    from inferway.picker.scheduling.plugins import Factory

__all__ = ["PLUGINS", "POLICIES", "profile_of"]

PLUGINS: Mapping[str, Factory] = {
    "marginal-cost": MarginalCost,
    "expected-ttft": ExpectedTtft,
    "lmetric": Lmetric,
    "least-request": LeastRequest,
    "power-of-two": PowerOfTwo,
    "consistent-hash": ConsistentHash,
    "round-robin": RoundRobin,
    "random": RandomChoice,
    "queue-scorer": queue.Queue,
    "running-requests-size-scorer": running.Running,
    "kv-cache-utilization-scorer": kv_usage.KvUsage,
    "kv-cache-scorer": kv_usage.KvUsage,
    "prefix-cache-scorer": prefix.Prefix,
    "precise-prefix-cache-scorer": prefix.precise,
    "lora-affinity-scorer": lora_affinity.LoraAffinity,
    "token-load-scorer": token_load.TokenLoad,
    "active-request-scorer": active_requests.ActiveRequests,
    "load-aware-scorer": load_aware.LoadAware,
    "no-hit-lru-scorer": no_hit_lru.NoHitLru,
    "context-length-aware": context_length.context_length_aware,
    "latency-scorer": latency.Latency,
    "predicted-latency-scorer": latency.Latency,
    "session-affinity-scorer": scored_session.SessionAffinity,
    "header-label-affinity-scorer": header_label.HeaderLabel,
    "endpoint-attribute-scorer": scored_attribute.EndpointAttribute,
    "prefix-cache-affinity-filter": prefix_affinity.PrefixAffinity,
    "slo-headroom-tier-filter": slo_headroom.SloHeadroom,
    "utilization-filter": utilization.Utilization,
    "utilization-detector": saturation.UtilizationDetector,
    "concurrency-detector": saturation.ConcurrencyDetector,
    "endpoint-attribute-filter": kept_attribute.EndpointAttribute,
    "label-selector-filter": labels.label_selector,
    "by-label-selector": labels.label_selector,
    "by-label": labels.by_label,
    "session-affinity-filter": kept_session.SessionAffinity,
    "decode-filter": labels.decode_role,
    "prefill-filter": labels.prefill_role,
    "encode-filter": labels.encode_role,
    "max-score-picker": max_score.MaxScore,
    "random-picker": random_picker.RandomPicker,
    "weighted-random-picker": weighted_random.WeightedRandom,
}


def policy(name: str) -> ProfileConfig:
    """The profile of that name. ValueError names those there are."""
    if name not in POLICIES:
        raise ValueError(f"policy: {name!r}; known: {', '.join(POLICIES)}")
    return POLICIES[name]


def term_of(config: PluginConfig) -> Term:
    """One of our own plugins. ValueError says what is wrong, and names what there is."""
    name = config.name or config.type
    factory = PLUGINS.get(config.type)
    if factory is None:
        raise ValueError(f"plugin {name}: type {config.type!r}; known: {', '.join(PLUGINS)}")
    return Term(name, made(factory, config.parameters, name=f"plugin {name}"), config.weight)


def profile_of(name: str, config: ProfileConfig | None = None) -> Profile:
    """A new profile of our own plugins: as configured, or else the policy of that name."""
    config = policy(name) if config is None else config
    return Profile(name, [term_of(plugin) for plugin in config.plugins])
