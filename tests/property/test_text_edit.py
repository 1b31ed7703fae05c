"""Any object, written in any style: an edit of the text is the edit of the values, and what is not
edited keeps its characters.
"""

from __future__ import annotations

import json

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.resources.document import Json, read_documents
from inferway.resources.edits import EditError, Put, Remove, edited
from inferway.resources.text_edit import ObjectName, edit_object

NAME = ObjectName("Thing", "default", "x")
KEYS = st.text("abcXYZ é-", min_size=1, max_size=6).map(lambda key: f"k{key.strip()}")
LEAVES = st.none() | st.booleans() | st.integers(-9, 999) | st.text("ab \n:#'\"é{[,", max_size=9)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=12,
)
STYLES = st.sampled_from(("block", "flow", "mixed", "json", "pretty"))


def written(manifest: Json, style: str) -> tuple[bytes, bool]:
    if style == "json":
        return json.dumps(manifest).encode(), True
    if style == "pretty":
        return json.dumps(manifest, indent=2).encode() + b"\n", True
    flow = {"block": False, "flow": True, "mixed": None}[style]
    return yaml.safe_dump(manifest, default_flow_style=flow, allow_unicode=True).encode(), False


def paths(value: Json, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += paths(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += paths(item, (*path, index))
    return found


@settings(deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=4), STYLES, VALUES, st.data())
def test_an_edit_of_the_text_is_the_edit_of_the_values(
    spec: dict[str, Json], style: str, value: Json, data: st.DataObject
) -> None:
    manifest: Json = {"kind": "Thing", "metadata": {"name": "x"}, "spec": {"z": 1, **spec}}
    before, is_json = written(manifest, style)
    places = [path for path in paths(manifest) if path[0] == "spec" and len(path) > 1]
    path = data.draw(st.sampled_from([*places, ("status",), ("spec", "new")]))
    removes = path in places and data.draw(st.booleans())
    edit = Remove(path) if removes else Put(path, value)
    try:
        after = edit_object(before, NAME, [edit], is_json=is_json)
    except EditError:
        # What cannot be done in place is refused; numbers and whole entries always can.
        assert removes or isinstance(value, dict | list | str) or value is None
        return
    nodes, mistakes = read_documents(after, is_json=is_json)
    assert not mistakes
    assert nodes[0].value == edited(manifest, [edit])


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=2, max_size=4), STYLES, st.data())
def test_a_number_is_always_changed_in_place(
    weights: list[int], style: str, data: st.DataObject
) -> None:
    """With nothing else in the text touched, not even white space."""
    items: list[Json] = [{"name": f"n{i}", "weight": w, "z": "1"} for i, w in enumerate(weights)]
    manifest: Json = {"kind": "Thing", "metadata": {"name": "x"}, "spec": {"refs": items}}
    before, is_json = written(manifest, style)
    index = data.draw(st.integers(0, len(weights) - 1))
    new = data.draw(st.integers(0, 10**6))
    put = Put(("spec", "refs", index, "weight"), new)
    after = edit_object(before, NAME, [put], is_json=is_json)
    marker = 10**9
    marked = edited(manifest, [Put(put.path, marker)])
    start, end = written(marked, style)[0].split(str(marker).encode())
    if style in ("json", "pretty", "block"):  # others fold lines by their length
        assert after == start + str(new).encode() + end
    assert len(after) - len(before) == len(str(new)) - len(str(weights[index]))
