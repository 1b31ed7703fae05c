"""What a server's list of models means."""

from __future__ import annotations

import json

import pytest

from inferway.adapters.model_server import ServerError, listed
from inferway.adapters.plan import Present


def test_adapters_and_models() -> None:
    cards = [
        {"id": "base", "root": "/models/base", "parent": None},
        {"id": "alias", "root": "/models/base"},
        {"id": "bot", "root": "/adapters/bot", "parent": "base"},
        {"id": "older", "root": "base"},
        {"id": 7},
        "nonsense",
    ]
    found = listed(json.dumps({"data": cards}).encode())
    adapters = {"bot": "/adapters/bot", "older": ""}
    assert found == Present(adapters, frozenset({"base", "alias"}))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"data": {}}', b"[" * 100_000])
def test_not_a_list(body: bytes) -> None:
    with pytest.raises(ServerError, match="GET /v1/models"):
        listed(body)
