"""The picker's answer is obeyed: this endpoint, then the next of the list, else anyone."""

from __future__ import annotations

import socket

import pytest

from inferway.routing.model import Endpoint, Pool, Route, RouteMatch

from .picker import PATIENT, picker

pytestmark = pytest.mark.hermetic


async def ask(gateway) -> str:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    async with gateway.client.post(gateway.url + "/v1/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        return (await answer.json())["server"]


@pytest.mark.parametrize("settings", [PATIENT])
async def test_the_picked_endpoint_serves(gateway, build, model_server) -> None:
    servers = {name: await model_server(name) for name in "abc"}
    address = {name: f"127.0.0.1:{server.port}" for name, server in servers.items()}
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        dead = closed.getsockname()[1]
        ports = [server.port for server in servers.values()]
        await gateway.serve(
            build.model(
                Route("r", RouteMatch(), (build.to_pool("d/p"),)),
                backends=(build.pool("d/p", *ports, dead, fail_open=False),),
            )
        )
        answer: list[str] = []
        async with picker(gateway.run.pick_socket, lambda _pick: ",".join(answer)) as picks:
            for name in "abcba":
                answer[:] = [address[name]]
                assert await ask(gateway) == name
            assert {(pick.pool, pick.model) for pick in picks} == {("d/p", "m")}

            # The next of the list when the first refuses the connection, or the request.
            answer[:] = [f"127.0.0.1:{dead}", address["b"], address["c"]]
            assert await ask(gateway) == "b"
            servers["b"].refuses = True
            assert await ask(gateway) == "c"

            # An address that Envoy does not know (yet): anyone who is there.
            answer[:] = ["10.9.8.7:1"]
            assert await ask(gateway) in "abc"


@pytest.mark.parametrize("settings", [PATIENT])
async def test_an_ipv6_endpoint_is_picked_by_its_address(gateway, build, model_server) -> None:
    wanted, other = await model_server("wanted", "::1"), await model_server("other")
    endpoints = (
        Endpoint("127.0.0.1", other.port, "d/other", "vllm", "/metrics"),
        Endpoint("0:0:0:0:0:0:0:1", wanted.port, "d/wanted", "vllm", "/metrics"),
    )
    await gateway.serve(
        build.model(
            Route("r", RouteMatch(), (build.to_pool("d/p"),)),
            backends=(Pool("d/p", endpoints, False, False, "random", ()),),
        )
    )
    async with picker(gateway.run.pick_socket, lambda _pick: f"[::1]:{wanted.port}"):
        assert [await ask(gateway) for _request in range(4)] == ["wanted"] * 4
