"""Control's own metrics. One registry per instance: two gateways can live in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.routing.model import Certificate

APPLY_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class ControlMetrics:
    """What the control plane counts."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.apply_seconds = Histogram(
            "inferway_config_apply_seconds",
            "From the change of a manifest until Envoy and the picker follow it",
            buckets=APPLY_BUCKETS_S,
            registry=self.registry,
        )
        self.translate_seconds = Histogram(
            "inferway_config_translate_seconds",
            "Building everything from the resources",
            buckets=APPLY_BUCKETS_S,
            registry=self.registry,
        )
        self.rejections = Counter(
            "inferway_config_rejections",
            "Configurations that Envoy or the picker refused",
            ["part"],
            registry=self.registry,
        )
        self.resources = Gauge(
            "inferway_resources", "Objects in force", ["kind"], registry=self.registry
        )
        self.certificate_expiry = Gauge(
            "inferway_certificate_expiry_timestamp_seconds",
            "When the certificate of a Secret that a listener shows expires, in Unix time",
            ["namespace", "secret"],
            registry=self.registry,
        )
        self.problems = Gauge(
            "inferway_manifest_problems",
            "Problems in the manifests as they are now",
            ["severity"],
            registry=self.registry,
        )
        self.restarts = Counter(
            "inferway_part_restarts",
            "Parts that ended by themselves and were started again",
            ["part"],
            registry=self.registry,
        )

        self.rollout_phase = Gauge(
            "inferway_rollout_phase",
            "1 for the phase that a roll-out is in",
            ["namespace", "rollout", "phase"],
            registry=self.registry,
        )
        self.rollout_share = Gauge(
            "inferway_rollout_new_version_ratio",
            "Share of the weights that a roll-out gave the new version",
            ["namespace", "rollout"],
            registry=self.registry,
        )
        self.rollout_events = Counter(
            "inferway_rollout_events",
            "Steps, pauses, roll-backs and other events of a roll-out",
            ["namespace", "rollout", "event"],
            registry=self.registry,
        )

    def show_certificates(self, certificates: Iterable[Certificate]) -> None:
        """The dates of exactly these certificates."""
        self.certificate_expiry.clear()
        for one in certificates:
            namespace, _, secret = one.name.partition("/")
            self.certificate_expiry.labels(namespace, secret).set(one.expires.timestamp())

    def text(self) -> str:
        """Prometheus text form."""
        return generate_latest(self.registry).decode()
