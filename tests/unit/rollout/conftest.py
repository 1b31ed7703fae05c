"""A world for roll-outs: manifests in memory, a clock that tests move, servers that count."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from inferway.resources.edits import ChangedMeanwhileError, Edit, EditError, Put, edited, value_at
from inferway.resources.text_edit import ObjectName
from inferway.rollout.counts import NOTHING, Counts, Reading
from inferway.rollout.status import RolloutStatus, read_status
from inferway.rollout.turn import Surroundings, take_turn
from inferway.rollout.weights import Place, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferway.resources.document import Json
    from inferway.resources.rollout import Rollout
    from inferway.rollout.machine import Plan
    from inferway.rollout.measuring import Measurement

ROLLOUT = ObjectName("Rollout", "default", "ro")
ROUTE = ObjectName("HTTPRoute", "default", "route")


@dataclass
class MemoryStore:
    """An `ObjectStore`. `before_write` may raise, as a crash would."""

    manifests: dict[ObjectName, Json]
    before_write: Callable[[ObjectName], None] = lambda _name: None
    writes: list[ObjectName] = field(default_factory=list)

    def read(self, name: ObjectName) -> Json:
        return self.manifests.get(name)

    def write(self, name: ObjectName, edits: Sequence[Edit], *, expected: Json) -> None:
        self.before_write(name)
        if self.manifests.get(name) != expected:
            raise ChangedMeanwhileError(str(name))
        if name not in self.manifests:
            raise EditError(f"nothing there: {name}")
        self.manifests[name] = edited(self.manifests[name], edits)
        self.writes.append(name)


@dataclass
class World:
    """One roll-out. `tick` takes a turn and moves the clock; traffic is as the weights were."""

    store: MemoryStore
    now: datetime = datetime(2025, 6, 1, 12, tzinfo=UTC)
    measurement: Measurement | None = None
    in_force: bool = True
    conflict: str = ""
    requests_per_tick: int = 100
    error_ratio: float = 0.0  # of the new version
    old: Counts = NOTHING
    new: Counts = NOTHING
    seen: list[Weights] = field(default_factory=list)

    @property
    def weights(self) -> Weights:
        refs = value_at(self.store.manifests[ROUTE], ("spec", "rules", 0, "backendRefs"))
        assert isinstance(refs, list)
        found = {one["name"]: one["weight"] for one in refs if isinstance(one, dict)}
        return Weights(int(str(found["llm"])), int(str(found["llm-new"])))

    def set_weights(self, old: int, new: int) -> None:
        """As a person does."""
        for index, weight in enumerate((old, new)):
            self.edit(ROUTE, ("spec", "rules", 0, "backendRefs", index, "weight"), weight)

    def edit(self, name: ObjectName, path: tuple[str | int, ...], value: Json) -> None:
        self.store.manifests[name] = edited(self.store.manifests[name], [Put(path, value)])

    def spec(self, **fields: Json) -> None:
        for key, value in fields.items():
            self.edit(ROLLOUT, ("spec", key), value)

    @property
    def status(self) -> RolloutStatus:
        found = read_status(self.store.manifests[ROLLOUT])
        assert found is not None
        return found

    @property
    def events(self) -> list[str]:
        return [entry.event.value for entry in self.status.history]

    def turn(self) -> Plan | None:
        def in_force(_rollout: Rollout, _places: tuple[Place, ...]) -> bool:
            return self.in_force

        surroundings = Surroundings(
            now=self.now,
            in_force=in_force,
            readings=lambda _rollout: (Reading(self.old), Reading(self.new)),
            conflict=self.conflict,
        )
        plan = take_turn(ROLLOUT, self.store, surroundings, self.measurement)
        self.measurement = plan.measurement if plan else None
        return plan

    def tick(self, seconds: float = 1.0) -> Plan | None:
        plan = self.turn()
        self.pass_time(seconds)
        return plan

    def pass_time(self, seconds: float) -> None:
        weights = self.weights
        if not self.seen or self.seen[-1] != weights:
            self.seen.append(weights)
        new = round(self.requests_per_tick * weights.share / 100)
        errors = round(new * self.error_ratio)
        self.new = self.new.plus(Counts(served=new, errors=errors))
        self.old = self.old.plus(Counts(served=self.requests_per_tick - new))
        self.now += timedelta(seconds=seconds)

    def run(self, ticks: int) -> None:
        for _ in range(ticks):
            self.tick()

    def restart(self) -> None:
        """Control is gone with all that it had in memory."""
        self.measurement = None


def new_world(**spec: Any) -> World:
    route: Json = {
        "spec": {
            "rules": [
                {
                    "backendRefs": [
                        {"name": "llm", "weight": 100},
                        {"name": "llm-new", "weight": 0},
                    ]
                }
            ]
        }
    }
    rollout: Json = {
        "apiVersion": "inferway.dev/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "ro"},
        "spec": {
            "targetRef": {"kind": "HTTPRoute", "name": "route"},
            "from": "llm",
            "to": "llm-new",
            "steps": [{"weight": 10}, {"weight": 50}, {"weight": 100}],
            "interval": "10s",
            "intervalMax": "60s",
            "minimumSamples": 50,
            "gates": [{"metric": "ErrorRate", "maxIncrease": "1%"}],
            **spec,
        },
    }
    return World(MemoryStore({ROUTE: route, ROLLOUT: rollout}))


@pytest.fixture
def world() -> World:
    return new_world()
