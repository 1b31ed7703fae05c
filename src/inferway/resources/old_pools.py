"""InferencePools from before v1, and references to them, read as those of v1.

Problem: many published manifests and charts still say `inference.networking.x-k8s.io`, where the
selector is a plain map, there is one `targetPortNumber`, and the picker is an `extensionRef`.
Model: the old shape is rewritten into the new one before validation, so that everything behind
this file knows one kind of pool; `MOVED` leads from a field of the new shape back to what is
written, so that a mistake is reported where it stands. Invariants: every rewriting is a `Reading`;
nothing is changed in place.
"""

from collections.abc import Callable
from typing import Final

from .document import Json, Path
from .references import INFERENCE_GROUP

OLD_INFERENCE_GROUP: Final = "inference.networking.x-k8s.io"
OLD_POOL_VERSIONS: Final = (f"{OLD_INFERENCE_GROUP}/v1alpha2", f"{OLD_INFERENCE_GROUP}/v1alpha1")
PICKER_PORT_DEFAULT: Final = 9002  # of an extensionRef without portNumber

MOVED: Final[tuple[tuple[Path, Path], ...]] = (
    (("spec", "selector", "matchLabels"), ("spec", "selector")),
    (("spec", "targetPorts", 0, "number"), ("spec", "targetPortNumber")),
    (("spec", "targetPorts"), ("spec", "targetPortNumber")),
    (("spec", "endpointPickerRef", "port", "number"), ("spec", "extensionRef", "portNumber")),
    (("spec", "endpointPickerRef"), ("spec", "extensionRef")),
)
"""Field of v1 → what it was called; the first prefix that fits counts."""

_Mapping = dict[str, Json]
Note = Callable[[Path, str, str], None]
"""Takes the path, the message and the hint of one reading."""


def is_old_pool(manifest: _Mapping) -> bool:
    return (
        manifest.get("kind") == "InferencePool" and manifest.get("apiVersion") in OLD_POOL_VERSIONS
    )


def modern_pool(pool: _Mapping, note: Note) -> _Mapping:
    """An old pool as one of v1. What is not of the old shape stays for validation to judge."""
    version = f"{INFERENCE_GROUP}/v1"
    note(("apiVersion",), f"{pool['apiVersion']} is read as {version}", "move to the shape of v1")
    written = pool.get("spec")
    if not isinstance(written, dict):
        return {**pool, "apiVersion": version}
    spec: _Mapping = {name: value for name, value in written.items() if value is not None}
    selector = spec.get("selector")
    is_modern = isinstance(selector, dict) and isinstance(selector.get("matchLabels"), dict)
    if selector is not None and not is_modern:
        spec["selector"] = {"matchLabels": selector}
    if "targetPortNumber" in spec:
        spec["targetPorts"] = [{"number": spec.pop("targetPortNumber")}]
    if "extensionRef" in spec:
        spec["endpointPickerRef"] = _picker(spec.pop("extensionRef"))
    return {**pool, "apiVersion": version, "spec": spec}


def modern_references(value: Json, path: Path, note: Note) -> Json:
    """`value` with every reference to an old pool naming the group of v1."""
    if isinstance(value, list):
        items = [modern_references(item, (*path, index), note) for index, item in enumerate(value)]
        return (
            items if any(new is not old for new, old in zip(items, value, strict=True)) else value
        )
    if not isinstance(value, dict):
        return value
    found = {name: modern_references(item, (*path, name), note) for name, item in value.items()}
    changed = any(found[name] is not item for name, item in value.items())
    if value.get("group") == OLD_INFERENCE_GROUP and _names_pool(value, path):
        message = f"{OLD_INFERENCE_GROUP}/InferencePool is read as {INFERENCE_GROUP}/InferencePool"
        note((*path, "group"), message, f"write group: {INFERENCE_GROUP}")
        return {**found, "group": INFERENCE_GROUP}
    return found if changed else value


def written_path(path: Path) -> Path:
    """Where the field of a v1 pool that is at `path` stands in the old shape."""
    for new, old in MOVED:
        if path[: len(new)] == new:
            return (*old, *path[len(new) :])
    return path


def _picker(reference: Json) -> Json:
    if not isinstance(reference, dict):
        return reference
    picker = dict(reference)
    number = picker.pop("portNumber", None)
    return {**picker, "port": {"number": PICKER_PORT_DEFAULT if number is None else number}}


def _names_pool(reference: _Mapping, path: Path) -> bool:
    """A `poolRef` may leave its kind out."""
    kind = reference.get("kind")
    return kind == "InferencePool" or (kind is None and path[-1:] == ("poolRef",))
