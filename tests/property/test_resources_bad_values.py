"""Every limit of every field of every kind, overstepped in turn: the problem has file, line, field
and what is allowed; and nothing else stops working.

What can be wrong is read from the JSON schema of each kind, so that a new field or kind is covered
as soon as it exists. `test_resources_fields` has the legal manifests, and what needs no schema:
wrong types, misspelt and duplicate fields.
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from inferway.resources.decode import decode
from inferway.resources.kinds import BY_KIND, KINDS
from inferway.resources.problems import field_path
from inferway.resources.schema import json_schema
from inferway.sources.directory import DirectorySource
from tests.property.test_resources_fields import Rendered, manifest, parent_of, render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as FilePath

Path = tuple[str | int, ...]
Schema = dict[str, Any]

HEAD = ("apiVersion", "kind")  # of another version or kind, the manifest is another matter
# Whoever reads one of these knows what to write instead.
SAYS_HOW = re.compile(
    "must be|must have at most|must not be empty|needs at least|required field is missing|at most|"
    "excluded by|unique|must not contain|only with|needs |either |^not an? "
)
BAD_TEXTS = ("*-bad value-*", "/", "-", "9 9", "\u00e9\u00df", "UPPER_case!")


@dataclass(frozen=True)
class Mistake:
    """`path` leads to the field that is wrong."""

    kind: str
    path: Path
    what: str
    rendered: Rendered

    @property
    def text(self) -> str:
        return "\n".join(self.rendered.text) + "\n"

    @property
    def line(self) -> int:
        """Where the field stands, or its parent; an entry of a list begins below its dash."""
        lines = self.rendered.lines
        if self.path in lines:
            return lines[self.path]
        line = lines.get(self.path[:-1], 1)
        return line + (self.rendered.text[line - 1].strip() == "-")

    def __str__(self) -> str:
        return f"{self.kind}.{field_path(self.path)}: {self.what}"


def resolved(root: Schema, node: Schema) -> Schema | None:
    """The schema that a field's value must satisfy; None when there are several ways."""
    options = [one for one in node.get("anyOf", ()) if one.get("type") != "null"]
    if options:
        return resolved(root, options[0]) if len(options) == 1 else None
    if "$ref" in node:
        return resolved(root, root["$defs"][node["$ref"].rpartition("/")[2]])
    return node


def schemas(
    root: Schema, node: Schema, value: Any, path: Path = ()
) -> Iterator[tuple[Path, Schema, Any]]:
    """Every field of a manifest with its schema and its value."""
    here = resolved(root, node)
    if here is None:
        return
    if path:
        yield path, here, value
    if isinstance(value, dict):
        for name, below in here.get("properties", {}).items():
            if name in value:
                yield from schemas(root, below, value[name], (*path, name))
    elif isinstance(value, list) and "items" in here:
        for index, item in enumerate(value):
            yield from schemas(root, here["items"], item, (*path, index))


def bad_values(schema: Schema, value: Any) -> Iterator[tuple[str, Any]]:
    """What is wrong about it, and the value."""
    if "enum" in schema or "const" in schema:
        yield "not one of the words", "NoSuchWord"
    if schema.get("type") == "integer":
        yield "a number in quotes", str(value)
        yield "a fraction", 1.5
        yield "a boolean", True
        for limit, beyond in (("minimum", -1), ("maximum", 1)):
            if limit in schema:
                yield f"beyond its {limit}", schema[limit] + beyond
    if schema.get("type") == "boolean":
        yield "a boolean in quotes", "true"
    if schema.get("type") == "string":
        if schema.get("minLength"):
            yield "empty", ""
        if "maxLength" in schema:
            yield "too long", "a" * (schema["maxLength"] + 1)
        pattern = schema.get("pattern")
        if pattern:
            yield "malformed", next(one for one in BAD_TEXTS if not re.search(pattern, one))
        if schema.get("format") == "date-time":
            yield "no timestamp", "yesterday"
    if isinstance(value, list):
        if schema.get("minItems"):
            yield "too few", []
        if "maxItems" in schema:
            yield "too many", value[:1] * (schema["maxItems"] + 1)
    if isinstance(value, dict):
        if schema.get("minProperties"):
            yield "no entry", {}
        if "maxProperties" in schema:
            yield "too many entries", {f"k{n}": "v" for n in range(schema["maxProperties"] + 1)}


def mistakes(kind: str) -> Iterator[Mistake]:
    root = json_schema(BY_KIND[kind])
    legal = manifest(kind)
    for path, schema, value in schemas(root, root, legal):
        if path[0] in HEAD:
            continue
        for what, bad in bad_values(schema, value):
            wrong = deepcopy(legal)
            parent_of(wrong, path)[path[-1]] = bad
            yield Mistake(kind, path, what, render(wrong))
        if isinstance(value, dict):
            for name in schema.get("required", ()):
                wrong = deepcopy(legal)
                del parent_of(wrong, (*path, name))[name]
                yield Mistake(kind, (*path, name), "missing", render(wrong))
    for name in HEAD:
        wrong = {key: value for key, value in legal.items() if key != name}
        yield Mistake(kind, (name,), "missing", render(wrong))


ALL = [mistake for info in KINDS for mistake in mistakes(info.kind)]


@pytest.mark.parametrize("mistake", ALL, ids=str)
def test_it_is_found_at_its_place_with_the_way_out(mistake: Mistake) -> None:
    decoded = decode(mistake.text.encode(), file="m.yaml")
    assert decoded.entries == ()
    errors = [problem for problem in decoded.problems if problem.is_error]
    field = field_path(mistake.path)
    at_field = [one for one in errors if one.field == field]
    assert at_field, [str(one) for one in errors]
    assert {(one.file, one.line) for one in at_field} == {("m.yaml", mistake.line)}
    unhelpful = [str(one) for one in errors if not (one.hint or SAYS_HOW.search(one.message))]
    assert not unhelpful


def test_every_kind_of_mistake_was_made() -> None:
    made = {mistake.what for mistake in ALL}
    assert made >= {
        "not one of the words",
        "beyond its maximum",
        "missing",
        "malformed",
        "too long",
    }
    for info in KINDS:
        assert sum(mistake.kind == info.kind for mistake in ALL) >= 5


@pytest.mark.parametrize("kind", [info.kind for info in KINDS])
def test_nothing_else_stops_working(kind: str, tmp_path: FilePath) -> None:
    """The file with the mistake keeps its last good object; another file's change counts."""
    legal = "\n".join(render(manifest(kind)).text) + "\n"
    victim, other = tmp_path / "a-victim.yaml", tmp_path / "b-other.yaml"
    names = frozenset({victim.name, other.name})
    other_kind = "ModelServer" if kind != "ModelServer" else "InferencePool"
    source = DirectorySource([tmp_path])
    victim.write_text(legal)
    source.refresh(names)
    (good,) = source.snapshot(changed_at=0.0).resources
    for number, mistake in enumerate(one for one in ALL if one.kind == kind):
        victim.write_text(mistake.text)
        changed = manifest(other_kind)
        changed["metadata"]["name"] = f"other-{number}"
        other.write_text("\n".join(render(changed).text) + "\n")
        source.refresh(names)
        snapshot = source.snapshot(changed_at=0.0)
        assert snapshot.has_errors, mistake
        kept, fresh = snapshot.resources
        assert kept == good, mistake
        assert (fresh.kind, fresh.name) == (other_kind, f"other-{number}"), mistake
    victim.write_text(legal)
    source.refresh(names)
    snapshot = source.snapshot(changed_at=0.0)
    assert not snapshot.has_errors
    assert next(iter(snapshot.resources)) == good
