"""Plugins from files: loaded, replaced, refused, and what a pool has meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.picker.config import PluginConfig, PluginStatus, PoolConfig, ProfileConfig
from inferway.picker.plugin_library import PluginLibrary, entry_point_names
from inferway.picker.scheduling.profiles import Profiles
from inferway.testing import endpoints, request

if TYPE_CHECKING:
    from pathlib import Path

SCORER = """
from dataclasses import dataclass

@dataclass
class Mine:
    value: float = {value}

    def score(self, request, endpoints):
        return [self.value] * len(endpoints)
"""


class Pool:
    """One pool whose profile is Mine, of mine.py, and the reference's queue scorer."""

    def __init__(self, directory: Path | None, **parameters: float) -> None:
        self.library = PluginLibrary(directory)
        self.told: list[str] = []
        self.profiles = Profiles(self.library, lambda: 0.0, lambda *told: self.told.append(told[2]))
        self.configure(**parameters)

    def configure(self, type_: str = "mine.py:Mine", **parameters: float) -> None:
        plugins = (
            PluginConfig(name="mine", type=type_, weight=10.0, parameters=dict(parameters)),
            PluginConfig(type="queue-scorer"),
        )
        self.config = PoolConfig(name="p", profile=ProfileConfig(plugins=plugins))
        self.profiles.keep(self.profiles.build([self.config]))

    def reload(self) -> bool:
        changed = self.library.refresh()
        self.profiles.keep(self.profiles.build([self.config]))
        return changed

    @property
    def cost(self) -> float:
        """Of the only endpoint: -(10 · what Mine says + 1)."""
        total, _ = self.profiles["p"].rate(request(1), endpoints(1), 0, None)  # type: ignore[arg-type]
        return float(total[0])

    @property
    def status(self) -> PluginStatus:
        (status,) = self.profiles.status("p")
        return status


def write(directory: Path, text: str) -> None:
    (directory / "mine.py").write_text(text)


def test_a_plugin_of_a_file_is_loaded_and_replaced_when_its_text_changes(tmp_path: Path) -> None:
    write(tmp_path, SCORER.format(value=0.5))
    pool = Pool(tmp_path)
    assert pool.cost == -6.0
    first, profile = pool.status, pool.profiles["p"]
    assert (first.type, first.source, first.error) == (
        "mine.py:Mine",
        str(tmp_path / "mine.py"),
        "",
    )
    assert not pool.reload()
    assert pool.profiles["p"] is profile
    write(tmp_path, SCORER.format(value=0.25))
    assert pool.reload()
    assert pool.cost == -3.5
    assert pool.status.version not in ("", first.version)
    assert pool.status.calls == 2, "what was counted stays"
    kept = {term.name: term.plugin for term in pool.profiles["p"].terms}
    before = {term.name: term.plugin for term in profile.terms}
    assert kept["queue-scorer"] is before["queue-scorer"], "what others learned stays"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (", "mine.py: line 1: SyntaxError: invalid syntax"),
        ("import os\n\nraise OSError('no gpu')", "mine.py: line 3: OSError: no gpu"),
        ("import sys\nsys.exit()", "mine.py: line 2: SystemExit"),
        ("class Other: pass", "mine.py: has no class or function Mine"),
        ("Mine = 3", "mine.py: has no class or function Mine"),
        (
            "def Mine(value: float): return 3",
            "mine.py: ValueError: mine: has none of the methods keep, score",
        ),
        (
            SCORER.format(value=1).replace("value:", "worth:"),
            "parameters.value: Extra inputs are not permitted",
        ),
        (
            "class Mine:\n    def __init__(self, value: float): raise KeyError(value)",
            "mine.py: KeyError: 0.5",
        ),
    ],
)
def test_a_bad_version_leaves_the_good_one_in_force_and_says_why(
    tmp_path: Path, text: str, said: str
) -> None:
    write(tmp_path, SCORER.format(value=0.0))
    pool = Pool(tmp_path, value=0.5)
    version = pool.status.version
    write(tmp_path, text)
    pool.reload()
    assert pool.cost == -6.0
    assert said in pool.status.error
    assert pool.status.version == version
    assert pool.told == [pool.status.error]
    pool.reload()
    assert pool.told == [pool.status.error], "told once"
    write(tmp_path, SCORER.format(value=0.0) + "\n# better")
    pool.reload()
    assert (pool.status.error, pool.cost) == ("", -6.0)
    assert pool.status.version != version


