"""From the newest resources to what Envoy, the picker and people see, whenever anything changed.

Problem: manifests, DNS answers, the models that servers report and Envoy's acknowledgements all
change on their own time, and every output must follow from one consistent view. Model: `Reconciler`
keeps the newest of each input; any change sets one flag; one loop builds anew what depends on an
input that changed, and publishes what differs (ARCHITECTURE.md rule 5: start-up and reload are the
same function). Invariants: what Envoy cannot express is published to nobody and the last good state
stays; status always says what is in force; a picker that reports every second costs nothing while
it reports the same. It reads no files and starts no processes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from inferway.control.addresses import on_this_machine
from inferway.control.engine_settings import engine_configs
from inferway.control.flow_settings import flow_config
from inferway.control.models import listed_models
from inferway.control.picker_settings import (
    explain_config,
    first_token_deadline_ms,
    health_config,
    kv_events_config,
    profile_config,
)
from inferway.control.resolver import Resolver
from inferway.envoy.conversation import ProgrammingPhase
from inferway.envoy.messages import InvalidResourceError
from inferway.observability.logging import get_logger
from inferway.picker.config import EndpointConfig, PickerConfig, PoolConfig, RewriteConfig
from inferway.resources import ResourceSet
from inferway.resources.kinds import KINDS
from inferway.routing.certificate_dates import remarks, with_remarks
from inferway.routing.picker_config import hosts_to_resolve, pool_targets
from inferway.routing.status import (
    ObjectStatus,
    ProgrammingState,
    with_programming,
    with_transition_times,
)
from inferway.routing.translate import Translation, translate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from datetime import datetime

    from inferway.control.metrics import ControlMetrics
    from inferway.envoy.cluster_health import Unhealthy
    from inferway.envoy.clusters import Resolved
    from inferway.envoy.conversation import ProgrammingState as EnvoyState
    from inferway.envoy.conversation import Rejection
    from inferway.envoy.model_list import ModelInfo
    from inferway.envoy.routes import Models
    from inferway.envoy.snapshot import Snapshot as XdsSnapshot
    from inferway.picker.config import PickerStatus
    from inferway.resources.meta import ResourceKey
    from inferway.resources.problems import Problem
    from inferway.routing.model import RoutingModel
    from inferway.routing.picker_config import PoolTargets
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
    unhealthy: Callable[[], Unhealthy]  # what Envoy's health checks have found


@dataclass
class View:
    """What people see: replaced piece by piece by the reconciler, read by the admin API."""

    resources: ResourceSet = field(default_factory=ResourceSet)
    problems: tuple[Problem, ...] = ()
    translation: Translation | None = None
    statuses: dict[ResourceKey, ObjectStatus] = field(default_factory=dict)
    envoy_error: str = ""  # why the newest configuration could not be offered to Envoy


class Reconciler:
    """Owns the view. `changed()` may be called from anywhere on the loop, as often as one likes.

    `build` makes Envoy's configuration and raises InvalidResourceError when it cannot be expressed.
    `clock` counts seconds, from the same origin as the snapshots' `changed_at`; `now` is the wall
    time.
    """

    def __init__(
        self,
        outputs: Outputs,
        *,
        routing: RoutingSettings,
        build: Callable[[RoutingModel, Resolved, Models], XdsSnapshot],
        picker_defaults: PickerConfig,
        metrics: ControlMetrics,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self.view = View()
        self._metrics = metrics
        self._clock = clock
        self._now = now
        self.resolver = Resolver(self.changed)
        self._outputs = outputs
        self._routing = routing
        self._build_snapshot = build
        self._picker_config = picker_defaults
        self._snapshot: XdsSnapshot | None = None  # the newest that could be built
        self._pools: dict[str, PoolConfig] = {}  # that go with it
        self._xds_version = ""  # of what was published
        self._seen = _Seen()
        self._first_seen: dict[str, int] = {}
        self._measured: frozenset[str] = frozenset()  # pools whose versions the picker counts
        self._changed_at: float | None = None  # oldest change that is not in effect yet
        self._wake = asyncio.Event()

    def changed(self) -> None:
        """Something that outputs depend on is new."""
        self._wake.set()

    def measure(self, pools: frozenset[str]) -> None:
        """The picker shall count what comes of each version in these pools."""
        if pools != self._measured:
            self._measured = pools
            self.changed()

    async def run(self, snapshots: AsyncIterator[Snapshot]) -> None:
        """Until cancelled. When the source ends, what it gave last stays in force."""
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
        settings = on_this_machine(self._routing, snapshot.resources)
        self.view.translation = translate(snapshot.resources, settings=settings)
        self._metrics.show_certificates(self.view.translation.model.certificates.values())
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
        self._build(translation)
        self._publish()
        self._note_refusals()
        self._refresh_statuses(translation)
        if self._changed_at is not None and self.in_effect:
            self._metrics.apply_seconds.observe(self._clock() - self._changed_at)
            self._changed_at = None

    @property
    def in_effect(self) -> bool:
        """Whether traffic and picks follow the newest configuration."""
        status = self._outputs.picker_status()
        return (
            not self.view.envoy_error
            and self._seen.translation is self.view.translation  # accepted, not yet published
            and self._followed(self._xds_version)
            and status is not None
            and status.version == self._picker_config.version
        )

    def _build(self, translation: Translation) -> None:
        """Everything anew, when anything that it is made of is new."""
        models = listed_models(
            translation.model,
            self._outputs.picker_status(),
            first_seen=self._first_seen,
            now_s=int(self._now().timestamp()),
        )
        if not self._seen.differs(translation, self.resolver.addresses, models):
            return
        try:
            self._snapshot = self._build_snapshot(
                translation.model, self.resolver.addresses, models
            )
        except InvalidResourceError as error:
            self.view.envoy_error = str(error)
            self._refused("envoy", str(error))
            return
        self.view.envoy_error = ""
        targets = pool_targets(translation.model, self.resolver.addresses)
        self._pools = {target.name: pool_config(target) for target in targets}

    def _publish(self) -> None:
        """The picker first: requests may reach a pool as soon as Envoy knows it. For the same
        reason a pool that is gone stays with the picker until Envoy has let go of it.
        """
        snapshot = self._snapshot
        if snapshot is None:
            return
        before = {pool.name: pool for pool in self._picker_config.pools}
        known = self._pools if self._followed(snapshot.version) else {**before, **self._pools}
        unhealthy = self._outputs.unhealthy()
        wanted = {
            name: with_health(pool, unhealthy.get(name, frozenset()))
            for name, pool in known.items()
        }
        measured = tuple(sorted(self._measured))
        news = (wanted, measured) != (before, self._picker_config.measured)
        if news or not self._picker_config.version:
            self._picker_config = self._picker_config.model_copy(
                update={
                    "pools": tuple(wanted.values()),
                    "measured": measured,
                    "version": self._picker_config.version + 1,
                }
            )
            self._outputs.publish_picker(self._picker_config)
        if snapshot.version != self._xds_version:
            self._xds_version = snapshot.version
            self._outputs.publish_xds(snapshot)

    def _followed(self, version: str) -> bool:
        """Whether Envoy's traffic follows the configuration of that version."""
        state = self._outputs.programming()
        return state.phase is ProgrammingPhase.PROGRAMMED and state.version == version

    def _note_refusals(self) -> None:
        """Counts each refusal of the newest configuration once."""
        state = self._outputs.programming()
        refused = state.rejections if state.version == self._xds_version else ()
        if refused != self._seen.rejections:
            self._seen.rejections = refused
            if refused:
                self._refused("envoy", refusal_text(state))
        status = self._outputs.picker_status()
        error = status.error if status else ""
        if error != self._seen.picker_error:
            self._seen.picker_error = error
            if error:
                self._refused("picker", error)

    def _refused(self, part: str, problem: str) -> None:
        log.error("configuration_refused", part=part, problem=problem)
        self._metrics.rejections.labels(part).inc()
        self._changed_at = None  # it will never take effect

    def _refresh_statuses(self, translation: Translation) -> None:
        programming = self._programming()
        now = self._now()
        expiring = remarks(translation.model.certificates.values(), now)
        for name, remark in expiring.items():
            if self._seen.expiring.get(name) != remark:
                log.warning("certificate_dates", problem=remark)
        same = self._seen.programming == programming and self._seen.expiring == expiring
        if self._seen.status_of is translation and same:
            return
        self._seen.status_of, self._seen.programming = translation, programming
        self._seen.expiring = expiring
        decided = with_programming(with_remarks(translation.statuses, expiring), programming)
        dated = with_transition_times(decided, previous=self.view.statuses, now=now)
        self.view.statuses = {status.key: status for status in dated}

    def _programming(self) -> ProgrammingState:
        if self.view.envoy_error:
            return ProgrammingState(acked=False, error=self.view.envoy_error)
        state = self._outputs.programming()
        acked = state.phase is ProgrammingPhase.PROGRAMMED
        return ProgrammingState(acked=acked, error=refusal_text(state))


