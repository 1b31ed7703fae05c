"""Single objects of a manifest directory, read and changed in the files that hold them.

Problem: a program that changes a manifest competes with editors and with itself being killed.
Model: the object is looked up in its file at each access; a change is written to a temporary file
beside it, with the same mode, and renamed over it, so that a reader sees the old or the new text
and never a part. Before the rename the file is read once more: whoever wrote it since then wins.
Between that look and the rename is a window of microseconds that files have no means to close.
Symbolic links are followed; the file behind them is replaced.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from inferway.resources.edits import ChangedMeanwhileError, Edit, EditError
from inferway.resources.text_edit import ObjectName, edit_object, find_object

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferway.resources.document import Json


_Result = TypeVar("_Result")


class ObjectFiles:
    """Objects by name. `file_of` says which file holds one, None when none does."""

    def __init__(self, file_of: Callable[[ObjectName], str | None]) -> None:
        self._file_of = file_of

    def read(self, name: ObjectName) -> Json:
        """The manifest as it is written; None when there is none. EditError when unreadable."""
        file = self._file_of(name)
        if file is None:
            return None
        try:
            data = Path(file).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EditError(f"{file}: cannot be read: {error.strerror}") from error
        return _told(file, lambda: find_object(data, name, is_json=_is_json(file)))

    def write(self, name: ObjectName, edits: Sequence[Edit], *, expected: Json) -> None:
        """Makes the edits if the object still is as `expected`, else ChangedMeanwhileError."""
        file = self._file_of(name)
        if file is None:
            raise EditError(f"no file holds {name}")
        is_json = _is_json(file)
        try:
            before = Path(file).read_bytes()
            if _told(file, lambda: find_object(before, name, is_json=is_json)) != expected:
                raise ChangedMeanwhileError(str(name))
            after = _told(file, lambda: edit_object(before, name, edits, is_json=is_json))
            replace_file(Path(file), before=before, after=after)
        except OSError as error:
            raise EditError(f"{file}: cannot be written: {error.strerror}") from error


def replace_file(path: Path, *, before: bytes | None, after: bytes) -> None:
    """Puts `after` in the place of a file that still holds `before` (None: that does not exist).
    ChangedMeanwhileError otherwise, OSError when it cannot be written.
    """
    path = path.resolve()
    mode = path.stat().st_mode & 0o7777 if before is not None else 0o644
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as temporary:
            temporary.write(after)
            temporary.flush()
            os.fchmod(temporary.fileno(), mode)
            os.fsync(temporary.fileno())
        if before is None:
            os.link(name, path)  # fails when somebody was faster
        elif path.read_bytes() != before:
            raise ChangedMeanwhileError(str(path))
        else:
            Path(name).rename(path)
            return
    except FileExistsError:
        raise ChangedMeanwhileError(str(path)) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


def _is_json(file: str) -> bool:
    return file.endswith(".json")


def _told(file: str, act: Callable[[], _Result]) -> _Result:
    """With the file's name in what goes wrong."""
    try:
        return act()
    except EditError as error:
        raise EditError(f"{file}: {error}") from error
