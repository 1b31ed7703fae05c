"""Small changes of one manifest, as values: the same for a file and for the Kubernetes API.

`Put` sets the value at a path (an index equal to the length of its list appends), `Remove` takes
one away. Intermediate containers must exist. They are applied in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .document import Json, Path


class EditError(ValueError):
    """A change that cannot be made. The text says where and why."""


class ChangedMeanwhileError(Exception):
    """Somebody else wrote the object after it was read."""


@dataclass(frozen=True, slots=True)
class Put:
    path: Path
    value: Json


@dataclass(frozen=True, slots=True)
class Remove:
    path: Path


Edit = Put | Remove


def edited(manifest: Json, edits: Iterable[Edit]) -> Json:
    """A copy with the edits made. EditError when a path does not lead anywhere."""
    copy = _unshared(manifest)
    for edit in edits:
        parent = _container(copy, edit.path)
        last = edit.path[-1]
        if isinstance(parent, dict) and isinstance(last, str):
            if isinstance(edit, Put):
                parent[last] = _unshared(edit.value)
            elif last in parent:
                del parent[last]
            else:
                raise EditError(f"nothing to remove at {edit.path}")
        elif isinstance(parent, list) and isinstance(last, int):
            if isinstance(edit, Remove) and last < len(parent):
                del parent[last]
            elif isinstance(edit, Put) and last < len(parent):
                parent[last] = _unshared(edit.value)
            elif isinstance(edit, Put) and last == len(parent):
                parent.append(_unshared(edit.value))
            else:
                raise EditError(f"nothing to remove at {edit.path}")
        else:
            raise EditError(f"no place for a value at {edit.path}")
    return copy


def _unshared(value: Json) -> Json:
    """A copy in which no part stands twice, as parts do that YAML aliases lead to."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    return [_unshared(item) for item in value] if isinstance(value, list) else value


def value_at(value: Json, path: Path) -> Json:
    """What stands at a path; None where nothing does."""
    for step in path:
        if isinstance(value, dict):
            value = value.get(step) if isinstance(step, str) else None
        elif isinstance(value, list):
            value = value[step] if isinstance(step, int) and step < len(value) else None
        else:
            return None
    return value


def _container(value: Json, path: Path) -> Json:
    for step in path[:-1]:
        inner = value_at(value, (step,))
        if inner is None:
            raise EditError(f"nothing at {step!r} of {path}")
        value = inner
    return value