@dataclass(slots=True)
class _Seen:
    """Inputs of the last round, to tell what has to be done again. The first two change by being
    replaced, so they are compared by identity.
    """

    translation: Translation | None = None
    addresses: Mapping[str, tuple[str, ...]] | None = None
    models: Mapping[str, tuple[ModelInfo, ...]] | None = None
    rejections: tuple[Rejection, ...] = ()
    picker_error: str = ""
    status_of: Translation | None = None
    programming: ProgrammingState | None = None
    expiring: Mapping[str, str] = field(default_factory=dict)

    def differs(
        self,
        translation: Translation,
        addresses: Mapping[str, tuple[str, ...]],
        models: Mapping[str, tuple[ModelInfo, ...]],
    ) -> bool:
        """Whether Envoy's configuration must be built anew. Remembers what it is given."""
        same = (
            self.translation is translation
            and self.addresses is addresses
            and self.models == models
        )
        self.translation, self.addresses, self.models = translation, addresses, models
        return not same


def pool_config(target: PoolTargets) -> PoolConfig:
    """A pool in the picker's own words."""
    return PoolConfig(
        name=target.name,
        endpoints=tuple(
            EndpointConfig(
                address=endpoint.address,
                server=endpoint.server,
                engine=endpoint.engine,
                metrics_path=endpoint.metrics_path,
                labels=dict(endpoint.labels),
                draining=endpoint.draining,
                kv_events=kv_events_config(endpoint, target.picker_config),
            )
            for endpoint in target.endpoints
        ),
        engines=engine_configs(target.picker_config),
        policy=target.policy,
        profile=profile_config(target.picker_config),
        health=health_config(target.picker_config),
        first_token_deadline_ms=first_token_deadline_ms(target.picker_config),
        explain=explain_config(target.picker_config),
        flow=flow_config(target.picker_config),
        objectives=dict(target.objectives),
        rewrites=tuple(
            RewriteConfig(
                model=rewrite.model,
                targets=tuple((one.model, one.weight) for one in rewrite.targets),
                sticky=rewrite.sticky.value,
            )
            for rewrite in target.rewrites
        ),
    )


def with_health(pool: PoolConfig, unhealthy: frozenset[str]) -> PoolConfig:
    """The pool with these of its endpoints, and no others, not ready."""
    if all(one.ready == (one.address not in unhealthy) for one in pool.endpoints):
        return pool
    endpoints = tuple(
        one.model_copy(update={"ready": one.address not in unhealthy}) for one in pool.endpoints
    )
    return pool.model_copy(update={"endpoints": endpoints})


def refusal_text(state: EnvoyState) -> str:
    """What Envoy refused and why, on one line; empty when it refused nothing."""
    return "; ".join(f"{one.type.name}: {one.message}" for one in state.rejections)
