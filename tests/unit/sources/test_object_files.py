"""Objects in files: changed in place, atomically, and never over somebody else's edit."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from inferway.resources.edits import ChangedMeanwhileError, EditError, Put
from inferway.resources.text_edit import ObjectName
from inferway.sources.object_files import ObjectFiles, replace_file

if TYPE_CHECKING:
    from pathlib import Path

NAME = ObjectName("HTTPRoute", "default", "r")
TEXT = "kind: HTTPRoute\nmetadata: {name: r}\nspec: {w: 1} # one\n"
PUT = Put(("spec", "w"), 2)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "route.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def files(path: Path) -> ObjectFiles:
    return ObjectFiles(lambda name: str(path) if name == NAME else None)


def test_a_change_keeps_mode_and_everything_else(file: Path) -> None:
    store = files(file)
    expected = store.read(NAME)
    store.write(NAME, [PUT], expected=expected)
    assert file.read_text() == TEXT.replace("1}", "2}")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
    assert os.listdir(file.parent) == ["route.yaml"], "no temporary file is left"  # noqa: PTH208
    with pytest.raises(ChangedMeanwhileError):
        store.write(NAME, [PUT], expected=expected)


def test_a_change_elsewhere_in_the_file_is_kept(file: Path) -> None:
    store = files(file)
    expected = store.read(NAME)
    file.write_text("# new\n" + TEXT + "---\nkind: Other\n")
    store.write(NAME, [PUT], expected=expected)
    assert file.read_text() == "# new\n" + TEXT.replace("1}", "2}") + "---\nkind: Other\n"


def test_a_link_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(file)
    store = files(link)
    store.write(NAME, [PUT], expected=store.read(NAME))
    assert link.is_symlink()
    assert "w: 2" in file.read_text()


def test_what_is_not_there(file: Path, tmp_path: Path) -> None:
    store = files(file)
    absent = ObjectName("HTTPRoute", "default", "absent")
    assert store.read(absent) is None
    with pytest.raises(EditError, match="no file holds HTTPRoute default/absent"):
        store.write(absent, [PUT], expected=None)
    file.unlink()
    assert store.read(NAME) is None
    with pytest.raises(EditError, match=r"route.yaml: cannot be written"):
        store.write(NAME, [PUT], expected={})
    file.mkdir()
    with pytest.raises(EditError, match=r"route.yaml: cannot be read"):
        store.read(NAME)


def test_a_broken_file_names_itself(file: Path) -> None:
    file.write_text("kind: [")
    with pytest.raises(EditError, match=r"route.yaml: the file has an error in line 1"):
        files(file).read(NAME)


def test_a_new_file_does_not_replace_one(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    replace_file(path, before=None, after=b"a")
    assert path.read_bytes() == b"a"
    with pytest.raises(ChangedMeanwhileError):
        replace_file(path, before=None, after=b"b")
    with pytest.raises(ChangedMeanwhileError):
        replace_file(path, before=b"x", after=b"b")
    replace_file(path, before=b"a", after=b"b")
    assert path.read_bytes() == b"b"
    assert [one.name for one in tmp_path.iterdir()] == ["new.yaml"]
