"""House rules that a linter does not know: sizes, names, inert imports, banned words."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINES_MAX = 800
LINES_TALK = 500
FUNCTION_LINES_MAX = 70
BANNED_MODULES = {"utils", "util", "helpers", "helper", "common", "misc"}


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [ROOT / line for line in listing.splitlines() if (ROOT / line).is_file()]


def test_files_are_small() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for path in tracked("*.py", "*.rs")
    }
    assert sizes, "no source files found: this check would be vacuous"
    too_long = {name: lines for name, lines in sizes.items() if lines > LINES_MAX}
    assert not too_long
    in_package = {
        name: lines
        for name, lines in sizes.items()
        if name.startswith("src/") and lines > LINES_TALK
    }
    assert not in_package, "split these, or argue for them in a review"


def test_functions_fit_on_a_page() -> None:
    too_long = []
    for path in tracked("src/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.body[0].lineno + 1
                if lines > FUNCTION_LINES_MAX:
                    too_long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} {lines}")
    assert not too_long


def test_no_drawer_modules() -> None:
    names = {path.stem for path in tracked("src/*.py")} | {
        path.parent.name for path in tracked("src/*.py")
    }
    assert not names & BANNED_MODULES


def test_every_module_says_why() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in tracked("src/*.py")
        if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent


def test_no_leftovers() -> None:
    marker = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|NotImplementedError|/(?:work|root)/")
    here = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked("*.py", "*.rs", "*.md", "*.yaml", "*.toml", "Makefile")
        if path != here
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if marker.search(line)
    ]
    assert not found


def test_dependency_count() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) < 20


PROBE = """
import builtins, importlib, os, pkgutil, socket, subprocess, sys, threading
import numpy, aiohttp, grpc, pydantic, yaml, watchfiles, prometheus_client
import structlog, typer, rich, uvloop
import inferway

def trap(name, real):
    def refuse(*args, **kwargs):
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if caller.startswith("inferway"):  # what libraries do when they are loaded is theirs
            raise AssertionError(f"import of {caller} calls {name}")
        return real(*args, **kwargs)
    return refuse

def set_trap(owner, name):
    setattr(owner, name, trap(name, getattr(owner, name)))

set_trap(socket, "create_connection")
set_trap(socket.socket, "__init__")
set_trap(subprocess.Popen, "__init__")
set_trap(threading.Thread, "start")
set_trap(os.environ.__class__, "__getitem__")
set_trap(os.environ.__class__, "get")
set_trap(os, "getenv")
set_trap(builtins, "open")
before = threading.active_count()
names = [m.name for m in pkgutil.walk_packages(inferway.__path__, "inferway.")]
for name in names:
    if name.endswith(("._filter", "__main__")):
        continue  # Envoy's, not Python's; the program itself
    importlib.import_module(name)
assert threading.active_count() == before
print(len(names))
"""


@pytest.mark.timeout(60)
def test_importing_does_nothing() -> None:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROBE], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 20
