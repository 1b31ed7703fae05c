"""Where every value of a YAML or JSON text begins and ends, so that a part can be exchanged.

`document` gives values and the positions where they start, which is what messages need. Changing a
text also needs the ends, the style (block or flow) and which values are aliases. Built from the
same parser's events; offsets count characters. Not for untrusted nesting: `document` has read the
text before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import yaml

from .document import resolve

if TYPE_CHECKING:
    from .document import Path

_JSON_SURROGATES = re.compile(r"\\u[dD][89abAB]..\\u[dD][c-fC-F]..")


@dataclass(slots=True, eq=False)
class Span:
    """One value. `start` includes an anchor or tag; `last` is where its last visible part ends, so
    that comments and blank lines behind a block are not in it.
    """

    shape: Literal["scalar", "mapping", "sequence", "alias"]
    start: int
    column: int
    last: int
    is_flow: bool = False
    is_plain: bool = False  # scalar: without quotes, block mark or tag
    text: str = ""  # scalar: its value; alias: the anchor's name
    keys: dict[str, Span] = field(default_factory=dict)
    values: dict[str, Span] = field(default_factory=dict)
    items: list[Span] = field(default_factory=list)
    target: Span | None = None  # alias

    @property
    def resolved(self) -> Span:
        """What an alias stands for; anything else is itself."""
        return self if self.target is None else self.target.resolved

    @property
    def is_null(self) -> bool:
        return self.is_plain and resolve(self.text) is None

    def at(self, path: Path) -> Span | None:
        """The value at a path, aliases followed on the way but not at the end."""
        span: Span | None = self
        for step in path:
            if span is None:
                return None
            inner = span.resolved
            if isinstance(step, str):
                span = inner.values.get(step)
            else:
                span = inner.items[step] if step < len(inner.items) else None
        return span


@dataclass(slots=True)
class _Frame:
    span: Span
    key: Span | None = None


def read_spans(text: str, *, is_json: bool) -> list[Span]:
    """The root of every document that is not empty, as `document.read_documents` counts them.
    Raises yaml.YAMLError for what that function reports.
    """
    if is_json:  # the same length as written, and legal YAML
        text = _JSON_SURROGATES.sub(lambda found: "x" * len(found[0]), text.replace("\t", " "))
    roots: list[Span] = []
    stack: list[_Frame] = []
    anchors: dict[str, Span] = {}
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if isinstance(event, yaml.DocumentStartEvent):
            anchors.clear()
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            span = _span("mapping" if is_mapping else "sequence", event)
            span.is_flow = bool(event.flow_style)
            if event.anchor:
                anchors[event.anchor] = span
            stack.append(_Frame(span))
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            span = stack.pop().span
            if span.is_flow:
                span.last = _end(event)
            _add(stack, roots, span)
        elif isinstance(event, yaml.ScalarEvent):
            span = _span("scalar", event)
            span.text, span.is_plain = event.value, bool(event.implicit[0])
            if event.anchor:
                anchors[event.anchor] = span
            _add(stack, roots, span)
        elif isinstance(event, yaml.AliasEvent):
            span = _span("alias", event)
            span.text = event.anchor or ""
            span.target = anchors.get(span.text)
            _add(stack, roots, span)
    return roots


def _span(shape: Literal["scalar", "mapping", "sequence", "alias"], event: yaml.Event) -> Span:
    start = event.start_mark
    if start is None:
        return Span(shape, 0, 0, 0)
    return Span(shape, start.index, start.column, _end(event))


def _end(event: yaml.Event) -> int:
    return 0 if event.end_mark is None else event.end_mark.index


def _add(stack: list[_Frame], roots: list[Span], span: Span) -> None:
    if not stack:
        if not span.is_null:
            roots.append(span)
        return
    frame = stack[-1]
    parent = frame.span
    parent.last = max(parent.last, span.last)
    if parent.shape == "sequence":
        parent.items.append(span)
    elif frame.key is None:
        frame.key = span
    else:
        parent.keys[frame.key.text] = frame.key
        parent.values[frame.key.text] = span
        frame.key = None
