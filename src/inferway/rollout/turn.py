"""One turn of one roll-out over a store of manifests: read, decide, store the status, then write.

Problem: the order of the two writes is what makes a crash between them harmless, and it must be the
same for files and for the Kubernetes API. Model: `ObjectStore` is all that a source has to offer:
read a manifest, change some fields of it unless somebody else did meanwhile. A turn that loses such
a race, or that is cut short anywhere, is simply taken again. No clocks here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - of dataclass fields
from typing import TYPE_CHECKING, Protocol

from pydantic import ValidationError

from inferway.resources.decode import without_server_fields
from inferway.resources.edits import Edit, EditError, Put
from inferway.resources.rollout import Rollout
from inferway.resources.text_edit import ObjectName
from inferway.rollout.machine import Plan, Situation, advance
from inferway.rollout.status import read_status
from inferway.rollout.weights import Place, TargetError, find_weights, weight_edits

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferway.resources.document import Json
    from inferway.rollout.counts import Reading
    from inferway.rollout.measuring import Measurement


class ObjectStore(Protocol):
    """Where manifests are kept. Both raise EditError when it cannot be done."""

    def read(self, name: ObjectName) -> Json:
        """The manifest as it is written; None when there is none."""
        ...

    def write(self, name: ObjectName, edits: Sequence[Edit], *, expected: Json) -> None:
        """Makes the edits if the object is still as `expected`, else ChangedMeanwhileError."""
        ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a turn needs to know beside the manifests. `in_force` says whether the traffic follows
    the weights of these places, `readings` measures the old and the new version.
    """

    now: datetime
    in_force: Callable[[Rollout, tuple[Place, ...]], bool]
    readings: Callable[[Rollout], tuple[Reading | None, Reading | None]]
    conflict: str = ""
    generation: int = 1


def take_turn(
    name: ObjectName,
    store: ObjectStore,
    surroundings: Surroundings,
    measurement: Measurement | None,
) -> Plan | None:
    """What was decided and done; None when the Rollout is gone. Raises EditError,
    ChangedMeanwhileError or UnreadableStatusError when nothing could be done: try again later.
    """
    manifest = store.read(name)
    if not isinstance(manifest, dict):
        return None
    try:
        rollout = Rollout.model_validate(without_server_fields(manifest), by_alias=True)
    except ValidationError as error:
        raise EditError(f"{name} is not valid at present; it waits") from error
    status = read_status(manifest)
    spec = rollout.spec
    target = ObjectName(spec.target_ref.kind, name.namespace, spec.target_ref.name)
    trouble, held = "", None
    places: tuple[Place, ...] = ()
    try:
        held = store.read(target)
        if held is None:
            trouble = f"{target} does not exist"
        else:
            places = find_weights(held, spec)
    except (EditError, TargetError) as error:
        trouble = str(error)
    old, new = surroundings.readings(rollout)
    situation = Situation(
        now=surroundings.now,
        places=places,
        trouble=trouble,
        conflict=surroundings.conflict,
        in_force=bool(places) and surroundings.in_force(rollout, places),
        old=old,
        new=new,
        generation=surroundings.generation,
    )
    plan = advance(spec, status, situation, measurement)
    edits: list[Edit] = []
    if plan.pause and not spec.paused:
        edits.append(Put(("spec", "paused"), value=True))
    if plan.status != status:
        edits.append(Put(("status",), plan.status.manifest()))
    if edits:
        store.write(name, edits, expected=manifest)
    if plan.weights is not None:
        store.write(target, weight_edits(places, spec, plan.weights), expected=held)
    return plan
