"""The two weights that a roll-out moves, where a person would find them.

Problem: an HTTPRoute, an InferenceModel (two spellings) and an InferenceModelRewrite keep weights
at different places, and in some of them 0 is not a legal weight. Model: `find_weights` reads them
from a manifest as it is written, `weight_edits` says how to change them. Where 0 is illegal, a
version without traffic has no entry: it is taken out of the list at the end and put back on a way
back; the model itself stays loaded, so nothing else has to be undone. A missing weight is 1, as the
APIs say. Pure: manifests in, edits out, the same for files and for the Kubernetes API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inferway.resources.edits import Edit, Put, Remove
from inferway.resources.problems import field_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.resources.document import Json, Path
    from inferway.resources.rollout import RolloutSpec

DEFAULT_TOTAL: Final = 100


class TargetError(Exception):
    """The target does not hold the weights that the roll-out names. The text is for people."""


@dataclass(frozen=True, slots=True)
class Weights:
    """Of the old and of the new version, as they are written."""

    old: int
    new: int

    def __str__(self) -> str:
        return f"{self.old}/{self.new}"

    @property
    def total(self) -> int:
        return self.old + self.new

    @property
    def share(self) -> float:
        """Of the new version, in per cent."""
        return 100 * self.new / self.total if self.total else 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """One list that holds both versions, or in lists without 0 at least one of them."""

    path: Path  # of the list
    name_field: str
    zero_is_legal: bool
    old_index: int | None
    new_index: int | None
    weights: Weights
    has_others: bool
    length: int


@dataclass(frozen=True, slots=True)
class _Lists:
    """How a kind spells its weights."""

    name_field: str
    zero_is_legal: bool


def find_weights(manifest: Json, spec: RolloutSpec) -> tuple[Place, ...]:
    """Every place that the roll-out moves, at least one. TargetError says what is missing."""
    places = [
        place
        for path, items, lists in _candidates(manifest, spec)
        if (place := _place(path, items, lists, spec)) is not None
    ]
    if not places:
        target = spec.target_ref
        where = f"rule {target.rule} of " if target.rule is not None else ""
        raise TargetError(
            f"{where}{target.kind} {target.name} does not name {spec.from_} and {spec.to} together"
            f" (hint: add {spec.to} beside {spec.from_} with weight: 0)"
            if target.kind == "HTTPRoute"
            else f"{where}{target.kind} {target.name} names neither {spec.from_} nor {spec.to}"
        )
    for place in places:
        if place.weights.total == 0:
            raise TargetError(f"{field_path(place.path)}: both weights are 0")
    return tuple(places)


def names_in(manifest: Json, spec: RolloutSpec) -> frozenset[str]:
    """Every name that carries a weight in the target, or in the rule that the roll-out is about."""
    return frozenset(
        name
        for _path, items, lists in _candidates(manifest, spec)
        for item in items
        if isinstance(name := item.get(lists.name_field), str)
    )


def total_for(places: Sequence[Place], spec: RolloutSpec) -> int:
    """The sum of both weights during a roll-out: what it is now if every step can be written so,
    else 100. TargetError when other entries beside the two would change their share.
    """
    totals = {place.weights.total for place in places}
    total = min(totals)
    divides = all(total * step.weight % 100 == 0 for step in spec.steps)
    if len(totals) == 1 and divides:
        return total
    if any(place.has_others for place in places):
        raise TargetError(
            f"the weights of {spec.from_} and {spec.to} sum to {total}, in which the steps cannot "
            "be written, and other entries stand beside them (hint: multiply all weights by 100)"
        )
    return DEFAULT_TOTAL


def weight_edits(places: Sequence[Place], spec: RolloutSpec, wanted: Weights) -> list[Edit]:
    """What to change so that every place has the wanted weights."""
    edits: list[Edit] = []
    for place in places:
        missing: list[tuple[str, int]] = []
        removed: list[int] = []
        for index, name, weight in (
            (place.old_index, spec.from_, wanted.old),
            (place.new_index, spec.to, wanted.new),
        ):
            if index is None:
                if weight:
                    missing.append((name, weight))
            elif weight or place.zero_is_legal:
                edits.append(Put((*place.path, index, "weight"), weight))
            else:
                removed.append(index)
        length = place.length
        for name, weight in missing:
            item: Json = {place.name_field: name, "weight": weight}
            edits.append(Put((*place.path, length), item))
            length += 1
        edits += [Remove((*place.path, index)) for index in sorted(removed, reverse=True)]
    return edits


def _candidates(
    manifest: Json, spec: RolloutSpec
) -> list[tuple[Path, list[dict[str, Json]], _Lists]]:
    """Every list of weighted entries of the target, with where it stands."""
    target = spec.target_ref
    body = manifest.get("spec") if isinstance(manifest, dict) else None
    if not isinstance(body, dict):
        return []
    if target.kind == "InferenceModel":
        spellings = (
            ("targetModels", _Lists("name", False)),
            ("versions", _Lists("modelName", True)),
        )
        return [
            (("spec", field), _mappings(body[field]), lists)
            for field, lists in spellings
            if field in body
        ]
    is_route = target.kind == "HTTPRoute"
    field, lists = (
        ("backendRefs", _Lists("name", True))
        if is_route
        else ("targets", _Lists("modelRewrite", False))
    )
    rules = body.get("rules")
    if isinstance(rules, dict):  # read as a list of one, see normalise
        numbered: list[tuple[Path, int, Json]] = [(("spec", "rules"), 0, rules)]
    elif isinstance(rules, list):
        numbered = [(("spec", "rules", index), index, rule) for index, rule in enumerate(rules)]
    else:
        return []
    return [
        ((*path, field), _mappings(rule.get(field)), lists)
        for path, index, rule in numbered
        if isinstance(rule, dict) and target.rule in (None, index)
    ]


def _mappings(value: Json) -> list[dict[str, Json]]:
    """Anything else stands as an empty entry, so that indices stay."""
    return (
        [item if isinstance(item, dict) else {} for item in value]
        if isinstance(value, list)
        else []
    )


def _place(
    path: Path, items: list[dict[str, Json]], lists: _Lists, spec: RolloutSpec
) -> Place | None:
    names = [item.get(lists.name_field) for item in items]
    old = names.index(spec.from_) if spec.from_ in names else None
    new = names.index(spec.to) if spec.to in names else None
    if (old is None and new is None) or (lists.zero_is_legal and (old is None or new is None)):
        return None
    return Place(
        path=path,
        name_field=lists.name_field,
        zero_is_legal=lists.zero_is_legal,
        old_index=old,
        new_index=new,
        weights=Weights(_weight(items, old), _weight(items, new)),
        has_others=len(items) > (old is not None) + (new is not None),
        length=len(items),
    )


def _weight(items: list[dict[str, Json]], index: int | None) -> int:
    if index is None:
        return 0
    weight = items[index].get("weight")
    if weight is None:
        return 1
    if not isinstance(weight, int) or isinstance(weight, bool) or weight < 0:
        raise TargetError(f"not a weight: {weight!r}")
    return weight
