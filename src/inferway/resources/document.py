"""YAML or JSON text as plain values that remember where they stood.

Problem: an error must name file, line and field, PyYAML's loaders either drop positions or silently
take the last of two equal keys, and its C composer overflows the stack on deep nesting. Model: one
loop over parser events builds `Node`s: the plain JSON value and, beside it, the position of every
key and entry. JSON is read as YAML, of which it is (nearly) a subset.

Invariants: never raises for any input; every position lies inside the text; depth and size are
bounded, aliases counted as if they were written out. Scalars follow YAML 1.1 as `kubectl` does,
except that base-60 numbers and timestamps stay strings.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import yaml

DEPTH_MAX: Final = 64  # levels of nesting; the deepest legal manifest has about 15
NODES_MAX: Final = 1_000_000  # values in one file, aliases expanded; bounds time and memory
NUMBER_LENGTH_MAX: Final = 100  # characters; a longer one stays a string

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Path = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_NUMBER_START = frozenset("-+.0123456789")
_INTEGER = re.compile(r"[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|[1-9][0-9_]*|0)")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?")
_WORDS: Final[dict[str, bool | float | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"), True),
    **dict.fromkeys(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
_JSON_ESCAPE = re.compile(r"\\(?:u([dD][89abAB]..)\\u([dD][c-fC-F]..)|.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Position:
    """Counted from 1, as editors do."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong with the text itself; `path` leads to the field it concerns."""

    position: Position
    path: Path
    message: str
    hint: str = ""


@dataclass(slots=True)
class Node:
    """`value` shares its parts with the values of the nodes below; nobody changes it once built."""

    value: Json
    position: Position
    size: int = 1
    keys: dict[str, Position] = field(default_factory=dict)
    children: "dict[str | int, Node]" = field(default_factory=dict)

    def locate(self, path: Path) -> Position:
        """Where the field at `path` stands, or the deepest of its parents that is written.

        A container is at its key, a scalar at its value. An index into something that is not a
        list stays where it is: a mapping that is read as a list of one keeps its positions.
        """
        node, position = self, self.position
        for step in path:
            child = node.children.get(step)
            if child is None:
                if isinstance(step, int):
                    continue
                break
            key = node.keys.get(step) if isinstance(step, str) else None
            is_scalar = not isinstance(child.value, dict | list)
            position = child.position if key is None or is_scalar else key
            node = child
        return position

    def locate_key(self, path: Path) -> Position:
        """Where the last key of `path` is written; as `locate` when it is not a key."""
        node = self
        for step in path[:-1]:
            node = node.children.get(step, node)
        last = path[-1] if path else 0
        key = node.keys.get(last) if isinstance(last, str) else None
        return key or self.locate(path)


