"""Control's side of roll-outs: files, the picker's counts, what is in force, conflicts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from inferway.control.rollout_report import report
from inferway.control.rollouts import RolloutDriver
from inferway.control.versions import Version, reading_of, saturation_of, versions_of
from inferway.picker.config import EndpointStatus, PickerStatus, PoolStatus, VersionStatus
from inferway.resources.decode import decode
from inferway.resources.resource_set import assemble
from inferway.rollout.status import Phase
from inferway.sources.object_files import ObjectFiles
from inferway.sources.snapshot import Snapshot

from .conftest import MANIFESTS, START, World

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.control.rollouts import Live
    from inferway.resources.text_edit import ObjectName

TWO = (
    MANIFESTS.replace(
        "- backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: chat}]",
        """- backendRefs:
        - {group: inference.networking.k8s.io, kind: InferencePool, name: chat, weight: 100}
        - {group: inference.networking.k8s.io, kind: InferencePool, name: chat-2, weight: 0}""",
    )
    + """---
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: chat-2}
spec:
  selector: {matchLabels: {app: chat}}
  targetPorts: [{number: 8000}]
"""
)
ROLLOUT = """
apiVersion: inferway.dev/v1alpha1
kind: Rollout
metadata: {name: NAME}
spec:
  targetRef: {kind: HTTPRoute, name: chat}
  from: chat
  to: chat-2
  steps: [{weight: 10}, {weight: 100}]
  interval: 10s
  minimumSamples: 10
  gates: [{metric: ErrorRate, max: 5%}]
"""


class Room:
    """A manifest directory, a reconciler that reads it when told, and the driver."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world, self.folder = world, folder
        self.versions: tuple[VersionStatus, ...] = ()
        (folder / "all.yaml").write_text(TWO)
        self.write("first")
        self.driver = RolloutDriver(
            world.reconciler,
            ObjectFiles(self.file_of),
            picker_status=self.picker_status,
            metrics=world.metrics,
            now=lambda: START + timedelta(seconds=world.now_s),
        )
        self.reload()

    def write(self, name: str) -> None:
        (self.folder / f"{name}.yaml").write_text(ROLLOUT.replace("NAME", name))

    def file_of(self, name: ObjectName) -> str | None:
        for key, entry in self.world.reconciler.view.resources.entries.items():
            if (key.kind, key.namespace, key.name) == (name.kind, name.namespace, name.name):
                return entry.origin.file
        return None

    def picker_status(self) -> PickerStatus | None:
        status = self.world.status
        return status.model_copy(update={"versions": self.versions}) if status else None

    def reload(self) -> None:
        """The source has seen the files, and everything follows."""
        entries = [
            entry
            for file in sorted(self.folder.glob("*.yaml"))
            for entry in decode(file.read_bytes(), file=str(file)).entries
        ]
        resources, problems = assemble(entries)
        world = self.world
        world.reconciler.accept(Snapshot(resources, problems, world.now_s))
        world.reconciler.reconcile()
        world.in_force()

    def turn(self, seconds: float = 1.0) -> None:
        self.driver.take_turns()
        self.world.now_s += seconds

    def live(self, name: str = "first") -> Live:
        return next(one for key, one in self.driver.live.items() if key.name == name)

    def phase(self, name: str = "first") -> Phase | None:
        status = self.live(name).status
        return status.phase if status else None

    @property
    def route(self) -> str:
        return (self.folder / "all.yaml").read_text()


@pytest.fixture
def room(world: World, tmp_path: Path) -> Room:
    return Room(world, tmp_path)


def counted(pool: str, served: int, errors: int = 0, model: str = "m") -> VersionStatus:
    return VersionStatus(
        pool=pool, model=model, served=served, errors=errors, shed=0, ttft=((3, served),)
    )


def test_weights_are_written_and_count_when_they_are_in_force(room: Room) -> None:
    room.turn()
    assert "name: chat, weight: 90}" in room.route
    assert "name: chat-2, weight: 10}" in room.route
    room.turn(100)
    status = room.live().status
    assert status
    assert status.since is None, "the source has not seen the file"
    room.reload()
    room.turn()
    status = room.live().status
    assert status
    assert status.since is not None
    assert room.world.sample(
        "inferway_rollout_new_version_ratio", namespace="default", rollout="first"
    ) == pytest.approx(0.1)
    labels = {"namespace": "default", "rollout": "first"}
    assert room.world.sample("inferway_rollout_phase", phase="Progressing", **labels) == 1
    assert room.world.sample("inferway_rollout_phase", phase="Paused", **labels) == 0
    assert room.world.sample("inferway_rollout_events_total", event="Started", **labels) == 1


