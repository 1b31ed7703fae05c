"""Edits in the text of a file: what changes, and that nothing else does."""

from __future__ import annotations

import pytest

from inferway.resources.edits import EditError, Put, Remove, edited
from inferway.resources.text_edit import ObjectName, edit_object, find_object

ROUTE = ObjectName("HTTPRoute", "default", "r")
FIRST = ("spec", "rules", 0, "backendRefs", 0, "weight")
SECOND = ("spec", "rules", 0, "backendRefs", 1, "weight")

BLOCK = """\
# routes of the chat model
kind: HTTPRoute  # no version here
metadata: {name: r}
spec:
  rules:
  - backendRefs:
    - name: llm
      weight: 90  # old nodes
    - name: llm-new   # new nodes
      kind: InferencePool
    # a closing remark

  # another
"""


def edit(text: str, *edits: Put | Remove, is_json: bool = False) -> str:
    return edit_object(text.encode(), ROUTE, edits, is_json=is_json).decode()


def test_a_number_is_exchanged_at_its_place_and_inserted_where_it_is_missing() -> None:
    found = edit(BLOCK, Put(FIRST, 75), Put(SECOND, 25))
    assert found == BLOCK.replace("90  # old", "75  # old").replace(
        "kind: InferencePool\n", "kind: InferencePool\n      weight: 25\n"
    )


def test_flow_style() -> None:
    text = (
        "{kind: HTTPRoute, metadata: {name: r},\n"
        " spec: {rules: [{backendRefs: [{name: a, weight: 1,}, {name: b}]}]}}\n"
    )
    found = edit(text, Put(FIRST, 9), Put(SECOND, 1))
    assert found == text.replace("weight: 1,}", "weight: 9,}").replace(
        "{name: b}", "{name: b, weight: 1}"
    )


def test_json_keeps_tabs_escapes_and_one_field_per_line() -> None:
    text = (
        '{"kind":"HTTPRoute","metadata":{"name":"r","annotations":{"x":"\\ud83d\\ude00\\t"}},\n'
        '\t"spec": {"rules": [{"backendRefs": [\n'
        '\t\t{\n\t\t\t"name": "a",\n\t\t\t"weight": 90\n\t\t},\n'
        '\t\t{\n\t\t\t"name": "b"\n\t\t}\n\t]}]}}\n'
    )
    found = edit(text, Put(FIRST, 75), Put(SECOND, 25), is_json=True)
    assert found == text.replace("90", "75").replace(
        '"name": "b"\n', '"name": "b",\n\t\t\t"weight": 25\n'
    )


def test_the_object_is_found_among_documents_and_in_lists() -> None:
    text = (
        "---\n# nothing\n---\nkind: HTTPRoute\nmetadata: {name: r, namespace: other}\n"
        "spec: {w: 1}\n"
        "---\nkind: List\nitems:\n- kind: Pool\n  metadata: {name: r}\n"
        "- kind: HTTPRoute\n  metadata: {name: r}\n  spec: {w: 1}\n"
    )
    assert edit(text, Put(("spec", "w"), 2)) == text[: -len("1}\n")] + "2}\n"
    assert find_object(text.encode(), ROUTE, is_json=False) == {
        "kind": "HTTPRoute",
        "metadata": {"name": "r"},
        "spec": {"w": 1},
    }
    absent = ObjectName("HTTPRoute", "default", "absent")
    assert find_object(text.encode(), absent, is_json=False) is None
    with pytest.raises(EditError, match="not in the file: HTTPRoute default/absent"):
        edit_object(text.encode(), absent, [Put(("a",), 1)], is_json=False)


def test_an_object_that_stands_twice_is_nobody_to_guess_about() -> None:
    text = "kind: HTTPRoute\nmetadata: {name: r}\n---\nkind: HTTPRoute\nmetadata: {name: r}\n"
    with pytest.raises(EditError, match="twice"):
        find_object(text.encode(), ROUTE, is_json=False)


def test_line_ends_byte_order_mark_and_missing_last_newline_stay() -> None:
    text = "\ufeffkind: HTTPRoute\r\nmetadata:\r\n  name: r\r\nspec:\r\n  é: 1"
    found = edit(text, Put(("spec", "weight"), 5), Put(("spec", "é"), 2))
    assert found == text[:-1] + "2\r\n  weight: 5\r\n"


