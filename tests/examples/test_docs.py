"""What the documentation shows is true: manifests decode, commands exist, links lead somewhere, and
generated parts are those that the code gives now.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer

from inferway.cli.main import app
from inferway.picker.scheduling.registry import POLICIES
from inferway.resources.decode import decode
from inferway.resources.kinds import find_kind

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / "README.md", ROOT / "ARCHITECTURE.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").rglob("*.md"),
    ],
    key=lambda page: page.as_posix(),
)
FENCE = re.compile(r"^```(?P<language>[a-z]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
SHELL = {"", "console", "sh", "bash"}
SHOWN = re.compile(r"(?:\$ )?inferway ((?:[a-z][a-z-]*|--[a-z-]+)(?: .*)?)")
INLINE = re.compile(r"`(inferway (?:[a-z-]+|COMMAND)[^`]*)`")
LINK = re.compile(r"(?<!!)\[[^]]*\]\((?P<target>[^)\s]+)\)")
MAKE = re.compile(r"(?:`|^)make (?P<target>[a-z]+)", re.MULTILINE)


def blocks(languages: set[str]) -> list[tuple[str, str]]:
    """Place and text of every fenced block in one of these languages."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for block in FENCE.finditer(text):
            line = text.count("\n", 0, block.start()) + 2
            if block["language"] in languages:
                found.append((f"{page.relative_to(ROOT)}:{line}", block["text"]))
    return found


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def shown_commands() -> list[tuple[str, list[str]]]:
    """Place and words of every `inferway …` line in a block."""
    found = []
    for place, text in blocks(SHELL):
        file, _, start = place.partition(":")
        for number, line in enumerate(text.splitlines(), int(start)):
            command = SHOWN.fullmatch(line)
            if command:
                found.append((f"{file}:{number}", shlex.split(command[1], comments=True)))
    return found


def mentioned_commands() -> list[tuple[str, list[str]]]:
    """Page and words of every `inferway …` inside a sentence."""
    return [
        (str(page.relative_to(ROOT)), found[1].split()[1:])
        for page in PAGES
        for found in INLINE.finditer(prose(page))
    ]


@cache
def subcommands() -> dict[str, typer.core.TyperCommand]:
    group = typer.main.get_command(app)
    assert isinstance(group, typer.core.TyperGroup)
    return group.commands  # type: ignore[return-value]


def resolved(words: list[str]) -> tuple[typer.core.TyperCommand, list[str]]:
    """The command that the words name, through groups, and the rest of them."""
    command, rest = subcommands()[words[0]], words[1:]
    while isinstance(command, typer.core.TyperGroup) and rest:
        command, rest = command.commands[rest[0]], rest[1:]  # type: ignore[assignment]
    return command, rest


def options_of(command: typer.core.TyperCommand) -> set[str]:
    return {option for one in command.params for option in (*one.opts, *one.secondary_opts)}


@pytest.mark.parametrize(("place", "text"), blocks({"yaml"}), ids=lambda value: value[:40])
def test_manifests_decode(place: str, text: str) -> None:
    decoded = decode(text.encode(), file=place)
    assert [str(problem) for problem in decoded.problems if problem.is_error] == []
    assert decoded.entries, "a block without any object proves nothing"


@pytest.mark.parametrize(("place", "words"), shown_commands(), ids=str)
def test_shown_commands_exist(place: str, words: list[str]) -> None:
    if words[0].startswith("-"):
        assert words[0] in {"--version", "--help", "--install-completion"}, place
        return
    command, rest = resolved(words)
    context = command.make_context(words[0], rest)
    kind = context.params.get("kind")
    assert kind is None or find_kind(kind), f"{place}: no kind: {kind}"
    assert (context.params.get("policy") or "random") in POLICIES, place


@pytest.mark.parametrize(("page", "words"), mentioned_commands(), ids=str)
def test_mentioned_commands_exist(page: str, words: list[str]) -> None:
    if words[0] == "COMMAND" or words[0].startswith("-"):
        return
    command, _rest = resolved([word for word in words if re.fullmatch(r"[a-z-]+", word)])
    known = options_of(command) | {"--help"}
    options = {word.partition("=")[0] for word in words[1:] if word.startswith("-")}
    assert options <= known, page


def test_the_checks_have_something_to_check() -> None:
    assert len(blocks({"yaml"})) >= 3
    assert {words[0] for _place, words in shown_commands()} >= set(subcommands())
    assert len(mentioned_commands()) >= 10


def test_wrong_commands_would_be_found() -> None:
    with pytest.raises(Exception, match="no-such-option"):
        subcommands()["run"].make_context("run", ["--no-such-option", "1"])
    assert "--no-such-option" not in options_of(subcommands()["run"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in MAKE.findall(page.read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"


def anchors(page: Path) -> set[str]:
    """What a heading's link is called: lower case, spaces to hyphens, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target in LINK.findall(prose(page)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        other = (page.parent / path).resolve() if path else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            broken.append(target)
    assert not broken


def test_every_page_is_reachable_from_the_readme() -> None:
    seen = {ROOT / "README.md"}
    queue = list(seen)
    while queue:
        page = queue.pop()
        for target in LINK.findall(prose(page)):
            other = (page.parent / target.partition("#")[0]).resolve()
            reached = {other} & set(PAGES) or set(other.glob("*.md"))
            queue += reached - seen
            seen |= reached
    assert set(PAGES) - seen == set()


@cache
def generator() -> ModuleType:
    """docs/generate.py, which is a script and no package."""
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_fresh() -> None:
    pages = generator().pages()
    assert {page.name for page in pages} >= {"cli.md", "manifests.md", "metrics.md", "policies.md"}
    stale = [
        page.name for page in pages if generator().refreshed(page.read_text()) != page.read_text()
    ]
    assert not stale, "make docs, and read the diff"


def test_every_generated_block_is_used() -> None:
    used = {
        found["name"]
        for page in generator().pages()
        for found in generator().BLOCK.finditer(page.read_text())
    }
    assert used == set(generator().BLOCKS)


def test_only_blocks_are_replaced() -> None:
    page = "before\n<!-- generated: engine-constants -->\nold\n<!-- end -->\nafter\n"
    found = generator().refreshed(page)
    assert found.startswith("before\n<!-- generated: engine-constants -->\n")
    assert found.endswith("<!-- end -->\nafter\n")
    assert "old" not in found
    assert "prefill_tokens_per_s" in found
    assert generator().refreshed(found) == found
    with pytest.raises(KeyError):
        generator().refreshed(page.replace("engine-constants", "nobody-makes-this"))


def test_metrics_page_has_every_golden_name() -> None:
    names = (ROOT / "tests" / "golden" / "metric_names.txt").read_text().splitlines()
    page = (ROOT / "docs" / "metrics.md").read_text()
    assert [line for line in names if f"`{line.split()[0]}`" not in page] == []
