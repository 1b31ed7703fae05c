"""From the newest resources to what Envoy, the picker and people see, whenever anything changed.

Problem: manifests, DNS answers, the models that servers report and Envoy's acknowledgements all
change on their own time, and every output must follow from one consistent view. Model: `Reconciler`
keeps the newest of each input; any change sets one flag; one loop builds everything anew and
publishes what differs (ARCHITECTURE.md rule 5: start-up and reload are the same function).
Invariants: what Envoy cannot express is never published and the last good state stays; status
always says what is in force. It reads no files and starts no processes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from inferway.control.models import listed_models
from inferway.control.resolver import Resolver
from inferway.envoy.conversation import ProgrammingPhase
from inferway.envoy.messages import InvalidResourceError
from inferway.envoy.snapshot import build_snapshot
from inferway.observability.logging import get_logger
from inferway.picker.config import EndpointConfig, PickerConfig, PoolConfig
from inferway.resources import ResourceSet
from inferway.resources.kinds import KINDS
from inferway.routing.picker_config import hosts_to_resolve, pool_targets
from inferway.routing.status import (
    ObjectStatus,
    ProgrammingState,
    with_programming,
    with_transition_times,
)
from inferway.routing.translate import Translation, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from inferway.control.metrics import ControlMetrics
    from inferway.envoy.conversation import ProgrammingState as EnvoyState
    from inferway.envoy.settings import EnvoySettings
    from inferway.envoy.snapshot import Snapshot as XdsSnapshot
    from inferway.picker.config import PickerStatus
    from inferway.resources.meta import ResourceKey
    from inferway.resources.problems import Problem
    from inferway.routing.settings import RoutingSettings
    from inferway.sources.snapshot import Snapshot

log = get_logger("control")


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where results go: Envoy's configuration server and the picker's link."""

    publish_xds: Callable[[XdsSnapshot], None]
    publish_picker: Callable[[PickerConfig], None]
    programming: Callable[[], EnvoyState]
    picker_status: Callable[[], PickerStatus | None]


@dataclass
class View:
    """What people see: replaced piece by piece by the reconciler, read by the admin API."""

    resources: ResourceSet = field(default_factory=ResourceSet)
    problems: tuple[Problem, ...] = ()
    translation: Translation | None = None
    statuses: dict[ResourceKey, ObjectStatus] = field(default_factory=dict)
    envoy_error: str = ""
    picker_version: int = 0


