"""What conditions amount to."""

from __future__ import annotations

from typing import Any

import pytest

from inferway.cli.conditions import summary, told


def one(kind: str, status: str, reason: str = "Why") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": reason}


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([one("Accepted", "True"), one("Programmed", "True")], ("True", "")),
        ([one("Programmed", "Unknown"), one("Accepted", "True")], ("Unknown", "Programmed: Why")),
        ([one("Programmed", "Unknown"), one("Accepted", "False")], ("False", "Accepted: Why")),
        ([one("Conflicted", "False"), one("Accepted", "True")], ("True", "")),
        (
            [one("Conflicted", "True", "HostnameConflict")],
            ("False", "Conflicted: HostnameConflict"),
        ),
        ([one("Selected", "False", "PlainBackend")], ("True", "")),
        ([one("Selected", "False", "NoMatchingPool")], ("False", "Selected: NoMatchingPool")),
    ],
)
def test_the_worst_counts(conditions: list[dict[str, Any]], expected: tuple[str, str]) -> None:
    assert summary("ModelServer", {"conditions": conditions}) == expected


def test_every_level_counts() -> None:
    status = {
        "conditions": [one("Accepted", "True")],
        "listeners": [{"name": "http", "conditions": [one("Conflicted", "True", "PortTaken")]}],
        "parents": [{"parentRef": {"name": "gw"}, "conditions": [one("Accepted", "False")]}],
    }
    assert [level for level, _condition in told(status)] == ["", "listener http", "parent gw"]
    assert summary("Gateway", status) == ("False", "Conflicted: PortTaken")
    del status["listeners"]
    assert summary("HTTPRoute", status) == ("False", "Accepted: Why")


def test_nobody_looked_at_it() -> None:
    assert summary("InferencePool", {}) == ("Unknown", "no route refers to it")
    assert summary("Gateway", {}) == ("Unknown", "of another controller")
    assert summary("NewKind", {}) == ("Unknown", "")