def test_the_pools_are_measured_while_it_runs_and_a_breach_goes_back(room: Room) -> None:
    room.turn()
    room.reload()
    assert room.world.picker[-1].measured == ("default/chat", "default/chat-2")
    room.versions = (counted("default/chat", 100), counted("default/chat-2", 5))
    room.turn()
    room.turn()
    room.versions = (counted("default/chat", 900), counted("default/chat-2", 105, errors=30))
    room.turn()
    assert room.phase() is Phase.ROLLED_BACK
    assert "name: chat-2, weight: 0}" in room.route
    room.reload()
    room.turn()
    room.world.reconciler.reconcile()
    assert room.world.picker[-1].measured == (), "it is over"
    assert room.live().is_settled
    document = report(room.live(), now=START)
    status = document["status"]
    assert isinstance(status, dict)
    assert "30%" in str(status["message"]) or "28.6%" in str(status["message"])


def test_the_report_has_the_numbers(room: Room) -> None:
    room.turn()
    room.reload()
    room.turn()
    room.versions = (counted("default/chat", 0), counted("default/chat-2", 0))
    room.turn()
    room.versions = (counted("default/chat", 90), counted("default/chat-2", 20))
    room.turn()
    document: Any = report(room.live(), now=START + timedelta(seconds=room.world.now_s))
    assert document["kind"] == "Rollout"
    assert document["live"]["samples"]["new"]["served"] == 20
    assert document["live"]["gates"][0]["outcome"] == "Pass"
    assert document["live"]["interval_s"] == 10


def test_of_two_for_the_same_weights_the_first_goes_on(room: Room) -> None:
    room.write("second")
    room.reload()
    room.turn()
    assert (room.phase("first"), room.phase("second")) == (Phase.PROGRESSING, Phase.PENDING)
    status = room.live("second").status
    assert status
    assert status.trouble == "the same weights are moved by Rollout default/first"
    # After a restart too, and the one that has begun is the first whatever the order.
    (room.folder / "second.yaml").rename(room.folder / "a.yaml")
    room.driver.live = {}
    room.reload()
    room.turn()
    assert (room.phase("first"), room.phase("second")) == (Phase.PROGRESSING, Phase.PENDING)


def test_what_cannot_be_read_is_told_and_tried_again(room: Room) -> None:
    file = room.folder / "first.yaml"
    text = file.read_text()
    file.write_text(text + "status: {phase: 3}\n")
    room.turn()
    assert "remove status to start over" in room.live().error
    file.write_text("kind: [")
    room.turn()
    assert "error in line 1" in room.live().error
    file.write_text(text)
    room.turn()
    assert room.live().error == ""
    assert room.phase() is Phase.PROGRESSING
    file.unlink()
    room.turn()
    room.reload()
    room.turn()
    assert room.driver.live == {}


def test_versions_of_a_model_are_in_every_pool_that_leads_to_them(world: World) -> None:
    text = (
        TWO
        + """---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: alias}
spec:
  modelName: bot
  targetModels: [{name: v1, weight: 9}, {name: v2, weight: 1}]
  poolRef: {name: chat}
---
"""
        + ROLLOUT.replace("HTTPRoute, name: chat", "InferenceModel, name: alias")
        .replace("from: chat", "from: v1")
        .replace("to: chat-2", "to: v2")
        .replace("NAME", "ro")
    )
    world.apply(text)
    view = world.reconciler.view
    assert view.translation
    (rollout,) = view.resources.rollouts
    old, new = versions_of(rollout, view.resources, view.translation.model)
    assert old.model == "v1"
    assert old.pools >= {"default/chat"}
    assert new == Version(old.pools, "v2")


def test_readings_sum_what_belongs_to_a_version() -> None:
    status = PickerStatus(
        version=1,
        versions=(counted("a", 5, 1, "x"), counted("a", 7, 0, "y"), counted("b", 100, 0, "x")),
    )
    assert reading_of(Version(frozenset("a")), status).counts.served == 12
    only = reading_of(Version(frozenset("ab"), "x"), status).counts
    assert (only.served, only.errors, only.ttft[3]) == (105, 1, 105)
    assert reading_of(Version(frozenset("c")), status).saturation is None


def test_saturation() -> None:
    def endpoint(waiting: float | None, kv: float | None) -> EndpointStatus:
        return EndpointStatus(
            address="a", reachable=True, age_s=0.1, waiting=waiting, kv_usage_ratio=kv
        )

    known = (endpoint(5, 0.1), endpoint(0, 0.4), endpoint(None, None))
    assert saturation_of(PoolStatus(name="p", endpoints=known)) == pytest.approx(0.75)
    assert saturation_of(PoolStatus(name="p")) is None
