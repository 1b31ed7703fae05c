"""The syncer's file: what it accepts, and where it says that something is wrong."""

from __future__ import annotations

import pytest

from inferway.adapters.config import SyncConfig, UnwantedAdapter, WantedAdapter, read_config

PLAIN = """\
vLLMLoRAConfig:
  name: demo
  host: gpu-1
  port: 8001
  defaultBaseModel: llm-base
  ensureExist:
    models:
      - id: english-bot
        source: /adapters/english
      - id: spanish-bot
        source: /adapters/spanish
        base-model: other-base
  ensureNotExist:
    models:
      - id: old-bot
        source: /adapters/old
"""


def in_config_map(text: str) -> str:
    body = "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())
    return f"""\
apiVersion: v1
kind: ConfigMap
metadata:
  name: adapters
data:
  notes.txt: nothing of interest
  configmap.yaml: |
{body}"""


def good(text: str, file: str = "c.yaml") -> SyncConfig:
    read = read_config(text.encode(), file=file)
    assert [str(one) for one in read.problems] == []
    assert read.config is not None
    return read.config


def said(text: str, file: str = "c.yaml") -> list[str]:
    read = read_config(text.encode(), file=file)
    assert read.config is None
    return [str(one) for one in read.problems]


@pytest.mark.parametrize("wrapped", [False, True])
def test_every_field(wrapped: bool) -> None:
    config = good(in_config_map(PLAIN) if wrapped else PLAIN)
    assert config.url == "http://gpu-1:8001"
    assert config.default_base_model == "llm-base"
    assert config.ensure_exist.models == (
        WantedAdapter(id="english-bot", source="/adapters/english"),
        WantedAdapter(id="spanish-bot", source="/adapters/spanish", base_model="other-base"),
    )
    assert config.ensure_not_exist.models == (
        UnwantedAdapter(id="old-bot", source="/adapters/old"),
    )


def test_defaults() -> None:
    config = good("vLLMLoRAConfig: {}")
    assert config.url == "http://localhost:8000"
    assert config.ensure_exist.models == config.ensure_not_exist.models == ()
    assert good("vLLMLoRAConfig: {host: '::1'}").url == "http://[::1]:8000"


def test_a_config_map_among_other_documents_and_as_json() -> None:
    deployment = "kind: Deployment\nspec: {replicas: 1}\n---\n"
    assert good(deployment + in_config_map(PLAIN)).port == 8001
    quoted = '{"kind": "ConfigMap", "data": {"c": "vLLMLoRAConfig: {port: 9}"}}'
    assert good(quoted, "c.json").port == 9


@pytest.mark.parametrize(
    ("old", "new", "field", "line", "says"),
    [
        ("port: 8001", "port: 99999", "port", 4, "must be from 1 to 65535: 99999"),
        ("port: 8001", "port: '8001'", "port", 4, "hint: remove the quotes"),
        ("defaultBaseModel", "defaultBaseMode", "defaultBaseMode", 5, "did you mean"),
        ("  source: /adapters/english", "  sauce: x", "ensureExist.models[0].sauce", 9, "source?"),
        ("base-model: other-base", "base-model: 7", "ensureExist.models[1]", 12, "in quotes"),
        ("- id: old-bot", "- id: ''", "ensureNotExist.models[0].id", 15, "must not be empty"),
        ("- id: spanish-bot", "- id: english-bot", "models[1].id", 10, "listed twice: english-bot"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_mistakes_have_a_place(
    old: str, new: str, field: str, line: int, says: str, *, wrapped: bool
) -> None:
    text = PLAIN.replace(old, new)
    assert text != PLAIN
    inner = said(text)
    assert any(f"c.yaml:{line}:" in one and field in one and says in one for one in inner), inner
    if wrapped:
        whole = in_config_map(text)
        found = said(whole)
        assert len(found) == len(inner)
        for one, other in zip(inner, found, strict=True):
            assert one.split(": ", 1)[1] == other.split(": ", 1)[1]
            _, number, column = other.split(": ")[0].split(":")
            _, inner_number, inner_column = one.split(": ")[0].split(":")
            assert int(number) == int(inner_number) + 7, "the lines of the ConfigMap above it"
            assert int(column) == int(inner_column) + 4, "the indentation in the block"


def test_files_without_one_configuration() -> None:
    assert "c.yaml:1:1: error: vLLMLoRAConfig: is missing" in said("")[0]
    assert "vLLMLoRAConfig: is missing" in said("kind: ConfigMap\ndata: {a: b}")[0]
    assert "data: must be a mapping, got a list" in said("kind: ConfigMap\ndata: []")[0]
    assert "data: is missing" in said("kind: ConfigMap")[0]
    twice = said(PLAIN + "---\n" + PLAIN)
    assert "c.yaml:18:1:" in twice[0]
    assert "a second time" in twice[0]
    assert "syntax error" in said("vLLMLoRAConfig: {")[0]
    assert "must be a mapping" in said("vLLMLoRAConfig: [1]")[0]


def test_a_syntax_error_inside_a_config_map_has_its_line() -> None:
    text = PLAIN.replace("port: 8001", "port: {")
    assert said(text)[0].startswith("c.yaml:6:14: error: ")
    first = said(in_config_map(text))[0]
    assert first.startswith("c.yaml:13:18: error: data")
    assert "syntax error" in first
