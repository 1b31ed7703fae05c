"""Configurations in the style of the reference's releases and in ours: what the picker is told,
what is said to have no effect, and what is refused.

After a wanted change: `INFERWAY_GOLDEN=refresh pytest tests/golden/picker_config`, and read the
difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from inferway.control.picker_settings import profile_config
from inferway.picker.scheduling.profile import Profile
from inferway.picker.scheduling.registry import PLUGINS, profile_of
from inferway.resources import EndpointPickerConfig
from inferway.resources.decode import decode
from inferway.resources.problems import field_path

HERE = Path(__file__).parent
CASES = sorted((HERE / "cases").glob("*.yaml"))


def read(case: Path) -> tuple[EndpointPickerConfig | None, list[str]]:
    decoded = decode(case.read_bytes(), file=case.name)
    found = [entry.resource for entry in decoded.entries]
    assert all(isinstance(one, EndpointPickerConfig) for one in found)
    first = next((one for one in found if isinstance(one, EndpointPickerConfig)), None)
    return first, [str(problem) for problem in decoded.problems]


def rendered(case: Path) -> str:
    config, problems = read(case)
    content: dict[str, object] = {"problems": problems}
    if config is not None:
        profile = profile_config(config)
        content = {
            "name": config.qualified_name,
            "profile": profile.model_dump(mode="json")["plugins"] if profile else [],
            "headers": list(config.request_headers),
            "remarks": [f"{field_path(path)}: {text}" for path, text in config.remarks()],
            **({"problems": problems} if problems else {}),
        }
    return yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_golden(case: Path) -> None:
    expected = HERE / "expected" / case.name
    if os.environ.get("INFERWAY_GOLDEN") == "refresh":
        expected.write_text(rendered(case))
    assert rendered(case) == expected.read_text()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_picker_can_make_what_it_is_told(case: Path) -> None:
    config, problems = read(case)
    profile = profile_config(config)
    assert (profile is None) is bool(problems)
    if profile is not None and all(one.type in PLUGINS for one in profile.plugins):
        assert isinstance(profile_of(case.stem, profile), Profile)


def test_no_expectation_without_its_case() -> None:
    names = {case.name for case in CASES}
    assert {path.name for path in (HERE / "expected").glob("*")} == names
