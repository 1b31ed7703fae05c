"""Our configuration and the in-process filter together: routing by model, replies, fail-open."""

from __future__ import annotations

import io
import json

import pytest

from inferway.envoy.settings import EnvoySettings
from inferway.routing.model import MatchKind, Route, RouteMatch, ValueMatch

from .picker import PATIENT, picker

pytestmark = pytest.mark.hermetic
CHAT = "/v1/chat/completions"


def asks_for(model: str) -> RouteMatch:
    return RouteMatch(headers=(ValueMatch("x-gateway-model-name", MatchKind.EXACT, model),))


def chat(model: str, content: str = "hello") -> dict:
    return {"model": model, "messages": [{"role": "user", "content": content}]}


async def post(gateway, body: object, path: str = CHAT) -> tuple[int, dict]:
    data = io.BytesIO(json.dumps(body).encode())
    headers = {"content-type": "application/json"}
    async with gateway.client.post(gateway.url + path, data=data, headers=headers) as response:
        assert response.headers["content-type"].startswith("application/json")
        assert response.headers["x-request-id"]
        return response.status, await response.json()


async def test_model_in_the_body_chooses_the_pool(gateway, build, model_server) -> None:
    red, blue = await model_server("red"), await model_server("blue")
    await gateway.serve(
        build.model(
            Route("red", asks_for("red"), (build.to_pool("d/red"),)),
            Route("blue", asks_for("blue"), (build.to_pool("d/blue"),)),
            backends=(build.pool("d/red", red.port), build.pool("d/blue", blue.port)),
        )
    )
    assert (await post(gateway, chat("red")))[1]["server"] == "red"
    assert (await post(gateway, chat("blue", "x" * 10_000_000)))[1]["server"] == "blue"

    name = 'no "such" \\ model'
    status, body = await post(gateway, chat(name))
    assert status == 404
    assert body["error"] == {
        "message": f"The model `{name}` does not exist or is not served at this address.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    status, body = await post(gateway, chat("größer"), "/v1/messages")
    assert status == 404
    assert body == {
        "type": "error",
        "error": {
            "type": "not_found_error",
            "message": "The model `größer` does not exist or is not served at this address.",
        },
    }


@pytest.mark.parametrize("settings", [EnvoySettings(body_bytes_max=20_000, hold_ms=50)])
async def test_replies_of_the_filter_stay_as_they_are(gateway, build, model_server) -> None:
    server = await model_server("a")
    await gateway.serve(
        build.model(
            Route("closed", asks_for("closed"), (build.to_pool("d/closed"),)),
            Route("open", RouteMatch(), (build.to_pool("d/open"),)),
            backends=(
                build.pool("d/closed", server.port, fail_open=False),
                build.pool("d/open", server.port),
            ),
        )
    )
    status, body = await post(gateway, {"messages": []})
    assert (status, body["error"]["code"]) == (400, "missing_required_parameter")
    status, body = await post(gateway, chat("open", "x" * 30_000))
    assert (status, body["error"]["code"]) == (413, "request_too_large")
    assert "20000" in body["error"]["message"]
    # There is no picker: a pool that fails closed is held, then refused; the other is served.
    status, body = await post(gateway, chat("closed"))
    assert (status, body["error"]["code"]) == (503, "endpoint_picker_unavailable")
    status, body = await post(gateway, chat("open"))
    assert (status, body["server"]) == (200, "a")


@pytest.mark.parametrize("settings", [PATIENT])
async def test_busy_server_is_retried_on_another_with_its_whole_body(
    gateway, build, model_server
) -> None:
    """503 is back-pressure: the next endpoint gets the request, however large it is."""
    busy, free = await model_server("busy"), await model_server("free")
    busy.refuses = True
    await gateway.serve(
        build.model(
            Route("r", RouteMatch(), (build.to_pool("d/p"),)),
            backends=(build.pool("d/p", busy.port, free.port, fail_open=False),),
        )
    )
    large = chat("m", "x" * 5_000_000)
    order = f"127.0.0.1:{busy.port},127.0.0.1:{free.port}"
    async with picker(gateway.run.pick_socket, lambda _pick: order):
        for attempt in range(1, 4):
            status, body = await post(gateway, large)
            assert (status, body["server"]) == (200, "free")
            assert body["bytes"] == len(json.dumps(large))
            assert busy.requests == attempt
