"""Control drives the roll-outs: a turn of each every half a second.

Problem: the state machine needs manifests as they are now, the picker's counts and Envoy's word
that weights are in force, and people want to see what it is doing. Model: `RolloutDriver` takes
turns (`inferway.rollout.turn`) over the files that hold the objects, and keeps of each roll-out
what the last turn said: for the admin API, the metrics and the next turn. All of that may be lost
at any time. The pools of roll-outs that are not over are measured by the picker, others are not.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inferway.control.versions import reading_of, versions_of
from inferway.observability.logging import get_logger
from inferway.resources.edits import ChangedMeanwhileError, EditError
from inferway.resources.text_edit import ObjectName
from inferway.rollout.status import Phase, UnreadableStatusError, read_status
from inferway.rollout.turn import Surroundings, take_turn
from inferway.rollout.weights import TargetError, find_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from inferway.control.metrics import ControlMetrics
    from inferway.control.reconciler import Reconciler
    from inferway.picker.config import PickerStatus
    from inferway.resources import ResourceKey
    from inferway.resources.rollout import Rollout
    from inferway.rollout.counts import Reading
    from inferway.rollout.machine import Plan
    from inferway.rollout.status import RolloutStatus
    from inferway.rollout.turn import ObjectStore
    from inferway.rollout.weights import Place

log = get_logger("rollouts")

TURN_INTERVAL_S: Final = 0.5


@dataclass(slots=True)
class Live:
    """What the last turn of one roll-out said. `error`: why it could not be taken."""

    rollout: Rollout
    plan: Plan | None = None
    status: RolloutStatus | None = None
    error: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether nothing will happen until somebody edits the Rollout."""
        spec, status = self.rollout.spec, self.status
        if self.error or status is None or not status.is_over or status.attempt != spec.attempt:
            return False
        return spec.action != "Rollback" or status.phase is Phase.ROLLED_BACK


class RolloutDriver:
    """Owns what is known of running roll-outs. `now` is the wall time."""

    def __init__(
        self,
        reconciler: Reconciler,
        store: ObjectStore,
        *,
        picker_status: Callable[[], PickerStatus | None],
        metrics: ControlMetrics,
        now: Callable[[], datetime],
    ) -> None:
        self._reconciler = reconciler
        self._store = store
        self._picker_status = picker_status
        self._metrics = metrics
        self._now = now
        self.live: dict[ResourceKey, Live] = {}

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.take_turns()
            await asyncio.sleep(TURN_INTERVAL_S)

    def take_turns(self) -> None:
        """One turn of every roll-out, in the order of the manifests."""
        rollouts = self._reconciler.view.resources.rollouts
        before, self.live = self.live, {}
        for rollout in rollouts:
            self.live[rollout.key] = self._known(rollout, before.get(rollout.key))
        for live in self.live.values():
            if not live.is_settled:
                self._take_turn(live)
        self._measure()
        self._show()

    def _known(self, rollout: Rollout, before: Live | None) -> Live:
        if before is not None:
            before.rollout = rollout
            return before
        live = Live(rollout)
        try:
            live.status = read_status(self._store.read(name_of(rollout)))
        except (EditError, UnreadableStatusError) as error:
            live.error = str(error)
        return live

    def _take_turn(self, live: Live) -> None:
        rollout = live.rollout
        measurement = live.plan.measurement if live.plan else None
        surroundings = Surroundings(
            now=self._now(),
            in_force=self._in_force,
            readings=self._readings,
            conflict=self._conflict(live),
            generation=rollout.metadata.generation,
        )
        try:
            plan = take_turn(name_of(rollout), self._store, surroundings, measurement)
        except ChangedMeanwhileError:
            return  # the next turn sees what the other has written
        except (EditError, UnreadableStatusError) as error:
            if str(error) != live.error:
                log.error("rollout_cannot_go_on", rollout=rollout.name, problem=str(error))
            live.error = str(error)
            return
        live.error = ""
        if plan is None:
            return
        live.plan, live.status = plan, plan.status
        for event in plan.events:
            self._metrics.rollout_events.labels(rollout.namespace, rollout.name, event.value).inc()
            log.info(
                "rollout", name=rollout.name, happened=event.value, message=plan.status.message
            )

    def _conflict(self, live: Live) -> str:
        """A roll-out that moves the same weights and was first: by what it did, then by order."""
        if live.status is not None and live.status.phase is not Phase.PENDING:
            return ""
        mine, earlier = live.rollout, True
        for other in self.live.values():
            if other is live:
                earlier = False
                continue
            status = other.status
            is_over = other.is_settled or (status is not None and status.is_over)
            started = status is not None and status.phase is not Phase.PENDING
            if (
                _overlap(mine, other.rollout)
                and not is_over
                and (started or (earlier and not other.error))
            ):
                return f"Rollout {other.rollout.qualified_name}"
        return ""

    def _in_force(self, rollout: Rollout, places: tuple[Place, ...]) -> bool:
        """Whether the gateway follows these weights, not only the file has them."""
        reconciler = self._reconciler
        if not reconciler.in_effect:
            return False
        target = rollout.spec.target_ref
        for resource in reconciler.view.resources:
            if (resource.kind, resource.namespace, resource.name) == (
                target.kind,
                rollout.namespace,
                target.name,
            ):
                manifest = resource.model_dump(mode="json", by_alias=True, exclude_none=True)
                try:
                    found = find_weights(manifest, rollout.spec)
                except TargetError:
                    return False
                return [one.weights for one in found] == [one.weights for one in places]
        return False

    def _readings(self, rollout: Rollout) -> tuple[Reading | None, Reading | None]:
        status = self._picker_status()
        view = self._reconciler.view
        if status is None or view.translation is None:
            return None, None
        old, new = versions_of(rollout, view.resources, view.translation.model)
        return reading_of(old, status), reading_of(new, status)

    def _measure(self) -> None:
        view = self._reconciler.view
        pools: set[str] = set()
        for live in self.live.values():
            if view.translation is not None and not live.is_settled:
                for version in versions_of(live.rollout, view.resources, view.translation.model):
                    pools |= version.pools
        self._reconciler.measure(frozenset(pools))

    def _show(self) -> None:
        metrics = self._metrics
        metrics.rollout_phase.clear()
        metrics.rollout_share.clear()
        for live in self.live.values():
            if live.status is None:
                continue
            names = live.rollout.namespace, live.rollout.name
            for phase in Phase:
                is_it = live.status.phase is phase
                metrics.rollout_phase.labels(*names, phase.value).set(is_it)
            if live.status.weights is not None:
                share = live.status.weights.weights.share
                metrics.rollout_share.labels(*names).set(share / 100)


def name_of(rollout: Rollout) -> ObjectName:
    return ObjectName("Rollout", rollout.namespace, rollout.name)


def _overlap(one: Rollout, other: Rollout) -> bool:
    """Whether both move weights of the same rules."""
    mine, theirs = one.spec.target_ref, other.spec.target_ref
    same = (one.namespace, mine.kind, mine.name) == (other.namespace, theirs.kind, theirs.name)
    return same and (mine.rule is None or theirs.rule is None or mine.rule == theirs.rule)