class Reconciler:
    """Owns the view. `changed()` may be called from anywhere on the loop, as often as one likes."""

    def __init__(
        self,
        outputs: Outputs,
        *,
        routing: RoutingSettings,
        envoy: EnvoySettings,
        pick_socket: Path,
        picker_defaults: PickerConfig,
        metrics: ControlMetrics,
        clock: Callable[[], float],
    ) -> None:
        self.view = View()
        self._metrics = metrics
        self._clock = clock
        self.resolver = Resolver(self.changed)
        self._outputs = outputs
        self._routing = routing
        self._envoy = envoy
        self._pick_socket = pick_socket
        self._picker_config = picker_defaults
        self._xds_version = ""
        self._first_seen: dict[str, int] = {}
        self._changed_at: float | None = None  # oldest change that is not in effect yet
        self._wake = asyncio.Event()

    def changed(self) -> None:
        """Something that outputs depend on is new."""
        self._wake.set()

    async def run(self, snapshots: AsyncIterator[Snapshot]) -> None:
        """Follows the source until it ends or this is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.resolver.run())
            tasks.create_task(self._reconcile_for_ever())
            async for snapshot in snapshots:
                self.accept(snapshot)

    def accept(self, snapshot: Snapshot) -> None:
        """Takes new resources: translates them at once, publishes with the next wake-up."""
        self._report(snapshot)
        started_s = self._clock()
        self.view.resources = snapshot.resources
        self.view.problems = snapshot.problems
        self.view.translation = translate(snapshot.resources, settings=self._routing)
        self._metrics.translate_seconds.observe(self._clock() - started_s)
        if self._changed_at is None:
            self._changed_at = snapshot.changed_at
        self.resolver.want(hosts_to_resolve(self.view.translation.model))
        self.changed()

    def _report(self, snapshot: Snapshot) -> None:
        for problem in snapshot.problems:
            if problem not in self.view.problems:
                report = log.error if problem.is_error else log.warning
                report("manifest_problem", problem=str(problem))
        errors = sum(problem.is_error for problem in snapshot.problems)
        self._metrics.problems.labels("error").set(errors)
        self._metrics.problems.labels("warning").set(len(snapshot.problems) - errors)
        kinds: Counter[str] = Counter(resource.kind for resource in snapshot.resources)
        for info in KINDS:
            self._metrics.resources.labels(info.kind).set(kinds[info.kind])

    async def _reconcile_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            self.reconcile()

    def reconcile(self) -> None:
        """Publishes what differs from what was published, and refreshes the statuses."""
        translation = self.view.translation
        if translation is None:
            return
        self._publish_picker(translation)
        self._publish_xds(translation)
        self.view.statuses = self._statuses(translation)
        if self._changed_at is not None and self.in_effect:
            self._metrics.apply_seconds.observe(self._clock() - self._changed_at)
            self._changed_at = None

    @property
    def in_effect(self) -> bool:
        """Whether traffic and picks follow the newest configuration."""
        state = self._outputs.programming()
        status = self._outputs.picker_status()
        return (
            state.phase is ProgrammingPhase.PROGRAMMED
            and state.version == self._xds_version
            and status is not None
            and status.version == self._picker_config.version
        )

    def _publish_picker(self, translation: Translation) -> None:
        pools = tuple(
            PoolConfig(
                name=target.name,
                endpoints=tuple(
                    EndpointConfig(
                        address=endpoint.address,
                        server=endpoint.server,
                        engine=endpoint.engine,
                        metrics_path=endpoint.metrics_path,
                    )
                    for endpoint in target.endpoints
                ),
                policy=target.policy,
                objectives=dict(target.objectives),
            )
            for target in pool_targets(translation.model, self.resolver.addresses)
        )
        if pools != self._picker_config.pools or not self._picker_config.version:
            version = self._picker_config.version + 1
            self._picker_config = self._picker_config.model_copy(
                update={"pools": pools, "version": version}
            )
            self._outputs.publish_picker(self._picker_config)
            self.view.picker_version = version

    def _publish_xds(self, translation: Translation) -> None:
        models = listed_models(
            translation.model,
            self._outputs.picker_status(),
            first_seen=self._first_seen,
            now_s=int(datetime.now(UTC).timestamp()),
        )
        try:
            snapshot = build_snapshot(
                translation.model,
                resolved=self.resolver.addresses,
                models=models,
                settings=self._envoy,
                pick_socket=self._pick_socket,
            )
        except InvalidResourceError as error:
            self.view.envoy_error = str(error)
            log.error("configuration_not_expressible", problem=str(error))
            return
        self.view.envoy_error = ""
        if snapshot.version != self._xds_version:
            self._xds_version = snapshot.version
            self._outputs.publish_xds(snapshot)

    def _statuses(self, translation: Translation) -> dict[ResourceKey, ObjectStatus]:
        decided = with_programming(translation.statuses, self._programming())
        dated = with_transition_times(decided, previous=self.view.statuses, now=datetime.now(UTC))
        return {status.key: status for status in dated}

    def _programming(self) -> ProgrammingState:
        if self.view.envoy_error:
            return ProgrammingState(acked=False, error=self.view.envoy_error)
        state = self._outputs.programming()
        refused = "; ".join(f"{one.type.name}: {one.message}" for one in state.rejections)
        return ProgrammingState(acked=state.phase is ProgrammingPhase.PROGRAMMED, error=refused)
