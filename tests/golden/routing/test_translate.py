"""Manifests in, routing model, statuses and warnings out.

Every file in `cases/` is translated and compared with `expected/`. After a wanted change:
`INFERWAY_GOLDEN=refresh pytest tests/golden/routing`, and read the difference.
"""

from __future__ import annotations

import dataclasses
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from pydantic import SecretBytes

from inferway.resources import EndpointPickerConfig
from inferway.resources.decode import decode
from inferway.resources.resource_set import assemble
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate

if TYPE_CHECKING:
    from inferway.resources.conditions import Condition
    from inferway.routing.status import ObjectStatus, RoutingWarning

HERE = Path(__file__).parent
CASES = sorted((HERE / "cases").glob("*.yaml"))
SETTINGS = RoutingSettings(policies=("marginal-cost", "round-robin"))


def rendered(translation: Translation) -> str:
    content = {
        "model": plain(dataclasses.asdict(translation.model)),
        "statuses": {identity(one): status(one) for one in translation.statuses},
        "warnings": [warning(one) for one in translation.warnings],
    }
    return yaml.safe_dump(content, sort_keys=False, width=100, allow_unicode=True)


def plain(value: object) -> object:
    """Only what YAML knows, without fields that say nothing."""
    if isinstance(value, dict):
        return {
            name: plain(item)
            for name, item in value.items()
            if item not in (None, ()) and (name, item) != ("certificates", {})
        }
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, EndpointPickerConfig):
        return f"EndpointPickerConfig {value.qualified_name}"
    if isinstance(value, bytes | SecretBytes | datetime):
        return type(value).__name__  # certificates are made anew in every run
    return str(value) if isinstance(value, str) else value


def identity(one: ObjectStatus) -> str:
    name = f"{one.key.namespace}/{one.key.name}" if one.key.namespace else one.key.name
    return f"{one.key.kind} {name}" + (f" ({one.key.group})" if one.key.pool else "")


def status(one: ObjectStatus) -> dict[str, object]:
    levels: dict[str, object] = {
        "addresses": list(one.addresses),
        "conditions": conditions(one.conditions),
        "listeners": {
            f"{listener.name}, {listener.attached_routes} routes": conditions(listener.conditions)
            for listener in one.listeners
        },
        "parents": {
            "/".join(
                str(part)
                for part in (
                    parent.parent.namespace,
                    parent.parent.name,
                    parent.parent.section_name,
                    parent.parent.port,
                )
                if part is not None
            ): conditions(parent.conditions)
            for parent in one.parents
        },
    }
    return {name: content for name, content in levels.items() if content}


def conditions(of_level: tuple[Condition, ...]) -> list[str]:
    return [
        f"{one.type}={one.status} {one.reason}"
        + (f" @{one.observed_generation}" if one.observed_generation != 1 else "")
        + (f": {one.message}" if one.message else "")
        for one in of_level
    ]


def warning(one: RoutingWarning) -> str:
    place = f"{one.key.kind} {one.key.name} " if one.key else ""
    return f"{place}{one.field}: {one.message}".removeprefix(": ")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_translation(case: Path) -> None:
    decoded = decode(case.read_bytes(), file=case.name)
    assert not decoded.has_errors
    resources, problems = assemble(decoded.entries)
    assert not problems
    actual = rendered(translate(resources, settings=SETTINGS))
    expected = HERE / "expected" / case.name
    if os.environ.get("INFERWAY_GOLDEN") == "refresh":
        expected.parent.mkdir(exist_ok=True)
        expected.write_text(actual)
    assert actual == expected.read_text()


def test_no_expectation_is_left_over() -> None:
    assert {one.name for one in (HERE / "expected").glob("*")} == {one.name for one in CASES}
