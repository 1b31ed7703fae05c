"""Whether a roll-out can find its weights, and which field of it is to blame when it cannot.

A turn meets the same obstacles and waits (`turn`); this is for saying so before anything runs.
Pure: the specification and the target's manifest in, a field and words out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.rollout.weights import TargetError, find_weights, names_in, total_for

if TYPE_CHECKING:
    from inferway.resources.document import Json, Path
    from inferway.resources.rollout import RolloutSpec


def target_mistake(spec: RolloutSpec, held: Json) -> tuple[Path, str] | None:
    """The field and what is wrong; None when the roll-out can begin. `held` is the target as it is
    written, None when it does not exist.
    """
    target = spec.target_ref
    if held is None:
        return ("spec", "targetRef", "name"), f"{target.kind} {target.name} does not exist"
    try:
        places = find_weights(held, spec)
    except TargetError as error:
        return _field_to_blame(spec, held), str(error)
    try:
        total_for(places, spec)
    except TargetError as error:
        return ("spec", "steps"), str(error)
    return None


def _field_to_blame(spec: RolloutSpec, held: Json) -> Path:
    names = names_in(held, spec)
    if spec.target_ref.rule is not None and not names:
        return "spec", "targetRef", "rule"
    if spec.from_ not in names:
        return "spec", "from"
    if spec.to not in names:
        return "spec", "to"
    return "spec", "targetRef"  # never together, or weights that cannot be moved