def test_a_file_that_vanishes_leaves_the_good_version_in_force(tmp_path: Path) -> None:
    write(tmp_path, SCORER.format(value=0.5))
    pool = Pool(tmp_path)
    (tmp_path / "mine.py").unlink()
    assert pool.reload()
    assert "No such file" in pool.status.error
    assert pool.cost == -6.0
    write(tmp_path, SCORER.format(value=0.5))
    assert pool.reload()
    assert pool.status.error == ""


def test_a_plugin_that_was_never_good_leaves_its_place_empty_until_it_is(tmp_path: Path) -> None:
    write(tmp_path, "def (")
    pool = Pool(tmp_path)
    assert pool.cost == -1.0
    assert pool.status.version == ""
    assert "SyntaxError" in pool.status.error
    write(tmp_path, SCORER.format(value=0.5))
    pool.reload()
    assert pool.cost == -6.0


def test_a_change_of_parameters_makes_it_anew(tmp_path: Path) -> None:
    write(tmp_path, SCORER.format(value=0.5))
    pool = Pool(tmp_path)
    pool.configure(value=1)
    assert pool.cost == -11.0
    pool.configure(valu=1)
    assert pool.cost == -11.0
    assert "parameters.valu: Extra inputs are not permitted" in pool.status.error


@pytest.mark.parametrize(
    ("type_", "said"),
    [
        ("../mine.py:Mine", "not inside"),
        ("link.py:Mine", "not inside"),
        ("absent.py:Mine", "No such file"),
        ("example.com/absent", "no installed package brings example.com/absent"),
    ],
)
def test_what_cannot_be_loaded_is_never_an_error_of_the_configuration(
    tmp_path: Path, type_: str, said: str
) -> None:
    write(tmp_path, SCORER.format(value=0.5))
    inside = tmp_path / "plugins"
    inside.mkdir()
    (inside / "link.py").symlink_to(tmp_path / "mine.py")
    pool = Pool(inside)
    pool.configure(type_)
    assert said in pool.status.error
    assert pool.cost == -1.0


def test_without_a_directory_no_file_is_run(tmp_path: Path) -> None:
    write(tmp_path, "raise SystemExit")
    pool = Pool(None)
    pool.configure(f"{tmp_path}/mine.py:Mine")
    assert pool.status.error == (
        "plugins from files are off; start with --plugin-dir DIR to allow them"
    )


def test_a_plugin_alone_is_a_policy(tmp_path: Path) -> None:
    write(tmp_path, SCORER.format(value=0.5))
    profiles = Profiles(PluginLibrary(tmp_path), lambda: 0.0, lambda *told: None)
    profiles.keep(profiles.build([PoolConfig(name="p", policy="mine.py:Mine")]))
    assert [term.name for term in profiles["p"].terms] == ["mine.py:Mine"]
    with pytest.raises(ValueError, match="pool p: policy: 'mine'; known: marginal-cost"):
        profiles.build([PoolConfig(name="p", policy="mine")])


def test_a_mistake_with_our_own_plugins_is_an_error(tmp_path: Path) -> None:
    plugins = (PluginConfig(type="queue-scorer", parameters={"x": 1}),)
    config = PoolConfig(name="p", profile=ProfileConfig(plugins=plugins))
    profiles = Profiles(PluginLibrary(tmp_path), lambda: 0.0, lambda *told: None)
    with pytest.raises(ValueError, match=r"pool p: plugin queue-scorer: parameters.x: Extra"):
        profiles.build([config])


@pytest.mark.parametrize(
    ("text", "version", "said"),
    [
        (SCORER.format(value=0.5), "1.2", ""),
        ("import nowhere_to_be_found", "", "ModuleNotFoundError: No module named 'nowhere_to"),
        ("class Other: pass", "", "AttributeError: "),
    ],
)
def test_an_installed_package_brings_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, version: str, said: str
) -> None:
    """As pip leaves it: a module and the package's metadata."""
    module = f"acme_{len(text)}"
    (tmp_path / f"{module}.py").write_text(text)
    metadata = tmp_path / "acme-1.2.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(
        f"[inferway.plugins]\nacme.example/mine = {module}:Mine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "acme.example/mine" in entry_point_names()
    pool = Pool(None)
    pool.configure("acme.example/mine")
    assert (pool.status.source, pool.status.version) == ("acme 1.2", version)
    assert said in pool.status.error
    assert pool.cost == (-6.0 if version else -1.0)
