"""The file as it changes: swapped links, bad versions, half a write."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from inferway.adapters.config_file import ConfigFile

if TYPE_CHECKING:
    from pathlib import Path

GOOD = "vLLMLoRAConfig: {{ensureExist: {{models: [{{id: {name}, source: /a}}]}}}}\n"


def names(file: ConfigFile) -> list[str]:
    assert file.config is not None
    return [one.id for one in file.config.ensure_exist.models]


def test_swapped_links_of_a_mounted_config_map(tmp_path: Path) -> None:
    """configmap.yaml -> ..data/configmap.yaml, ..data -> ..version; only ..data is swapped."""
    for version in ("v1", "v2"):
        (tmp_path / f"..{version}").mkdir()
        (tmp_path / f"..{version}" / "configmap.yaml").write_text(GOOD.format(name=version))
        os.utime(tmp_path / f"..{version}" / "configmap.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "configmap.yaml").symlink_to("..data/configmap.yaml")
    file = ConfigFile(tmp_path / "configmap.yaml")
    assert file.refresh(certainly=False)
    assert names(file) == ["v1"]
    assert not file.refresh(certainly=False)
    (tmp_path / "..next").symlink_to("..v2")
    (tmp_path / "..next").rename(tmp_path / "..data")
    assert file.refresh(certainly=False)
    assert names(file) == ["v2"]


def test_a_bad_version_leaves_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    file = ConfigFile(path)
    assert file.refresh(certainly=True)
    assert file.config is None
    assert "cannot be read: No such file" in str(file.problems[0])
    assert not file.refresh(certainly=True), "told once"
    path.write_text(GOOD.format(name="one"))
    assert file.refresh(certainly=False)
    assert file.problems == ()
    path.write_text("vLLMLoRAConfig: {ensureExists: {}}\n")
    assert file.refresh(certainly=False)
    assert "unknown field: ensureExists" in str(file.problems[0])
    assert names(file) == ["one"]
    path.unlink()
    assert file.refresh(certainly=False)
    assert names(file) == ["one"]
    path.write_text(GOOD.format(name="two"))
    assert file.refresh(certainly=False)
    assert names(file) == ["two"]


def test_a_write_that_the_file_system_does_not_show(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(GOOD.format(name="one"))
    os.utime(path, (1, 1))
    file = ConfigFile(path)
    assert file.refresh(certainly=False)
    path.write_text(GOOD.format(name="two"))
    os.utime(path, (1, 1))
    assert not file.refresh(certainly=False)
    assert file.refresh(certainly=True)
    assert names(file) == ["two"]
