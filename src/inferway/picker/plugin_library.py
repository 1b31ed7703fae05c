"""Plugins of others, loaded: from installed packages and from files.

Problem: a scheduling rule should be tried by saving a file, and a typing error in it must not cost
the rule that works. Model: a type is the name of an entry point (group `inferway.plugins`; a dot or
slash in it tells it from our own), or `FILE.py:NAME` with a file of the plugin directory; nothing
is loaded before a profile names it. `refresh` reads the files in use again; a file whose text
changed is run as a new module.
Invariants: what was loaded stays until a newer text runs and has the name; why it does not is in
`Found.error`. Running a plugin's code is the operator's decision: without a directory no file is
run, and no file outside of it. The code runs in the picker's process with its rights.
"""

from __future__ import annotations

import hashlib
import sys
from importlib.metadata import entry_points
from types import ModuleType
from typing import TYPE_CHECKING, Final, NamedTuple

from inferway.picker.scheduling.sources import Found
from inferway.resources.picker_plugins.registry import FILE_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from importlib.metadata import EntryPoint
    from pathlib import Path

    from inferway.picker.scheduling.plugins import Factory

ENTRY_POINT_GROUP: Final = "inferway.plugins"
_FILE_BYTES_MAX: Final = 1_000_000
_HASH_LENGTH: Final = 12


def entry_point_names() -> tuple[str, ...]:
    """Types that installed packages bring. Loads nothing."""
    return tuple(sorted(entry_points(group=ENTRY_POINT_GROUP).names))


class _Text(NamedTuple):
    """The newest text of a file. Replaced as a whole, since `refresh` may run on a thread."""

    version: str
    module: ModuleType | None  # the newest that ran
    error: str  # why this text did not run


class PluginLibrary:
    """`directory`: where files of plugins are; None: files are off."""

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory
        self._texts: dict[Path, _Text] = {}
        self._good: dict[str, Found] = {}  # by type, the newest that could be loaded
        self._installed: dict[str, Found] = {}

    @property
    def has_files(self) -> bool:
        """Whether any file is in use, so that `refresh` may find something."""
        return bool(self._texts)

    def names(self) -> Iterable[str]:
        return (*entry_point_names(), *(("FILE.py:NAME",) if self._directory else ()))

    def find(self, type_: str) -> Found | None:
        match = FILE_TYPE.fullmatch(type_)
        if match is not None:
            return self._from_file(type_, match["file"], match["name"])
        if type_ not in self._installed:
            points = list(entry_points(group=ENTRY_POINT_GROUP, name=type_))
            if not points and "/" not in type_ and "." not in type_:
                return None
            missing = Found(None, type_, "", f"no installed package brings {type_}")
            self._installed[type_] = _installed(points[0]) if points else missing
        return self._installed[type_]

    def refresh(self) -> bool:
        """Reads the files in use again. True when one of them is different now."""
        before = dict(self._texts)
        for path, text in before.items():
            self._texts[path] = _newest(path, text)
        return any(self._texts[path] is not text for path, text in before.items())

    def _from_file(self, type_: str, file_name: str, name: str) -> Found:
        if self._directory is None:
            error = "plugins from files are off; start with --plugin-dir DIR to allow them"
            return Found(None, file_name, "", error)
        path = self._directory / file_name
        if not path.resolve().is_relative_to(self._directory.resolve()):
            return Found(None, file_name, "", f"not inside {self._directory}: {file_name}")
        text = self._texts.get(path)
        if text is None:
            text = self._texts[path] = _newest(path, _Text("", None, ""))
        error = text.error
        if not error:
            factory: Factory | None = getattr(text.module, name, None)
            if callable(factory):
                found = self._good[type_] = Found(factory, str(path), text.version)
                return found
            error = f"{path}: has no class or function {name}"
        return self._good.get(type_, Found(None, str(path), ""))._replace(error=error)


def _newest(path: Path, before: _Text) -> _Text:
    """What the file holds now; `before` itself when that is the same."""
    try:
        text = _text(path)
    except OSError as problem:
        unread = _Text("", before.module, f"{path}: {problem.strerror or problem}")
        return before if unread == before else unread
    version = hashlib.sha256(text).hexdigest()[:_HASH_LENGTH]
    if version == before.version:
        return before
    try:
        return _Text(version, _run(text, path, version), "")
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - users' code, where it comes in
        return _Text(version, before.module, f"{path}: {_place(problem, path)}")


def _text(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(_FILE_BYTES_MAX + 1)
    if len(text) > _FILE_BYTES_MAX:
        raise OSError(f"larger than {_FILE_BYTES_MAX} bytes")
    return text


def _run(text: bytes, path: Path, version: str) -> ModuleType:
    """A new module of this text. It is registered, because dataclasses look their module up."""
    name = f"inferway_plugin_{path.stem}_{version}"
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module
    try:
        exec(compile(text, str(path), "exec"), module.__dict__)  # noqa: S102 - that is the point
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _place(problem: BaseException, path: Path) -> str:
    """What happened, with the line of the file where it did."""
    line = problem.lineno if isinstance(problem, SyntaxError) else None
    trace = problem.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    where = f"line {line}: " if line else ""
    return f"{where}{type(problem).__name__}: {problem}"


def _installed(point: EntryPoint) -> Found:
    version = point.dist.version if point.dist else ""
    source = f"{point.dist.name} {version}" if point.dist else point.value
    try:
        return Found(point.load(), source, version)
    except (Exception, SystemExit) as problem:  # noqa: BLE001 - users' code, where it comes in
        error = f"{point.value}: {type(problem).__name__}: {problem}"
        return Found(None, source, "", error)
