"""A control plane without Envoy and picker: everything around the reconciler plays as told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inferway.control.metrics import ControlMetrics
from inferway.control.reconciler import Outputs, Reconciler
from inferway.envoy.conversation import ProgrammingPhase, ProgrammingState, Rejection
from inferway.envoy.messages import InvalidResourceError, ResourceType
from inferway.envoy.settings import EnvoySettings
from inferway.envoy.snapshot import build_snapshot
from inferway.picker.config import EndpointStatus, PickerConfig, PickerStatus, PoolStatus
from inferway.resources.decode import decode
from inferway.resources.resource_set import assemble
from inferway.routing.settings import RoutingSettings
from inferway.sources.snapshot import Snapshot

if TYPE_CHECKING:
    from inferway.envoy.cluster_health import Unhealthy
    from inferway.envoy.clusters import Resolved
    from inferway.envoy.routes import Models
    from inferway.envoy.snapshot import Snapshot as XdsSnapshot
    from inferway.routing.model import RoutingModel

START = datetime(2025, 1, 1, tzinfo=UTC)

MANIFESTS = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: chat}
spec:
  selector: {matchLabels: {app: chat}}
  targetPorts: [{number: 8000}]
---
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: one, labels: {app: chat}}
spec: {addresses: [{host: 10.0.0.1}]}
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceObjective
metadata: {name: urgent}
spec: {priority: 10, poolRef: {name: chat}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: inferway}
spec: {controllerName: inferway.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: entrance}
spec:
  gatewayClassName: inferway
  listeners: [{name: http, protocol: HTTP, port: 8080}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: entrance}]
  rules:
    - backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: chat}]
"""


class World:
    """Clock, Envoy and picker, and what they were told."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.xds: list[XdsSnapshot] = []
        self.picker: list[PickerConfig] = []
        self.state = ProgrammingState(ProgrammingPhase.DISCONNECTED)
        self.status: PickerStatus | None = None
        self.unhealthy: Unhealthy = {}
        self.inexpressible = ""  # why the next configuration cannot be expressed
        self.builds = 0
        self.metrics = ControlMetrics()
        self.reconciler = Reconciler(
            Outputs(
                publish_xds=self._take_xds,
                publish_picker=self.picker.append,
                programming=lambda: self.state,
                picker_status=lambda: self.status,
                unhealthy=lambda: self.unhealthy,
            ),
            routing=RoutingSettings(),
            build=self._build,
            picker_defaults=PickerConfig(version=0, heartbeat_ms=50),
            metrics=self.metrics,
            clock=lambda: self.now_s,
            now=lambda: START + timedelta(seconds=self.now_s),
        )

    def _build(self, model: RoutingModel, resolved: Resolved, models: Models) -> XdsSnapshot:
        self.builds += 1
        if self.inexpressible:
            raise InvalidResourceError(self.inexpressible)
        return build_snapshot(
            model,
            resolved=resolved,
            models=models,
            settings=EnvoySettings(),
            pick_socket=Path("pick.sock"),
        )

    def _take_xds(self, snapshot: XdsSnapshot) -> None:
        self.xds.append(snapshot)
        self.state = ProgrammingState(ProgrammingPhase.PENDING, snapshot.version)

    def apply(self, text: str = MANIFESTS) -> None:
        """New manifests, as a source hands them over, and one round."""
        decoded = decode(text.encode(), file="all.yaml")
        resources, problems = assemble(decoded.entries)
        self.reconciler.accept(Snapshot(resources, (*decoded.problems, *problems), self.now_s))
        self.reconciler.reconcile()

    def envoy_acknowledges(self) -> None:
        self.state = ProgrammingState(ProgrammingPhase.PROGRAMMED, self.xds[-1].version)
        self.reconciler.reconcile()

    def envoy_refuses(self, why: str) -> None:
        version = self.xds[-1].version
        rejection = Rejection(ResourceType.LISTENER, version, why)
        self.state = ProgrammingState(ProgrammingPhase.REJECTED, version, (rejection,))
        self.reconciler.reconcile()

    def picker_reports(
        self, *models: str, adapters: tuple[str, ...] = (), error: str = "", version: int = 0
    ) -> None:
        """One endpoint per pool, with these models. `version` 0: the newest."""
        endpoint = EndpointStatus(
            address="10.0.0.1:8000", reachable=True, age_s=0.1, models=models, adapters=adapters
        )
        self.status = PickerStatus(
            version=version or self.picker[-1].version,
            pools=tuple(
                PoolStatus(name=pool.name, endpoints=(endpoint,)) for pool in self.picker[-1].pools
            ),
            error=error,
            metrics="inferway_picks_total 3\n",
        )
        self.reconciler.reconcile()

    def in_force(self) -> None:
        self.envoy_acknowledges()
        self.picker_reports()

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    @property
    def pools(self) -> dict[str, list[str]]:
        """What the picker was told last: pool name to addresses."""
        return {
            pool.name: [endpoint.address for endpoint in pool.endpoints]
            for pool in self.picker[-1].pools
        }


@pytest.fixture
def world() -> World:
    return World()