def read_documents(data: bytes, *, is_json: bool) -> tuple[list[Node], list[Mistake]]:
    """Every document that is not empty, in order. A syntax error ends reading; what came before
    stays.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8", "replace")
        return [], [Mistake(_end_of(before), (), "the file is not UTF-8 text")]
    if is_json:
        text = _JSON_ESCAPE.sub(_join_surrogates, text.replace("\t", " "))
    builder = _Builder()
    try:
        for event in _events(text):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = _end_of(text) if mark is None else Position(mark.line + 1, mark.column + 1)
        message = " ".join(part for part in (error.context, error.problem) if part)
        builder.mistakes.append(Mistake(_inside(position, text), (), f"syntax error: {message}"))
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position].decode("utf-8", "replace")
        builder.mistakes.append(Mistake(_end_of(before), (), f"syntax error: {error.reason}"))
    except _TooBigError as error:
        builder.mistakes.append(error.mistake)
    return builder.documents, builder.mistakes


def _events(text: str) -> Iterator[yaml.Event]:
    return yaml.parse(text, Loader=yaml.CSafeLoader)


def _end_of(text: str) -> Position:
    lines = _LINE_BREAK.split(text)
    return Position(len(lines), len(lines[-1]) + 1)


def _inside(position: Position, text: str) -> Position:
    """libyaml reports an unexpected end one line below the last."""
    end = _end_of(text)
    return position if position.line <= end.line else end


def _join_surrogates(match: re.Match[str]) -> str:
    """JSON writes characters beyond the basic plane as two escapes, which YAML does not know."""
    try:
        high, low = int(match[1], 16), int(match[2], 16)
    except (TypeError, ValueError):
        return match[0]
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


class _TooBigError(Exception):
    def __init__(self, mistake: Mistake) -> None:
        super().__init__(mistake.message)
        self.mistake = mistake


class _MergeKey(str):
    """`<<` without quotes; with quotes it is a key like any other."""

    __slots__ = ()


@dataclass(slots=True)
class _Frame:
    """A container under construction."""

    node: Node
    anchor: str | None
    key: Node | None = None  # mapping: read, its value not yet
    merged: list[Node] = field(default_factory=list)


class _Builder:
    """Takes parser events, gives documents."""

    def __init__(self) -> None:
        self.documents: list[Node] = []
        self.mistakes: list[Mistake] = []
        self._stack: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._size = 0

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            node = Node(self._scalar(event), _position(event))
            self._finish(node, event.anchor)
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            self._open(event)
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            frame = self._stack.pop()
            for merged in frame.merged:
                self._merge(frame.node, merged)
            self._finish(frame.node, frame.anchor)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._anchors.clear()

    def _open(self, event: yaml.MappingStartEvent | yaml.SequenceStartEvent) -> None:
        position = _position(event)
        if len(self._stack) >= DEPTH_MAX:
            message = f"nested too deeply: at most {DEPTH_MAX} levels are allowed"
            raise _TooBigError(Mistake(position, self._path(), message))
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _TAG + ("map" if is_mapping else "seq")):
            self._mistake(position, f"YAML tag is not supported: {event.tag}", "remove the tag")
        value: Json = {} if is_mapping else []
        self._stack.append(_Frame(Node(value, position), event.anchor))

    def _alias(self, event: yaml.AliasEvent) -> None:
        anchor = event.anchor or ""
        node = self._anchors.get(anchor)
        position = _position(event)
        if node is None:
            self._mistake(position, f"alias of an anchor that is not defined before: {anchor}")
            node = Node(None, position)
        self._add(node)

    def _finish(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        self._add(node)

    def _add(self, node: Node) -> None:
        if not self._stack:
            self._size += node.size
            self._check_size(self._size, node)
            if node.value is not None:
                self.documents.append(node)
            return
        frame = self._stack[-1]
        parent = frame.node
        parent.size += node.size
        self._check_size(parent.size, parent)
        if isinstance(parent.value, list):
            parent.children[len(parent.value)] = node
            parent.value.append(node.value)
        elif frame.key is None:
            frame.key = node
        else:
            self._add_entry(frame, frame.key, node)
            frame.key = None

    def _check_size(self, size: int, node: Node) -> None:
        if size > NODES_MAX:
            message = f"too many values, aliases expanded: at most {NODES_MAX} are allowed"
            raise _TooBigError(Mistake(node.position, self._path(), message))

    def _add_entry(self, frame: _Frame, key: Node, node: Node) -> None:
        name, parent = key.value, frame.node
        if not isinstance(name, str):
            shown = "a list or mapping" if isinstance(name, list | dict) else json.dumps(name)
            self._mistake(key.position, f"key must be a string: {shown}", "quote the key")
        elif isinstance(name, _MergeKey):
            frame.merged.append(node)
        elif name in parent.keys:
            first = parent.keys[name].line
            message = f"duplicate key: {name} is already set at line {first}"
            self._mistake(key.position, message, "keep one of the two")
        else:
            _set(parent, name, key.position, node)

    def _merge(self, target: Node, source: Node) -> None:
        """`<<`: entries of a mapping, or of several, that the target does not set itself."""
        if isinstance(source.value, list):
            for index in range(len(source.value)):
                self._merge(target, source.children[index])
        elif isinstance(source.value, dict):
            for name, position in source.keys.items():
                if name not in target.keys:
                    _set(target, name, position, source.children[name])
        else:
            self._mistake(source.position, "'<<' needs a mapping or a list of mappings")

    def _scalar(self, event: yaml.ScalarEvent) -> Json:
        text: str = event.value
        tag: str | None = event.tag
        if tag is None:
            if not event.implicit[0]:
                return text
            return _MergeKey(text) if text == "<<" else resolve(text)
        if tag in ("!", _TAG + "str"):
            return text
        if tag in (_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
            return resolve(text)
        self._mistake(_position(event), f"YAML tag is not supported: {tag}", "remove the tag")
        return text

    def _path(self) -> Path:
        """Of the value that is being read."""
        path: list[str | int] = []
        for frame in self._stack:
            if isinstance(frame.node.value, list):
                path.append(len(frame.node.value))
            elif frame.key is not None and isinstance(frame.key.value, str):
                path.append(frame.key.value)
        return tuple(path)

    def _mistake(self, position: Position, message: str, hint: str = "") -> None:
        self.mistakes.append(Mistake(position, self._path(), message, hint))


def resolve(text: str) -> Json:
    """The value of a plain (unquoted) scalar."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_START or len(text) > NUMBER_LENGTH_MAX:
        return text
    if _INTEGER.fullmatch(text):
        digits = text.replace("_", "")
        sign = -1 if digits[0] == "-" else 1
        digits = digits.lstrip("+-")
        is_old_octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
        try:
            return sign * int(digits, 8 if is_old_octal else 0)
        except ValueError:  # a prefix and underscores only
            return text
    if _FLOAT.fullmatch(text):
        return float(text.replace("_", ""))
    return text


def _set(parent: Node, name: str, key: Position, node: Node) -> None:
    if isinstance(parent.value, dict):
        parent.value[name] = node.value
        parent.keys[name] = key
        parent.children[name] = node


def _position(event: yaml.Event) -> Position:
    mark = event.start_mark
    return Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)
