"""Edits of one object in the text of a manifest file; everything else stays as it was written.

Problem: a program that loads YAML and dumps it again loses comments, order, quoting and anchors,
and people stop letting it near their files. Model: find the object, exchange exactly the characters
of the value, or insert or remove one entry in the style of its neighbours; then read the result
again and compare it with the edits made on values. Invariant: what is returned decodes to the same
documents as before but for the edits; where that cannot be had (an anchor that others use, a value
that comes from a merge key), EditError says so and nothing is changed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

from .document import read_documents
from .edits import Edit, EditError, Put, Remove, edited, value_at
from .problems import field_path
from .text_spans import read_spans

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .document import Json, Path
    from .text_spans import Span

_BOM: Final = b"\xef\xbb\xbf"
_PROPERTIES = re.compile(r"(?:[&!][^\s,\[\]{}]*\s+)*")
_LINE_WIDTH_MAX: Final = 1_000_000  # values are not folded


@dataclass(frozen=True, slots=True)
class ObjectName:
    """Identity of an object inside a file."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class _Place:
    document: int
    path: Path  # inside the document: not empty in a List


def find_object(data: bytes, name: ObjectName, *, is_json: bool) -> Json:
    """The object as it is written; None when the file does not hold it. EditError when the file
    cannot be read or has the object twice.
    """
    values = _values(data, is_json=is_json)
    place = _place(values, name)
    return None if place is None else value_at(values[place.document], place.path)


def edit_object(data: bytes, name: ObjectName, edits: Sequence[Edit], *, is_json: bool) -> bytes:
    """The text with the edits made to that object. EditError when they cannot be made in place."""
    values = _values(data, is_json=is_json)
    place = _place(values, name)
    if place is None:
        raise EditError(f"not in the file: {name}")
    at = place.document
    rooted = [_rooted(edit, place.path) for edit in edits]
    wanted = [*values[:at], edited(values[at], rooted), *values[at + 1 :]]
    text = data.removeprefix(_BOM).decode()
    for edit in rooted:
        text = _Editor(text, at, is_json=is_json).made(edit)
    result = (_BOM if data.startswith(_BOM) else b"") + text.encode()
    try:
        found = _values(result, is_json=is_json)
    except EditError:
        found = []
    if found != wanted:
        fields = ", ".join(dict.fromkeys(field_path(edit.path) for edit in edits))
        raise EditError(
            f"{name}: {fields} cannot be changed in place without changing something else: "
            "write the value out where it is used, without anchor, alias or merge key"
        )
    return result


def _values(data: bytes, *, is_json: bool) -> list[Json]:
    nodes, mistakes = read_documents(data, is_json=is_json)
    if mistakes:
        first = mistakes[0]
        raise EditError(f"the file has an error in line {first.position.line}: {first.message}")
    return [node.value for node in nodes]


def _place(values: Sequence[Json], name: ObjectName) -> _Place | None:
    found = [
        _Place(index, path)
        for index, value in enumerate(values)
        for path, manifest in _objects(value, ())
        if _is_named(manifest, name)
    ]
    if len(found) > 1:
        raise EditError(f"the file has it twice: {name}")
    return found[0] if found else None


def _objects(value: Json, path: Path) -> Iterator[tuple[Path, dict[str, Json]]]:
    if not isinstance(value, dict):
        return
    items = value.get("items")
    if value.get("kind") == "List" and isinstance(items, list):
        for index, item in enumerate(items):
            yield from _objects(item, (*path, "items", index))
    else:
        yield path, value


def _is_named(manifest: dict[str, Json], name: ObjectName) -> bool:
    metadata = manifest.get("metadata")
    return (
        manifest.get("kind") == name.kind
        and isinstance(metadata, dict)
        and metadata.get("name") == name.name
        and (metadata.get("namespace") or "default") == name.namespace
    )


def _rooted(edit: Edit, path: Path) -> Edit:
    whole = (*path, *edit.path)
    return Put(whole, edit.value) if isinstance(edit, Put) else Remove(whole)


