"""Whatever bytes come in, decoding returns, and every problem points into the text."""

import json
import re

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from inferway.resources.decode import decode
from inferway.resources.document import read_documents, resolve

ROUTE = """\
# comment
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: routes
  labels: &labels {app: "x", tier: 'gold'}
spec:
  parentRefs:
  - name: gateway
  hostnames: [example.com, "*.example.org"]
  rules:
  - matches:
    - path: {type: PathPrefix, value: /v1}
      headers:
      - name: X-Gateway-Model-Name
        value: chatbot
    backendRefs:
    - &backend
      group: inference.networking.k8s.io
      kind: InferencePool
      name: gemma
      weight: 90
    - <<: *backend
      name: gemma-new
      weight: 10
    timeouts: {request: 300s}
---
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata:
  name: server
  labels: {<<: *labels}
spec:
  addresses:
  - host: "[::1]"
    port: 8000
  metricsPath: >-
    /metrics
"""
LINE_BREAK = re.compile("\r\n|[\r\n\x85\u2028\u2029]")
PIECES = [
    *"\t\r\n\0\x85\u2028\ufeff \"'#&*!|>%@`{}[],:?-~<=é😀",
    "---\n",
    "...\n",
    "- ",
    ": ",
    "<<: ",
]
PIECES += ["*backend", "&backend ", "!!str ", "!x ", "null", "1e999", "0x", "0b", "kind: List\n"]

mutation = st.tuples(
    st.sampled_from(("insert", "delete", "repeat", "move")),
    st.integers(0, len(ROUTE)),
    st.integers(0, 40),
    st.sampled_from(PIECES),
)


def mutate(text: str, kind: str, start: int, length: int, piece: str) -> str:
    cut = text[start : start + length]
    if kind == "insert":
        return text[:start] + piece + text[start:]
    if kind == "delete":
        return text[:start] + text[start + length :]
    if kind == "repeat":
        return text[:start] + cut + cut + text[start + length :]
    rest = text[:start] + text[start + length :]
    return rest[length:] + cut + rest[:length]


def check(data: bytes, file: str) -> None:
    decoded = decode(data, file=file)
    lines = len(LINE_BREAK.split(data.decode("utf-8", "replace")))
    for problem in decoded.problems:
        assert problem.file == file
        assert 1 <= problem.line <= lines, problem
        assert problem.column >= 1
        assert problem.message
    for entry in decoded.entries:
        assert 1 <= entry.origin.line <= lines
    assert (
        decoded.entries
        or decoded.problems
        or not any(node.value for node in read_documents(data, is_json=file.endswith(".json"))[0])
    ), "an object was dropped without a word"


@settings(max_examples=400, deadline=None)
@given(st.lists(mutation, min_size=1, max_size=6))
@example([("insert", 0, 0, "- ")])
def test_mutated_manifests(mutations: list[tuple[str, int, int, str]]) -> None:
    text = ROUTE
    for kind, start, length, piece in mutations:
        text = mutate(text, kind, start, length, piece)
    check(text.encode(), "m.yaml")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(("m.yaml", "m.json")))
@example(b"[" * 100_000, "m.yaml")
@example(b"- " * 10_000, "m.yaml")
@example(b"? " * 10_000, "m.yaml")
@example(b"{a: " * 10_000, "m.yaml")
@example(b"a: &a [*a]", "m.yaml")
@example(b"- &a {x: y}\n- *a\n- *a", "m.yaml")
@example(b"kind: List\nitems: {a: b}", "m.yaml")
@example(b"kind: List\nitems: [null, 3]", "m.yaml")
@example(b'{"a": "\\ud800\\u0041"}', "m.json")
def test_any_bytes(data: bytes, file: str) -> None:
    check(data, file)


def test_aliases_do_not_multiply() -> None:
    """Nine levels of nine references: a billion values if written out."""
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    data = "\n".join(["l0: &l0 [x, x]", *levels]).encode()
    problems = decode(data, file="bomb.yaml").problems
    assert "too many values" in problems[-1].message


# YAML calls control characters, DEL among them, not printable; JSON escapes most of them.
text = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=8)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(text, values, min_size=1), st.booleans(), st.sampled_from((None, "\t")))
@example({"<<": 1, "escapes": '\b\f\n\r\t"\\/\0'}, True, "\t")
def test_json_reads_as_python_reads_it(
    value: dict[str, object], ascii_only: bool, indent: str | None
) -> None:
    written = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    documents, mistakes = read_documents(written.encode(), is_json=True)
    assert mistakes == []
    assert [document.value for document in documents] == [value]


@settings(max_examples=300, deadline=None)
@given(st.text("0123456789.-+eExXob_~truefalsnyoTFN", min_size=1, max_size=8))
@example("0._")
def test_plain_scalars_resolve_as_in_pyyaml(text: str) -> None:
    """But for forms that PyYAML and the Kubernetes tools read differently."""
    try:
        expected = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return
    if isinstance(expected, str) or not isinstance(expected, int | float | bool | None):
        return
    found = resolve(text)
    assert found == expected or str(found) == str(expected)
