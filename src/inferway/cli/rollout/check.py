"""What `inferway validate` says of Rollouts: whether their weights are where they say.

Manifests are read as they are written, the way a running gateway reads them for each turn. A
roll-out that is over moves nothing, so nobody has to keep what it has named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from inferway.resources.document import read_documents
from inferway.resources.edits import EditError
from inferway.resources.problems import Problem, Severity, field_path
from inferway.resources.text_edit import ObjectName
from inferway.rollout.status import UnreadableStatusError, read_status
from inferway.rollout.target import target_mistake
from inferway.sources.object_files import ObjectFiles

if TYPE_CHECKING:
    from inferway.resources import ResourceSet
    from inferway.resources.document import Json, Node
    from inferway.resources.document import Path as FieldPath
    from inferway.resources.resource_set import Origin
    from inferway.resources.rollout import Rollout


def rollout_problems(resources: ResourceSet) -> list[Problem]:
    """Every Rollout that could not begin or go on, at the field that is to blame."""
    files = {
        ObjectName(key.kind, key.namespace, key.name): entry.origin.file
        for key, entry in resources.entries.items()
    }
    store = ObjectFiles(files.get)
    problems = []
    for rollout in resources.rollouts:
        origin = resources.origin(rollout)
        node = _node_at(origin)
        mistake = _mistake(rollout, node.value if node else None, store)
        if mistake is not None:
            path, message = mistake
            position = node.locate(path) if node else None
            line, column = (position.line, position.column) if position else (origin.line, 1)
            problems.append(
                Problem(Severity.ERROR, origin.file, line, column, field_path(path), message)
            )
    return problems


def _mistake(rollout: Rollout, written: Json, store: ObjectFiles) -> tuple[FieldPath, str] | None:
    spec = rollout.spec
    try:
        status = read_status(written)
    except UnreadableStatusError as error:
        return ("status",), str(error)
    if status is not None and status.is_over and status.attempt == spec.attempt:
        return None
    target = ObjectName(spec.target_ref.kind, rollout.namespace, spec.target_ref.name)
    try:
        return target_mistake(spec, store.read(target))
    except EditError as error:
        return ("spec", "targetRef"), str(error)


def _node_at(origin: Origin) -> Node | None:
    """The Rollout as its file has it, with positions; None when the file is gone."""
    try:
        data = Path(origin.file).read_bytes()
    except OSError:
        return None
    waiting, _mistakes = read_documents(data, is_json=origin.file.endswith(".json"))
    while waiting:
        node = waiting.pop()
        is_rollout = isinstance(node.value, dict) and node.value.get("kind") == "Rollout"
        if is_rollout and (node.position.line, node.position.column) == (
            origin.line,
            origin.column,
        ):
            return node
        items = node.children.get("items")
        waiting += list(items.children.values()) if items else []
    return None
