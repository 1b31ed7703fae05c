"""The syncer's configuration: which adapters must be on the servers, and which must not.

Problem: people have this file already, as the upstream side-car reads it, mounted from a ConfigMap
or inside the ConfigMap's own manifest. Model: strict, frozen models of its fields; `read_config`
turns bytes into one or says what is wrong at which line. An adapter that is in both lists is legal
here and left alone by the planner, as upstream does.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, StringConstraints, ValidationError, model_validator

from inferway.resources.document import Node, Path, Position, read_documents
from inferway.resources.explain import explain, type_name
from inferway.resources.meta import Model
from inferway.resources.problems import Problem, Severity, field_path
from inferway.resources.scalars import PortNumber
from inferway.resources.violations import Violation, reject

ROOT = "vLLMLoRAConfig"
ADAPTERS_MAX = 10_000  # in one list
_MISSING_HINT = f"the file needs a mapping called {ROOT}, or a ConfigMap that holds one"

Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]


class WantedAdapter(Model):
    """An adapter that must be there. `source` is what the server loads it from: a directory there,
    or a repository.
    """

    id: Text
    source: Text
    base_model: Text | None = Field(default=None, alias="base-model")


class UnwantedAdapter(Model):
    """An adapter that must not be there; only its id counts."""

    id: Text
    source: Text | None = None
    base_model: Text | None = Field(default=None, alias="base-model")


class _Unique(Model):
    """A list in which an id stands once."""

    models: tuple[WantedAdapter | UnwantedAdapter, ...]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Self:
        seen: set[str] = set()
        found = []
        for index, model in enumerate(self.models):
            if model.id in seen:
                message = f"adapter is listed twice: {model.id}"
                found.append(Violation(message, ("models", index, "id"), "keep one of the two"))
            seen.add(model.id)
        reject(found)
        return self


class Wanted(_Unique):
    models: Annotated[tuple[WantedAdapter, ...], Field(max_length=ADAPTERS_MAX)]


class Unwanted(_Unique):
    models: Annotated[tuple[UnwantedAdapter, ...], Field(max_length=ADAPTERS_MAX)]


class SyncConfig(Model):
    """What stands below `vLLMLoRAConfig`. Host and port are used when the command names no server;
    `name` is for people.
    """

    name: str | None = None
    host: Text = "localhost"
    port: PortNumber = 8000
    default_base_model: Text | None = None
    ensure_exist: Wanted = Wanted(models=())
    ensure_not_exist: Unwanted = Unwanted(models=())

    @property
    def url(self) -> str:
        """Of the server next to the syncer."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class _File(Model):
    config: SyncConfig = Field(alias="vLLMLoRAConfig")


@dataclass(frozen=True, slots=True)
class ReadConfig:
    """`config` is None when there is a problem, and only then."""

    config: SyncConfig | None
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True)
class _Text:
    """What is read as YAML: the file, or a value of a ConfigMap in it.

    `lines_above` are those of the file above its first; `whole` is the file.
    """

    file: str
    whole: str
    inner: str
    lines_above: int = 0

    def problem(self, position: Position, path: Path, message: str, hint: str) -> Problem:
        """A problem at a position in `inner`, placed in the file."""
        number = min(position.line + self.lines_above, len(self.whole.splitlines()) or 1)
        column = position.column
        if self.lines_above:  # what a block scalar holds is indented
            outer = self.whole.splitlines()[number - 1]
            lines = self.inner.splitlines()
            column += max(0, outer.find(lines[position.line - 1])) if lines else 0
        place = self.file, number, column
        return Problem(Severity.ERROR, *place, field_path(path), message, hint)


@dataclass(frozen=True, slots=True)
class _Part:
    """A document that holds a configuration."""

    node: Node
    text: _Text


def read_config(data: bytes, *, file: str) -> ReadConfig:
    """The configuration in `data`: the file itself, or a value of a ConfigMap in it."""
    documents, mistakes = read_documents(data, is_json=file.endswith(".json"))
    whole = data.decode("utf-8", "replace")
    text = _Text(file, whole, whole)
    if mistakes:
        return _failed(
            text.problem(one.position, one.path, one.message, one.hint) for one in mistakes
        )
    parts: list[_Part] = []
    for document in documents:
        if _is_config_map(document):
            found, problems = _parts_in_config_map(document, text)
            if problems:
                return _failed(problems)
            parts += found
        elif isinstance(document.value, dict) and ROOT in document.value:
            parts.append(_Part(document, text))
    if not parts:
        return _failed([text.problem(Position(1, 1), (ROOT,), "is missing", _MISSING_HINT)])
    if len(parts) > 1:
        second = parts[1]
        hint = "one file configures one set of adapters"
        place = second.node.position
        return _failed([second.text.problem(place, (ROOT,), "stands here a second time", hint)])
    return _validated(parts[0])


def _is_config_map(document: Node) -> bool:
    return isinstance(document.value, dict) and document.value.get("kind") == "ConfigMap"


def _parts_in_config_map(document: Node, text: _Text) -> tuple[list[_Part], list[Problem]]:
    """The values of `data` that hold a configuration, and syntax errors in them."""
    data = document.children.get("data")
    if data is None or not isinstance(data.value, dict):
        message = f"must be a mapping, got {type_name(data.value)}" if data else "is missing"
        return [], [text.problem(document.locate(("data",)), ("data",), message, _MISSING_HINT)]
    parts: list[_Part] = []
    problems: list[Problem] = []
    for key, value in data.value.items():
        if not isinstance(value, str) or ROOT not in value:
            continue
        position = data.children[key].position
        first = text.whole.splitlines()[position.line - 1][position.column - 1 :]
        # What a block scalar holds begins on the line below its mark.
        above = position.line if first.startswith(("|", ">")) else position.line - 1
        inner = _Text(text.file, text.whole, value, above)
        documents, mistakes = read_documents(value.encode(), is_json=False)
        problems += [
            inner.problem(one.position, ("data", key, *one.path), one.message, one.hint)
            for one in mistakes
        ]
        parts += [
            _Part(one, inner)
            for one in documents
            if isinstance(one.value, dict) and ROOT in one.value
        ]
    return parts, problems


def _validated(part: _Part) -> ReadConfig:
    try:
        read = _File.model_validate(part.node.value, by_alias=True, by_name=False)
    except ValidationError as error:
        problems = []
        for finding in explain(error, _File):
            locate = part.node.locate_key if finding.at_key else part.node.locate
            place = locate(finding.path)
            problems.append(part.text.problem(place, finding.path, finding.message, finding.hint))
        return _failed(sorted(problems, key=lambda one: (one.line, one.column)))
    return ReadConfig(read.config)


def _failed(problems: Iterable[Problem]) -> ReadConfig:
    return ReadConfig(None, tuple(problems))