class _Editor:
    """Makes one edit. Offsets are good for one text only, so each edit reads it anew."""

    def __init__(self, text: str, document: int, *, is_json: bool) -> None:
        self._text = text
        self._is_json = is_json
        self._root = read_spans(text, is_json=is_json)[document]
        self._newline = "\r\n" if "\r\n" in text else "\n"

    def made(self, edit: Edit) -> str:
        parent = self._root.at(edit.path[:-1])
        if parent is None:
            where = field_path(edit.path[:-1])
            raise EditError(f"{where} is not written there (a merge key?): write it out")
        parent, last = parent.resolved, edit.path[-1]
        span = parent.at((last,))
        if isinstance(edit, Remove):
            return self._removed(parent, last)
        if span is None:
            return self._inserted(parent, last, edit.value)
        if span.shape == "alias" or (
            span.shape == "scalar" and not isinstance(edit.value, dict | list)
        ):
            return self._replaced(span, edit.value)
        editor = _Editor(self._removed(parent, last), self._index(), is_json=self._is_json)
        return editor.made(edit)

    def _index(self) -> int:
        starts = [root.start for root in read_spans(self._text, is_json=self._is_json)]
        return starts.index(self._root.start)

    def _replaced(self, span: Span, value: Json) -> str:
        old = self._text[span.start : span.last]
        kept = "" if span.shape == "alias" else (_PROPERTIES.match(old + " ") or [""])[0]
        kept = kept[: len(old)]
        space = " " if self._text[: span.start].endswith(":") else ""
        new = space + kept + self._flow_text(value)
        return self._text[: span.start] + new + self._text[span.last :]

    def _inserted(self, parent: Span, step: str | int, value: Json) -> str:
        if parent.is_flow:
            return self._inserted_in_flow(parent, step, value)
        if parent.shape == "mapping" and isinstance(step, str):
            column = next(iter(parent.keys.values())).column
            block = self._block({step: value})
        elif parent.shape == "sequence":
            column = parent.column
            block = self._block([value])
        else:
            raise EditError(f"no entry can be added where {step!r} should stand")
        indented = [(" " * column + line) if line else "" for line in block.splitlines()]
        at = self._line_end(parent.last)
        before = "" if at == 0 or self._text[at - 1] == "\n" else self._newline
        new = before + self._newline.join(indented) + self._newline
        return self._text[:at] + new + self._text[at:]

    def _inserted_in_flow(self, parent: Span, step: str | int, value: Json) -> str:
        key = ""
        if isinstance(step, str):
            key = f"{json.dumps(step) if self._is_json else step}: "
        new = key + self._flow_text(value)
        children = [*parent.keys.values()] or parent.items
        if not children:
            at = parent.last - 1
            return self._text[:at] + new + self._text[at:]
        end = max(child.last for child in [*parent.values.values(), *parent.items])
        start = self._line_start(children[0].start)
        lead = self._text[start : children[0].start]
        one_per_line = (
            not lead.strip()
            and children[0].start > parent.start + 1
            and "\n" in (self._text[parent.start : children[0].start])
        )
        glue = f",{self._newline}{lead}" if one_per_line else ", "
        return self._text[:end] + glue + new + self._text[end:]

    def _removed(self, parent: Span, step: str | int) -> str:
        entries = (
            [(parent.keys[name], parent.values[name]) for name in parent.keys]
            if isinstance(step, str)
            else [(item, item) for item in parent.items]
        )
        if isinstance(step, str) and step not in parent.keys:
            raise EditError(f"{step} is not written there (a merge key?): write it out")
        index = list(parent.keys).index(step) if isinstance(step, str) else step
        key, value = entries[index]
        if not parent.is_flow:
            return self._removed_lines(key.start, value.last, is_item=isinstance(step, int))
        start, end = key.start, value.last
        if index + 1 < len(entries):
            end = entries[index + 1][0].start
        elif index > 0:
            start = entries[index - 1][1].last
        return self._text[:start] + self._text[end:]

    def _removed_lines(self, start: int, end: int, *, is_item: bool) -> str:
        first = self._line_start(start)
        lead = self._text[first:start]
        if lead.strip() != ("-" if is_item else ""):
            raise EditError("an entry that shares its line with another cannot be removed in place")
        return self._text[:first] + self._text[self._line_end(end) :]

    def _line_start(self, offset: int) -> int:
        return self._text.rfind("\n", 0, offset) + 1

    def _line_end(self, offset: int) -> int:
        """Where the next line starts; `offset` itself when it is such a place already."""
        if offset > 0 and self._text[offset - 1] == "\n":
            return offset
        found = self._text.find("\n", offset)
        return len(self._text) if found < 0 else found + 1

    def _flow_text(self, value: Json) -> str:
        if self._is_json or isinstance(value, dict | list):
            return json.dumps(value)
        return _dump(value).removesuffix("\n").removesuffix("\n...")

    def _block(self, value: Json) -> str:
        return _dump(value)


def _dump(value: Json) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH_MAX)
