"""The section `conduct`: what is read, and what is refused."""

from __future__ import annotations

import pytest

from inferway.resources import EndpointPickerConfig
from inferway.resources.decode import decode

OURS = "inferway.dev/v1alpha1"


def read(conduct: str, group: str = OURS) -> tuple[EndpointPickerConfig | None, list[str]]:
    text = f"apiVersion: {group}\nkind: EndpointPickerConfig\nconduct: {conduct}\n"
    found = decode(text.encode(), file="picker.yaml")
    resource = found.entries[0].resource if found.entries else None
    assert resource is None or isinstance(resource, EndpointPickerConfig)
    return resource, [str(one) for one in found.problems]


def test_what_is_not_said_has_defaults() -> None:
    config, problems = read("{sessionCookie: s, retryBudget: {percent: 20%}}")
    assert problems == []
    assert config is not None
    assert config.conduct is not None
    conduct = config.conduct
    assert (conduct.session_cookie, conduct.include_usage) == ("s", False)
    budget = conduct.retry_budget
    assert (budget.percent, budget.concurrency_min) == ("20%", 32)


@pytest.mark.parametrize(
    ("conduct", "group", "problem"),
    [
        ("{sessionCookie: a b}", OURS, "1 to 64 letters, digits"),
        ("{sessionCookies: s}", OURS, "unknown field"),
        ("{retryBudget: {percent: 101%}}", OURS, "percent"),
        ("{}", "llm-d.ai/v1alpha1", "conduct"),
    ],
)
def test_what_cannot_be_meant_is_refused(conduct: str, group: str, problem: str) -> None:
    config, problems = read(conduct, group)
    assert config is None
    assert problem in problems[0]
