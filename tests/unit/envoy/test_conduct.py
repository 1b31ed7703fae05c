"""A pool's conduct, as the filter is told of it."""

from __future__ import annotations

import json

import pytest

from inferway.envoy.filters import PICK_FILTER, pick_settings
from inferway.resources import EndpointPickerConfig
from inferway.resources.picker_conduct import Conduct
from inferway.routing.model import Pool


def told(conduct: Conduct | None) -> dict[str, object]:
    config = EndpointPickerConfig.model_validate({"metadata": {"name": "c"}, "conduct": conduct})
    pool = Pool("d/p", (), False, True, "random", (), picker_config=config)
    settings = pick_settings(pool, relay=False)[PICK_FILTER]
    assert isinstance(settings, dict)
    text = settings["filter_config"]
    assert isinstance(text, dict)
    fields: dict[str, object] = json.loads(str(text["value"]))
    return fields


@pytest.mark.parametrize(
    ("conduct", "more"),
    [
        (None, {}),
        (Conduct(), {}),
        (
            Conduct(response_headers=True, include_usage=True, session_cookie="s"),
            {"response_headers": True, "include_usage": True, "session_cookie": "s"},
        ),
    ],
)
def test_the_filter_is_told_what_differs(conduct: Conduct | None, more: dict[str, object]) -> None:
    assert told(conduct) == {"pool": "d/p", "fail_open": True, **more}
