"""Which files the paths stand for."""

import os
from pathlib import Path

import pytest

from inferway.sources import listing
from inferway.sources.directory import _read
from inferway.sources.listing import FoundFile, Signature, list_files


def make(root: Path, *names: str) -> None:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)


def listed(*roots: Path) -> list[str]:
    found = list_files(roots)
    assert found.problems == []
    return [Path(file.name).relative_to(roots[0]).as_posix() for file in found.files]


def test_manifests_in_order_and_nothing_else(tmp_path: Path) -> None:
    make(tmp_path, "b.yml", "a.yaml", "c.JSON", "sub/d.yaml", "B.yaml", "readme.md", "noext")
    assert listed(tmp_path) == ["B.yaml", "a.yaml", "b.yml", "c.JSON", "sub/d.yaml"]


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.yaml",
        ".git/config.yaml",
        "a.yaml~",
        "a.yaml.swp",
        ".a.yaml.swp",
        "#a.yaml#",
        ".#a.yaml",
        "~a.yaml",
        "a.yaml.tmp",
        "4913",
    ],
)
def test_hidden_and_temporary_files_are_left_out(tmp_path: Path, name: str) -> None:
    make(tmp_path, name)
    assert listed(tmp_path) == []


def test_a_file_given_by_name_is_read_whatever_its_name(tmp_path: Path) -> None:
    make(tmp_path, ".manifests/a.txt")
    assert [file.name for file in list_files((tmp_path / ".manifests" / "a.txt",)).files] == [
        str(tmp_path / ".manifests" / "a.txt")
    ]


def test_a_file_that_is_reachable_twice_is_read_once(tmp_path: Path) -> None:
    make(tmp_path, "a/one.yaml")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "two.yaml").symlink_to(tmp_path / "a" / "one.yaml")
    assert listed(tmp_path, tmp_path / "a") == ["a/one.yaml"]


def test_links_of_a_mounted_config_map(tmp_path: Path) -> None:
    make(tmp_path, "..2025_01/a.yaml")
    (tmp_path / "..data").symlink_to("..2025_01")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    assert listed(tmp_path) == ["a.yaml"]


def test_a_pipe_would_block_and_is_left_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert listed(tmp_path) == []


def test_a_dangling_link_is_a_deleted_file(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("gone.yaml")
    assert listed(tmp_path) == []


def test_a_file_that_vanishes_before_it_is_read_is_a_deleted_file(tmp_path: Path) -> None:
    gone = FoundFile(str(tmp_path / "a.yaml"), (0, ("a.yaml",)), Signature(1, 1, 1, 1))
    assert _read(gone, None, is_touched=False) is None


def test_a_missing_path_is_a_problem(tmp_path: Path) -> None:
    found = list_files((tmp_path / "none",))
    assert [problem.message for problem in found.problems] == [
        "cannot be read: No such file or directory"
    ]
    assert found.is_unknown(str(tmp_path / "none" / "a.yaml"))
    assert not found.is_unknown(str(tmp_path / "nonesuch.yaml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_directory_without_permission_is_a_problem(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.yaml", "b.yaml")
    (tmp_path / "sub").chmod(0)
    try:
        found = list_files((tmp_path,))
    finally:
        (tmp_path / "sub").chmod(0o700)
    assert [Path(file.name).name for file in found.files] == ["b.yaml"]
    assert found.is_unknown(str(tmp_path / "sub" / "a.yaml"))


def test_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FILES_MAX", 2)
    make(tmp_path, "a.yaml", "b.yaml", "c.yaml")
    found = list_files((tmp_path,))
    assert [Path(file.name).name for file in found.files] == ["a.yaml", "b.yaml"]
    assert found.problems[0].message == "too many manifest files: only the first 2 are read"
