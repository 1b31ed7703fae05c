"""Manifests in YAML or JSON to typed resources, with every problem at its line.

Problem: whoever writes manifests wants all mistakes of a file at once, each with the place and the
way out, and nothing that is misspelt may be ignored silently. Model: text to nodes with positions
(`document`), documented liberties (`normalise`), validation by the kind's model, errors in words
(`explain`). Pure: bytes in, resources and problems out; never raises, whatever the bytes are.

Files of the reference picker hold an EndpointPickerConfig without metadata: it is then named like
its file.

What the API server adds (status and its part of the metadata) is dropped, so that the output of
`kubectl get -o yaml` loads.
"""

import re
from dataclasses import dataclass
from pathlib import PurePath

from pydantic import ValidationError

from .document import Json, Node, Path, Position, read_documents
from .endpoint_picker_config import EndpointPickerConfig
from .explain import explain, nearest, shown, type_name
from .kinds import BY_KIND, KindInfo
from .normalise import normalise
from .old_pools import is_old_pool, written_path
from .problems import Problem, Severity, field_path
from .resource_set import Entry, Origin, assemble

PROBLEMS_PER_FILE_MAX = 100  # more would bury the first, which is usually the cause

# Written by the API server; kept are uid, generation and creationTimestamp.
_SERVER_METADATA = frozenset(
    {
        "managedFields",
        "resourceVersion",
        "ownerReferences",
        "finalizers",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generateName",
    }
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one file holds: its valid objects in order, and its problems by line."""

    entries: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()

    @property
    def has_errors(self) -> bool:
        return any(problem.is_error for problem in self.problems)


def decode(data: bytes, *, file: str) -> Decoded:
    """Everything in `data`; `file` is its name in messages, and tells JSON (`.json`) from YAML."""
    documents, mistakes = read_documents(data, is_json=file.endswith(".json"))
    reader = _Reader(file)
    for mistake in mistakes:
        reader.report(mistake.position, mistake.path, mistake.message, mistake.hint)
    for document in documents:
        reader.read(document, ())
    entries = tuple(reader.entries)
    _, duplicates = assemble(entries)
    reader.problems += [problem for problem in duplicates if problem.is_error]
    problems = sorted(reader.problems, key=lambda problem: (problem.line, problem.column))
    if len(problems) > PROBLEMS_PER_FILE_MAX:
        # Errors first, so that the cut never makes a broken file look good.
        problems.sort(key=lambda problem: not problem.is_error)
        rest = len(problems) - PROBLEMS_PER_FILE_MAX
        last = problems[PROBLEMS_PER_FILE_MAX - 1]
        more = Problem(Severity.ERROR, file, last.line, last.column, "", f"{rest} more problems")
        problems = [*problems[:PROBLEMS_PER_FILE_MAX], more]
    return Decoded(entries, tuple(problems))


class _Reader:
    """Collects what the documents of one file hold."""

    def __init__(self, file: str) -> None:
        self.entries: list[Entry] = []
        self.problems: list[Problem] = []
        self._file = file

    def report(
        self,
        position: Position,
        path: Path,
        message: str,
        hint: str = "",
        severity: Severity = Severity.ERROR,
    ) -> None:
        line, column, field = position.line, position.column, field_path(path)
        self.problems.append(Problem(severity, self._file, line, column, field, message, hint))

    def read(self, node: Node, path: Path) -> None:
        """One document, or one item of a List; `path` leads to it inside the document."""
        manifest = node.value
        if not isinstance(manifest, dict):
            message = f"must be a Kubernetes object (a mapping), got {type_name(manifest)}"
            self.report(node.position, path, message)
        elif manifest.get("kind") == "List":
            self._read_list(node, path)
        else:
            info = self._kind_of(node, manifest, path)
            if info is not None:
                self._validate(node, info, manifest, path)

    def _read_list(self, node: Node, path: Path) -> None:
        items = node.children.get("items")
        if items is None or not isinstance(items.value, list):
            self.report(node.locate(("items",)), (*path, "items"), "a List needs a list of items")
            return
        for index in range(len(items.value)):
            self.read(items.children[index], (*path, "items", index))

    def _kind_of(self, node: Node, manifest: dict[str, Json], path: Path) -> KindInfo | None:
        """The kind's entry in the registry; None, with a problem, when there is none."""
        kind, version = manifest.get("kind"), manifest.get("apiVersion")
        if not isinstance(kind, str):
            missing = "required field is missing"
            message = missing if kind is None else f"must be a string, got {type_name(kind)}"
            self.report(node.locate(("kind",)), (*path, "kind"), message)
            return None
        info = BY_KIND.get(kind)
        if info is None:
            message = f"kind {shown(kind)} is not supported; supported kinds: {', '.join(BY_KIND)}"
            close = nearest(kind, list(BY_KIND), cutoff=0.9)
            hint = f"did you mean {close}?" if close else ""
            self.report(node.locate(("kind",)), (*path, "kind"), message, hint)
            return None
        accepted = ", ".join(info.api_versions)
        place = (*path, "apiVersion")
        if version is None:
            hint = f"add apiVersion: {info.api_versions[0]}"
            self.report(node.position, place, "required field is missing", hint)
            return None
        if version not in info.api_versions:
            message = f"not an apiVersion of kind {kind}: {shown(version)}; accepted: {accepted}"
            self.report(node.locate(("apiVersion",)), place, message)
            return None
        return info

    def _validate(self, node: Node, info: KindInfo, manifest: dict[str, Json], path: Path) -> None:
        meant, readings = normalise(without_server_fields(manifest))
        if info.model is EndpointPickerConfig and meant.get("metadata") is None:
            meant = {**meant, "metadata": {"name": _file_name(self._file)}}
        for reading in readings:
            position = node.locate(reading.path)
            place = (*path, *reading.path)
            self.report(position, place, reading.message, reading.hint, Severity.WARNING)
        try:
            resource = info.model.model_validate(meant, by_alias=True, by_name=False)
        except ValidationError as error:
            old = is_old_pool(manifest)
            for finding in explain(error, info.model):
                locate = node.locate_key if finding.at_key else node.locate
                place = written_path(finding.path) if old else finding.path
                self.report(locate(place), (*path, *place), finding.message, finding.hint)
        else:
            origin = Origin(self._file, node.position.line, node.position.column)
            self.entries.append(Entry(resource, origin))


def _file_name(file: str) -> str:
    """What an object without metadata is called: the file's name as the name of an object."""
    return re.sub(r"[^a-z0-9.-]", "-", PurePath(file).stem.lower()).strip("-.") or "unnamed"


def without_server_fields(manifest: dict[str, Json]) -> dict[str, Json]:
    """What a person writes: no status, and of the metadata no part that only the server writes."""
    kept = {name: value for name, value in manifest.items() if name != "status"}
    metadata = kept.get("metadata")
    if isinstance(metadata, dict) and not _SERVER_METADATA.isdisjoint(metadata):
        kept["metadata"] = {
            name: value for name, value in metadata.items() if name not in _SERVER_METADATA
        }
    return kept
