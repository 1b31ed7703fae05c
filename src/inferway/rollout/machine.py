"""The roll-out itself: from what is seen now to what is wanted.

Problem: control may be killed between any two writes, people edit weights and specs while a roll-
out runs, and measurements arrive when they like. Model: `advance` is called again and again with
the newest of everything and returns a `Plan`: first the status to be stored, then the weights to be
written. A change of weights is announced in the status before it is made (`weights`, `replaces`),
so after a crash it is repeated, not mistaken for somebody's edit. Invariants: weights that are
neither what was announced nor what they replace are a person's, who wins: the roll-out pauses; a
step begins when its weights are in force, not when they are written; a version is never sent more
than the next step before the gates of the present one passed. Pure: no I/O, time is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime  # noqa: TC003 - of dataclass fields
from typing import TYPE_CHECKING

from inferway.rollout.counts import EMPTY, Reading
from inferway.rollout.measuring import Measurement, Result, judged, measured
from inferway.rollout.status import (
    HISTORY_MAX,
    Baseline,
    Event,
    HistoryEntry,
    Phase,
    RolloutStatus,
    pair,
    with_conditions,
)
from inferway.rollout.weights import Place, TargetError, Weights, total_for

if TYPE_CHECKING:
    from inferway.resources.rollout import RolloutSpec


@dataclass(frozen=True, slots=True)
class Situation:
    """What is seen at one moment. `trouble` says why there are no places; `conflict` names a
    roll-out that moves the same weights. `in_force`: the traffic follows the weights of `places`.
    """

    now: datetime
    places: tuple[Place, ...] = ()
    trouble: str = ""
    conflict: str = ""
    in_force: bool = True
    old: Reading | None = None
    new: Reading | None = None
    generation: int = 1

    @property
    def weights(self) -> tuple[Weights, ...]:
        return tuple(dict.fromkeys(place.weights for place in self.places))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in this order: store `status` (and `paused` in the spec), write `weights`."""

    status: RolloutStatus
    measurement: Measurement | None = None
    weights: Weights | None = None  # None: they stay
    pause: bool = False  # set spec.paused
    events: tuple[Event, ...] = ()
    progress: str = ""  # what is going on, for people; changes too often to be stored


def advance(
    spec: RolloutSpec,
    status: RolloutStatus | None,
    situation: Situation,
    measurement: Measurement | None,
) -> Plan:
    """One turn. `measurement` is what the last plan held, None after a restart."""
    turn = _Turn(spec, _fitting(spec, status), situation, measurement)
    try:
        turn.take()
    except TargetError as error:
        turn.fail(str(error))
    return turn.plan()


def _fitting(spec: RolloutSpec, status: RolloutStatus | None) -> RolloutStatus:
    """The status if it belongs to this roll-out, else a fresh one that keeps the history."""
    if (
        status is not None
        and status.attempt == spec.attempt
        and (status.target_ref, status.from_, status.to) == (spec.target_ref, spec.from_, spec.to)
    ):
        return status
    return RolloutStatus.model_validate(
        {
            "attempt": spec.attempt,
            "targetRef": spec.target_ref,
            "from": spec.from_,
            "to": spec.to,
            "history": status.history if status is not None else (),
        }
    )


