"""Whatever Envoy answers by itself is an OpenAI error object; what others answer is left alone."""

from __future__ import annotations

import json
import socket

import pytest

from inferway.envoy.model_list import ModelInfo
from inferway.envoy.settings import EnvoySettings
from inferway.routing.model import MatchKind, Route, RouteMatch

pytestmark = pytest.mark.hermetic


def exact(path: str) -> RouteMatch:
    return RouteMatch(MatchKind.EXACT, path)


def reply(message: str, kind: str, code: str | None, param: str | None = None) -> dict:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


async def answer(gateway, path: str, method: str = "GET", **options: object) -> tuple[int, dict]:
    async with gateway.client.request(method, gateway.url + path, **options) as response:
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-request-id"]
        return response.status, await response.json()


async def test_no_route(gateway, build) -> None:
    await gateway.serve(build.model(Route("r", exact("/only"), ())))
    assert await answer(gateway, '/x?"quoted"', method="PUT") == (
        404,
        reply(
            "Nothing is served at this address for: PUT /x?%22quoted%22",
            "invalid_request_error",
            "unknown_url",
        ),
    )


async def test_no_endpoint_and_unreachable_endpoint(gateway, build) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        await gateway.serve(
            build.model(
                Route("empty", exact("/empty"), (build.to_pool("d/empty"),)),
                Route("refuses", exact("/refuses"), (build.to_pool("d/refuses"),)),
                backends=(build.pool("d/empty"), build.pool("d/refuses", port)),
            )
        )
        assert await answer(gateway, "/empty") == (
            503,
            reply(
                "No model server is ready to serve this request.",
                "service_unavailable",
                "no_endpoint",
            ),
        )
        assert await answer(gateway, "/refuses") == (
            503,
            reply(
                "The model server could not be reached.",
                "service_unavailable",
                "endpoint_unreachable",
            ),
        )


async def test_timeouts_and_resets(gateway, build, model_server) -> None:
    server = await model_server("a")
    to_a = (build.to_servers("d/a"),)
    await gateway.serve(
        build.model(
            Route("all", RouteMatch(method="GET"), to_a, request_timeout_s=0.2),
            Route("try", RouteMatch(method="PUT"), to_a, backend_timeout_s=0.2),
            Route("reset", RouteMatch(), to_a),
            backends=(build.group("d/a", server.port),),
        )
    )
    late = reply("The model server did not answer in time.", "timeout_error", "upstream_timeout")
    long = reply(
        "The request took longer than its route allows.", "timeout_error", "request_timeout"
    )
    assert await answer(gateway, "/silent") == (504, long)
    assert await answer(gateway, "/silent", "PUT") == (504, late)
    assert await answer(gateway, "/reset", "POST") == (
        502,
        reply(
            "The connection to the model server broke before it answered.",
            "server_error",
            "upstream_reset",
        ),
    )


@pytest.mark.parametrize("settings", [EnvoySettings(idle_timeout_s=0.3)])
async def test_idle_request(gateway, build, model_server) -> None:
    server = await model_server("a")
    await gateway.serve(
        build.model(
            Route("r", RouteMatch(), (build.to_servers("d/a"),)),
            backends=(build.group("d/a", server.port),),
        )
    )
    status, body = await answer(gateway, "/silent")
    assert (status, body["error"]["code"]) == (504, "idle_timeout")


async def test_headers_too_large(gateway, build) -> None:
    """Refused while it is read: there is no request yet that could have an id."""
    await gateway.serve(build.model(Route("r", exact("/only"), ())))
    status, error = await gateway.error("/x", **{"x-large": "a" * 70_000})
    assert (status, error["type"]) == (431, "invalid_request_error")


async def test_answers_of_model_servers_pass_unchanged(gateway, build, model_server) -> None:
    server = await model_server("a")
    await gateway.serve(
        build.model(
            Route("r", RouteMatch(), (build.to_servers("d/a"),)),
            backends=(build.group("d/a", server.port),),
        )
    )
    for status in (404, 413, 429, 500, 503, 504):
        assert await gateway.get(f"/status/{status}") == (status, "mine")


async def test_model_list(gateway, build, model_server) -> None:
    server = await model_server("a")
    models = (
        ModelInfo("meta-llama/Llama-3", 1_700_000_000),
        ModelInfo("support", 1_700_000_001, root="/adapters/s", parent="meta-llama/Llama-3"),
        *(ModelInfo(f"many-{number}", 1) for number in range(60)),
    )
    await gateway.serve(
        build.model(
            Route("r", RouteMatch(), (build.to_servers("d/a"),)),
            backends=(build.group("d/a", server.port),),
        ),
        {build.listener: models},
    )
    status, listing = await answer(gateway, "/v1/models?limit=2")
    assert status == 200
    assert listing["object"] == "list"
    assert len(listing["data"]) == len(models)
    base = {
        "id": "meta-llama/Llama-3",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "inferway",
        "root": "meta-llama/Llama-3",
        "parent": None,
    }
    assert base in listing["data"]
    assert await answer(gateway, "/v1/models/meta-llama/Llama-3") == (200, base)
    status, text = await gateway.get("/v1/models/support")
    assert (status, json.loads(text)["parent"]) == (200, "meta-llama/Llama-3")
    status, body = await answer(gateway, "/v1/models/unknown")
    assert (status, body["error"]["code"], body["error"]["param"]) == (
        404,
        "model_not_found",
        "model",
    )
    async with gateway.client.post(gateway.url + "/v1/models") as response:
        assert (await response.json())["server"] == "a"
    assert server.requests == 1