def test_a_status_is_added_exchanged_and_removed_as_a_block() -> None:
    text = "kind: HTTPRoute\nmetadata: {name: r}\nspec:\n  a: |\n    text\n\n---\nkind: Other\n"
    once = edit(text, Put(("status",), {"phase": "Paused", "list": [1, {"a": None}]}))
    assert "status:\n  phase: Paused\n  list:\n  - 1\n  - a: null\n" in once
    assert once.startswith("kind: HTTPRoute\nmetadata: {name: r}\nspec:\n  a: |\n    text\n")
    assert once.endswith("---\nkind: Other\n")
    twice = edit(once, Put(("status",), {"phase": "2025-01-01"}))
    assert "status:\n  phase: '2025-01-01'\n---\n" in twice
    assert edit(twice, Remove(("status",))) == text


def test_entries_of_lists_come_and_go() -> None:
    text = (
        "kind: HTTPRoute\nmetadata: {name: r}\nspec:\n  t:\n    # both\n    - name: a # first\n"
        "      weight: 1\n    - name: b\n  f: [{name: a}, {name: b}]\n"
    )
    assert edit(text, Remove(("spec", "t", 0))) == text.replace(
        "    - name: a # first\n      weight: 1\n", ""
    )
    added = edit(text, Put(("spec", "t", 2), {"name": "c", "weight": 3}))
    assert added == text.replace(
        "    - name: b\n", "    - name: b\n    - name: c\n      weight: 3\n"
    )
    assert edit(text, Remove(("spec", "f", 0))) == text.replace("{name: a}, ", "")
    assert edit(text, Remove(("spec", "f", 1))) == text.replace(", {name: b}", "")


def test_an_alias_is_replaced_and_an_anchor_stays() -> None:
    text = (
        "kind: HTTPRoute\nmetadata: {name: r}\nspec:\n  rules:\n  - backendRefs:\n"
        "    - {name: a, weight: &half 50}\n    - {name: b, weight: *half}\n"
    )
    found = edit(text, Put(SECOND, 25), Put(FIRST, 75))
    assert found == text.replace("*half", "25").replace("&half 50", "&half 75")


@pytest.mark.parametrize(
    "text",
    [
        # Another part of the file shares the value.
        "kind: HTTPRoute\nmetadata: {name: r}\nspec: {w: &x 1, v: *x}\n",
        "kind: HTTPRoute\nmetadata: {name: r}\nspec: &s {w: 1}\nother: *s\n",
    ],
)
def test_what_others_share_is_refused(text: str) -> None:
    with pytest.raises(EditError, match="without anchor, alias or merge key"):
        edit(text, Put(("spec", "w"), 2))


def test_a_value_from_a_merge_key_is_overridden_where_it_is_used() -> None:
    text = "kind: HTTPRoute\nmetadata: {name: r}\nx: &d {w: 1}\nspec:\n  <<: *d\n  y: 1\n"
    assert edit(text, Put(("spec", "w"), 2)) == text + "  w: 2\n"


def test_a_value_from_a_merge_key_is_not_removed() -> None:
    text = "kind: HTTPRoute\nmetadata: {name: r}\nx: &d {w: 1}\nspec:\n  <<: *d\n  y: 1\n"
    with pytest.raises(EditError, match="merge key"):
        edit(text, Remove(("spec", "w")))


@pytest.mark.parametrize("before", ["''", '""', "~", "Null", "# only a comment", "!!str", "text"])
def test_documents_are_counted_as_they_are_read(before: str) -> None:
    text = f"--- {before}\n---\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {{w: 1}}\n"
    assert edit(text, Put(("spec", "w"), 2)) == text.replace("w: 1", "w: 2")


def test_a_field_without_value_gets_one() -> None:
    text = "kind: HTTPRoute\nmetadata: {name: r}\nspec:\n  w:\n  v: 1\n"
    assert edit(text, Put(("spec", "w"), 2)) == text.replace("w:\n", "w: 2\n")


def test_a_broken_file_is_left_alone() -> None:
    with pytest.raises(EditError, match="error in line 1"):
        edit("kind: [", Put(("spec", "w"), 2))
    with pytest.raises(EditError, match="nothing at 'rules'"):
        edit("kind: HTTPRoute\nmetadata: {name: r}\nspec: {}\n", Put(FIRST, 1))


def test_edits_of_values_refuse_what_leads_nowhere() -> None:
    assert edited({"a": [1]}, [Put(("a", 1), 2), Remove(("a", 0))]) == {"a": [2]}
    for bad in (Remove(("b",)), Remove(("a", 5)), Put(("a", 5), 1), Put(("a", "x"), 1)):
        with pytest.raises(EditError):
            edited({"a": [1]}, [bad])
