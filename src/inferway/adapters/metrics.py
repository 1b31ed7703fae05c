"""The syncer's metrics. `lora_syncer_adapter_status` is the upstream side-car's name and label, so
that dashboards and alerts for it work; with several servers it is 1 when all of them have the
adapter, and `inferway_adapter_loaded` says it per server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from inferway.adapters.plan import Load

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.adapters.plan import Call


class SyncMetrics:
    """One registry per instance."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.status = Gauge(
            "lora_syncer_adapter_status",
            "1: every server has the adapter loaded; 0: not",
            ["adapter_name"],
            registry=self.registry,
        )
        self.loaded = Gauge(
            "inferway_adapter_loaded",
            "1: this server has the adapter loaded; 0: not",
            ["adapter_name", "server"],
            registry=self.registry,
        )
        self.calls = Counter(
            "inferway_adapter_calls",
            "Loads and unloads that servers were asked for; result: ok, refused, failed",
            ["operation", "result"],
            registry=self.registry,
        )
        self.unhealthy_servers = Counter(
            "inferway_adapter_servers_unhealthy",
            "Times that a server did not become healthy within the time-out",
            registry=self.registry,
        )
        self.config_reads = Counter(
            "inferway_adapter_config_reads",
            "Versions of the configuration file that were read; result: good, bad",
            ["result"],
            registry=self.registry,
        )

    def called(self, call: Call, result: str) -> None:
        operation = "load" if isinstance(call, Load) else "unload"
        self.calls.labels(operation, result).inc()

    def unhealthy(self) -> None:
        self.unhealthy_servers.inc()

    def text(self, adapters: Iterable[tuple[str, str, bool]]) -> str:
        """Prometheus text form; `adapters` as `Syncer.adapters` gives them."""
        everywhere: dict[str, bool] = {}
        self.status.clear()
        self.loaded.clear()
        for name, server, loaded in adapters:
            everywhere[name] = everywhere.get(name, True) and loaded
            self.loaded.labels(name, server).set(loaded)
        for name, loaded in everywhere.items():
            self.status.labels(name).set(loaded)
        return generate_latest(self.registry).decode()
