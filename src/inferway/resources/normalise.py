"""Liberties that manifests in public documentation take, read as they are meant.

Problem: the printed examples of the product that this gateway follows do not pass the Gateway API's
own validation, and people copy them. Each reading below is a documented decision and a warning, so
that nobody mistakes it for the standard; the Kubernetes API refuses the second one and the fifth.

1. A parentRef of group inference.networking.k8s.io and kind InferenceGateway is a Gateway.
2. `rules` given as a mapping is a list of that one rule.
3. A backendRef of kind InferencePool without a group is of group inference.networking.k8s.io.
4. An InferencePool of the old group, and every reference to one, is of v1 (`old_pools`).
5. `versions` of an InferenceModel, which no released version has, are its targets. Nothing is
   changed for it: the resource has both spellings.

Nothing is changed in place: a value may be shared through a YAML alias.
"""

from collections.abc import Callable
from dataclasses import dataclass

from .document import Json, Path
from .old_pools import is_old_pool, modern_pool, modern_references
from .references import GATEWAY_GROUP, INFERENCE_GROUP


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read differently from what is written."""

    path: Path
    message: str
    hint: str


_Mapping = dict[str, Json]
_Read = Callable[[_Mapping, Path, list[Reading]], _Mapping]


def normalise(manifest: _Mapping) -> tuple[_Mapping, list[Reading]]:
    """The manifest as it is meant, and every liberty taken."""
    readings: list[Reading] = []

    def note(path: Path, message: str, hint: str) -> None:
        readings.append(Reading(path, message, hint))

    if is_old_pool(manifest):
        return modern_pool(manifest, note), readings
    written = manifest.get("spec")
    spec = modern_references(written, ("spec",), note)
    if manifest.get("kind") == "HTTPRoute" and isinstance(spec, dict):
        spec = _route(spec, readings)
    elif manifest.get("kind") == "InferenceModel" and isinstance(spec, dict):
        _note_versions(spec, readings)
    return manifest if spec is written else {**manifest, "spec": spec}, readings


def _note_versions(spec: _Mapping, readings: list[Reading]) -> None:
    if spec.get("versions") is not None:
        message = "versions is in no released InferenceModel; read as the targets of a model name"
        hint = "write modelName, targetModels and one poolRef"
        readings.append(Reading(("spec", "versions"), message, hint))


def _route(written: _Mapping, readings: list[Reading]) -> _Mapping:
    spec = dict(written)
    if "parentRefs" in spec:
        place = ("spec", "parentRefs")
        spec["parentRefs"] = _each(spec["parentRefs"], place, _parent, readings)
    if isinstance(spec.get("rules"), dict):
        message = "rules is a mapping; read as a list of one rule"
        hint = "write '- ' before the first field of the rule"
        readings.append(Reading(("spec", "rules"), message, hint))
        spec["rules"] = [spec["rules"]]
    if "rules" in spec:
        spec["rules"] = _each(spec["rules"], ("spec", "rules"), _rule, readings)
    return spec


def _each(value: Json, path: Path, read: _Read, readings: list[Reading]) -> Json:
    """`read` over every mapping of a list; anything else is left for validation to refuse."""
    if not isinstance(value, list):
        return value
    return [
        read(item, (*path, index), readings) if isinstance(item, dict) else item
        for index, item in enumerate(value)
    ]


def _parent(parent: _Mapping, path: Path, readings: list[Reading]) -> _Mapping:
    if parent.get("group") != INFERENCE_GROUP or parent.get("kind") != "InferenceGateway":
        return parent
    message = f"{INFERENCE_GROUP}/InferenceGateway is read as {GATEWAY_GROUP}/Gateway"
    readings.append(Reading((*path, "kind"), message, "remove group and kind"))
    return {**parent, "group": GATEWAY_GROUP, "kind": "Gateway"}


def _rule(rule: _Mapping, path: Path, readings: list[Reading]) -> _Mapping:
    read = dict(rule)
    if "backendRefs" in rule:
        place = (*path, "backendRefs")
        read["backendRefs"] = _each(rule["backendRefs"], place, _backend, readings)
    if "filters" in rule:
        read["filters"] = _each(rule["filters"], (*path, "filters"), _filter, readings)
    return read


def _filter(filter_: _Mapping, path: Path, readings: list[Reading]) -> _Mapping:
    mirror = filter_.get("requestMirror")
    backend = mirror.get("backendRef") if isinstance(mirror, dict) else None
    if not isinstance(mirror, dict) or not isinstance(backend, dict):
        return filter_
    place = (*path, "requestMirror", "backendRef")
    return {
        **filter_,
        "requestMirror": {**mirror, "backendRef": _backend(backend, place, readings)},
    }


def _backend(backend: _Mapping, path: Path, readings: list[Reading]) -> _Mapping:
    if backend.get("kind") != "InferencePool" or backend.get("group") is not None:
        return backend
    message = f"group of an InferencePool is missing; read as {INFERENCE_GROUP}"
    readings.append(Reading((*path, "kind"), message, f"add group: {INFERENCE_GROUP}"))
    return {**backend, "group": INFERENCE_GROUP}
