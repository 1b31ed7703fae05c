"""Secrets: decoded strictly, and no value of one is ever shown."""

from __future__ import annotations

import base64
import json

import pytest

from inferway.resources import Secret
from inferway.resources.decode import decode
from tests.certificates import issue

HIDDEN = "correct-horse-battery"
ENCODED = base64.b64encode(HIDDEN.encode()).decode()


def decoded(**parts: object) -> tuple[Secret | None, list[str]]:
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, **parts}
    found = decode(json.dumps(manifest).encode(), file="m.json")
    secret = found.entries[0].resource if found.entries else None
    assert secret is None or isinstance(secret, Secret)
    return secret, [str(one) for one in found.problems]


def test_text_counts_before_data() -> None:
    secret, problems = decoded(data={"a": ENCODED, "b": ENCODED}, stringData={"a": "plain"})
    assert not problems
    assert secret is not None
    assert (secret.value("a"), secret.value("b"), secret.value("c")) == (
        b"plain",
        HIDDEN.encode(),
        None,
    )


def test_lines_of_base64_are_one_value() -> None:
    secret, problems = decoded(data={"a": f"{ENCODED[:8]}\n{ENCODED[8:]}\n"})
    assert not problems
    assert secret is not None
    assert secret.value("a") == HIDDEN.encode()


@pytest.mark.parametrize(
    ("parts", "field", "words"),
    [
        ({"data": {"a": HIDDEN}}, "data.a", "base64"),
        ({"data": {"a": [HIDDEN]}}, "data.a", "base64"),
        ({"data": {"a": 5}}, "data.a", "base64"),
        ({"data": HIDDEN}, "data", "mapping"),
        ({"stringData": HIDDEN}, "stringData", "mapping"),
        ({"stringData": {"a": {"b": HIDDEN}}}, "stringData.a", "string"),
        ({"data": {"a b": ENCODED}}, 'data["a b"]', "letters, digits"),
        ({"type": "kubernetes.io/tls", "data": {"tls.crt": ENCODED}}, "data", "tls.key"),
        ({"type": "kubernetes.io/tls"}, "data", "tls.crt"),
        ({"stringData": {"a": HIDDEN * 60_000}}, "data", "1048576 bytes"),
    ],
)
def test_problems_name_the_field_and_show_no_value(
    parts: dict[str, object], field: str, words: str
) -> None:
    secret, problems = decoded(**parts)
    assert secret is None
    (first, *_rest) = problems
    assert f" {field}: " in first
    assert words in first
    assert not [one for one in problems if HIDDEN[:8] in one or ENCODED[:8] in one]


def test_no_representation_shows_a_value() -> None:
    applied = {"kubectl.kubernetes.io/last-applied-configuration": HIDDEN, "note": "kept"}
    secret, problems = decoded(
        metadata={"name": "s", "annotations": applied},
        data={"a": ENCODED},
        stringData={"b": HIDDEN},
    )
    assert not problems
    assert secret is not None
    shown = (repr(secret), str(secret), json.dumps(secret.manifest()), secret.model_dump_json())
    for text in shown:
        assert HIDDEN not in text
        assert ENCODED not in text
    assert secret.metadata.annotations == {"note": "kept"}
    manifest = secret.manifest()
    assert manifest["data"] == {"a": "**********"}


def test_what_is_shown_does_not_load_by_accident() -> None:
    """`inferway get -o yaml` hides the values; loading that must not make an empty certificate."""
    issued = issue("a.org")
    text = {"tls.crt": issued.chain, "tls.key": issued.key}
    secret, _problems = decoded(
        type="kubernetes.io/tls",
        stringData={},
        data={key: base64.b64encode(value.encode()).decode() for key, value in text.items()},
    )
    assert secret is not None
    again = decode(json.dumps(secret.manifest()).encode(), file="m.json")
    assert not again.entries
    assert {one.field for one in again.problems} == {'data["tls.crt"]', 'data["tls.key"]'}