@dataclass(slots=True)
class _Turn:
    """The working state of one call."""

    spec: RolloutSpec
    status: RolloutStatus
    situation: Situation
    measurement: Measurement | None
    weights: Weights | None = None
    pause: bool = False
    events: list[Event] = field(default_factory=list)
    progress: str = ""

    def plan(self) -> Plan:
        situation = self.situation
        status = with_conditions(self.status, generation=situation.generation, now=situation.now)
        active = status.phase is Phase.PROGRESSING
        return Plan(
            status,
            self.measurement if active else None,
            self.weights,
            self.pause,
            tuple(self.events),
            self.progress,
        )

    def take(self) -> None:
        situation, phase = self.situation, self.status.phase
        self._update(trouble="")
        if situation.trouble:
            self.fail(situation.trouble)
        elif situation.conflict and phase is Phase.PENDING:
            self.fail(f"the same weights are moved by {situation.conflict}")
        elif self._edited_by_others():
            self._yield_to_edit()
        elif self.spec.action == "Rollback" and phase is not Phase.ROLLED_BACK:
            self._roll_back("asked for")
        elif self.spec.action == "Promote" and phase not in (Phase.COMPLETED, Phase.ROLLED_BACK):
            self._promote()
        elif self.status.replaces:
            self._finish_write()
        elif self.status.is_over:
            self.progress = self.status.message
        elif self.spec.paused:
            self._stay_paused()
        elif phase in (Phase.PENDING, Phase.PAUSED):
            self._go_on()
        else:
            self._measure()

    def fail(self, message: str) -> None:
        """Nothing can be done now. The reason is stored, because it may stay for long."""
        self.progress = message
        if not self.status.is_over:
            self._update(trouble=message)

    def _edited_by_others(self) -> bool:
        """Whether the weights are neither those that were announced nor those that they replace.
        Whoever is paused or done does not mind.
        """
        status = self.status
        if status.weights is None or (
            not status.replaces and status.phase is not Phase.PROGRESSING
        ):
            return False
        expected = {one.weights for one in (status.weights, *status.replaces)}
        return not expected.issuperset(self.situation.weights)

    def _yield_to_edit(self) -> None:
        seen = ", ".join(map(str, self.situation.weights))
        wrote = self.status.weights.weights if self.status.weights else ""
        message = f"somebody else set the weights to {seen}; the roll-out had set {wrote}"
        if self.status.phase is Phase.PROGRESSING:
            self._pause(message)
        else:  # over, with its last write not in force yet: the edit stays
            self._update(replaces=(), message=f"{self.status.message}; then {message}")

    def _pause(self, message: str) -> None:
        self.pause = True
        self._update(phase=Phase.PAUSED, replaces=(), since=None)
        self._note(Event.PAUSED, message)

    def _stay_paused(self) -> None:
        if self.status.phase is not Phase.PAUSED:
            self._update(phase=Phase.PAUSED, since=None)
            self._note(Event.PAUSED, "paused by spec.paused")
        self.progress = self.status.message

    def _roll_back(self, why: str, *, breached: bool = False) -> None:
        total = self._present_total()
        self._update(phase=Phase.ROLLED_BACK, breached=breached, step=0)
        self._announce(Weights(total, 0), Event.ROLLED_BACK, f"rolled back: {why}")

    def _promote(self) -> None:
        total = self._present_total()
        self._update(phase=Phase.COMPLETED, step=len(self.spec.steps))
        self._announce(Weights(0, total), Event.PROMOTED, "promoted: asked for")

    def _present_total(self) -> int:
        """All or nothing can be written in any total."""
        written = self.status.weights
        return written.weights.total if written else self.situation.weights[0].total

    def _go_on(self) -> None:
        """Starts, or resumes: with the first step that is not behind what the weights are now."""
        seen = max(place.weights.share for place in self.situation.places)
        number = next(
            number for number, step in enumerate(self.spec.steps, 1) if step.weight >= seen
        )
        started = self.status.phase is Phase.PENDING
        event = Event.STARTED if started else Event.RESUMED
        word = "started" if started else "resumed"
        self._enter(number, event, f"{word} with step {number}")

    def _enter(self, number: int, event: Event, message: str) -> None:
        """Announces the weights of a step, also when they happen to be there already."""
        share = self.spec.steps[number - 1].weight
        total = total_for(self.situation.places, self.spec)
        new = total * share // 100
        measurement = self.measurement
        baseline = Baseline.of(measurement.baseline) if measurement else self.status.baseline
        self._update(phase=Phase.PROGRESSING, step=number, breached=False, baseline=baseline)
        self._announce(Weights(total - new, new), event, f"{message}: {share}%")

    def _announce(self, wanted: Weights, event: Event, message: str) -> None:
        self._update(
            weights=pair(wanted),
            replaces=tuple(pair(seen) for seen in self.situation.weights),
            since=None,
        )
        self._note(event, message)
        if self.situation.weights != (wanted,):
            self.weights = wanted

    def _finish_write(self) -> None:
        """Until the announced weights are written everywhere and the traffic follows them."""
        wanted = self.status.weights
        if wanted is None:
            return
        if self.situation.weights != (wanted.weights,):
            self.weights = wanted.weights
            self.progress = f"writing weights {wanted.weights}"
        elif not self.situation.in_force:
            self.progress = f"weights {wanted.weights} are written; the gateway does not follow yet"
        else:
            self._update(replaces=(), since=self.situation.now)
            self.progress = self.status.message

    def _measure(self) -> None:
        status, situation, spec = self.status, self.situation, self.spec
        since = status.since or situation.now
        shares = [step.weight for step in spec.steps]
        if status.weights is None or shares[status.step - 1 : status.step] != [
            round(status.weights.weights.share)
        ]:
            self._go_on()  # somebody changed the steps
            return
        self.measurement = measured(
            self.measurement,
            attempt=status.attempt,
            step=status.step,
            now=situation.now,
            old=situation.old,
            new=situation.new,
            baseline=status.baseline.window if status.baseline else EMPTY,
        )
        judgement = judged(self.measurement, spec, since=since, now=situation.now)
        self.measurement = judgement.measurement
        match judgement.result:
            case Result.BREACH:
                self._roll_back(judgement.message, breached=True)
            case Result.PASS:
                self._next(judgement.message)
            case Result.EXHAUSTED if spec.on_inconclusive == "Rollback":
                self._roll_back(judgement.message, breached=True)
            case Result.EXHAUSTED if spec.on_inconclusive == "Continue":
                self._next(judgement.message)
            case Result.EXHAUSTED:
                self._pause(judgement.message)
            case Result.WAIT:
                self.progress = judgement.message or self.status.message

    def _next(self, why: str) -> None:
        number = self.status.step + 1
        if number <= len(self.spec.steps):
            self._enter(number, Event.STEPPED, f"step {number} ({why})")
        else:
            self._update(phase=Phase.COMPLETED)
            self._note(Event.COMPLETED, f"completed: {why}")

    def _update(self, **fields: object) -> None:
        self.status = self.status.model_copy(update=fields)

    def _note(self, event: Event, message: str) -> None:
        """Into the message, the history and the events."""
        entry = HistoryEntry(
            time=self.situation.now,
            event=event,
            attempt=self.status.attempt,
            weights=self.status.weights,
            message=message,
        )
        history = (*self.status.history, entry)[-HISTORY_MAX:]
        self._update(message=message, history=history)
        self.events.append(event)
        self.progress = message
