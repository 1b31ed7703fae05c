"""Each fault as a real client sees it."""

import asyncio
import time
from typing import Any

import aiohttp
import openai
import pytest
import uvloop

from inferway.simulator.app import SimOptions, running_servers
from inferway.simulator.faults import FaultRule
from inferway.simulator.server import SimServer

pytestmark = pytest.mark.hermetic
MODEL = "base-model"
BODY: dict[str, Any] = {"model": MODEL, "prompt": "hello", "max_tokens": 8}
STREAM = {**BODY, "stream": True}


async def complete(http: aiohttp.ClientSession, body: dict[str, Any]) -> tuple[int, bytes]:
    async with http.post("/v1/completions", json=body) as reply:
        return reply.status, await reply.read()


async def test_reset(server: SimServer, http: aiohttp.ClientSession) -> None:
    server.faults = [FaultRule("reset", count=1)]
    with pytest.raises((ConnectionResetError, aiohttp.ClientOSError)):
        await complete(http, BODY)
    assert (await complete(http, BODY))[0] == 200


async def test_reset_is_an_rst(server: SimServer) -> None:
    server.faults = [FaultRule("reset")]
    reader, writer = await asyncio.open_connection(*server.address.split(":"))
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_hang(server: SimServer, http: aiohttp.ClientSession) -> None:
    server.faults = [FaultRule("hang")]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await complete(http, BODY)
    async with http.get("/health") as reply:
        assert reply.status == 200


async def test_unavailable(server: SimServer, client: openai.AsyncOpenAI) -> None:
    server.faults = [FaultRule("unavailable", retry_after_s=7)]
    with pytest.raises(openai.InternalServerError) as caught:
        await client.completions.create(**BODY)
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"] == "7"


async def test_error(server: SimServer, client: openai.AsyncOpenAI) -> None:
    server.faults = [FaultRule("error", status=400, path="/v1/completions")]
    with pytest.raises(openai.BadRequestError):
        await client.completions.create(**BODY)
    assert (await client.models.list()).data


async def test_slow_first_token(server: SimServer, http: aiohttp.ClientSession) -> None:
    server.faults = [FaultRule("slow_first_token", seconds=0.3)]
    async with http.post("/v1/completions", json=STREAM) as reply:
        headers_at = time.monotonic()
        assert reply.status == 200
        await reply.content.readany()
        assert time.monotonic() - headers_at > 0.25


async def test_cut_stream(server: SimServer, http: aiohttp.ClientSession) -> None:
    server.faults = [FaultRule("cut_stream", after_chunks=3)]
    got = bytearray()

    async def read_all() -> None:
        async with http.post("/v1/completions", json=STREAM) as reply:
            async for piece in reply.content.iter_any():
                got.extend(piece)

    with pytest.raises(aiohttp.ClientPayloadError):
        await read_all()
    assert got.count(b"data: ") == 3
    assert not server.engine.has_work


async def test_cut_body(server: SimServer, http: aiohttp.ClientSession) -> None:
    server.faults = [FaultRule("cut_stream")]
    with pytest.raises(aiohttp.ClientPayloadError):
        await complete(http, BODY)


async def test_end_early(server: SimServer, http: aiohttp.ClientSession) -> None:
    server.faults = [FaultRule("end_early", after_chunks=3, count=1)]
    status, body = await complete(http, STREAM)
    assert status == 200
    assert body.count(b"data: ") == 3
    assert b"[DONE]" not in body
    assert b'"length"' not in body
    status, body = await complete(http, STREAM)
    assert body.endswith(b"data: [DONE]\n\n")
    assert server.cancelled == 1


@pytest.mark.parametrize("mode", ["cut_stream", "end_early"])
async def test_not_even_one_chunk(
    server: SimServer, http: aiohttp.ClientSession, mode: Any
) -> None:
    server.faults = [FaultRule(mode, after_chunks=0)]
    try:
        _, body = await complete(http, STREAM)
    except aiohttp.ClientPayloadError:
        assert mode == "cut_stream"
    else:
        assert (mode, body) == ("end_early", b"")


async def test_refuse_and_come_back(servers: list[SimServer]) -> None:
    target, other = servers
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def ask() -> int:
            async with session.get(f"http://{target.address}/health") as reply:
                return reply.status

        assert await ask() == 200
        url = f"http://{other.address}/sim/faults"
        async with session.post(url, json={"mode": "refuse", "server": target.name}) as reply:
            assert reply.status == 200
        for _ in range(2):  # the idle connection is gone, and new ones are refused
            with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
                await ask()
        async with session.post(url, json={"mode": "none", "server": target.name}) as reply:
            assert reply.status == 200
        await asyncio.wait_for(target.listening(), 5)
        assert await ask() == 200


async def test_refuse_aborts_streams_and_ends_by_itself(
    server: SimServer, http: aiohttp.ClientSession
) -> None:
    async with http.post("/v1/completions", json={**STREAM, "max_tokens": 50_000}) as reply:
        await reply.content.readany()
        server.faults = [FaultRule("refuse", duration_s=0.1)]
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()
    await asyncio.wait_for(server.listening(), 5)
    assert (await complete(http, BODY))[0] == 200
    assert server.faults == ()


async def test_a_server_can_be_told_to_refuse_on_its_own_port(
    server: SimServer, http: aiohttp.ClientSession
) -> None:
    async with http.post("/sim/faults", json={"mode": "refuse", "duration_s": 0.1}) as reply:
        assert (await reply.json())["faults"] == 1
    with pytest.raises((aiohttp.ClientConnectionError, ConnectionError)):
        await http.get("/health")
    await asyncio.wait_for(server.listening(), 5)


async def test_faults_over_http(server: SimServer, http: aiohttp.ClientSession) -> None:
    rules = [{"mode": "error", "status": 418, "count": 1}, {"mode": "hang", "path": "/health"}]
    async with http.post("/sim/faults", json=rules) as reply:
        assert reply.status == 200
    assert (await complete(http, BODY))[0] == 418
    async with http.get("/sim/faults") as reply:
        shown = await reply.json()
    assert shown["hits"] == 1
    assert [(rule["mode"], rule["left"]) for rule in shown["faults"]] == [
        ("error", 0),
        ("hang", None),
    ]
    async with http.post("/sim/reset") as reply:
        assert reply.status == 200
    assert server.faults == ()
    assert server.requests.total == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"mode":"explode"}', 400),
        (b'{"mode":"none","server":"nobody"}', 404),
        (b'{"mode":"none","server":["a"]}', 404),
    ],
)
async def test_bad_faults_are_refused(
    http: aiohttp.ClientSession, body: bytes, status: int
) -> None:
    async with http.post("/sim/faults", data=body) as reply:
        assert reply.status == status


def test_faults_work_on_the_event_loop_of_production() -> None:
    async def scenario() -> None:
        options = SimOptions(model=MODEL, engine="instant", faults=(FaultRule("reset", count=1),))
        async with running_servers(options) as (server,):
            host, port = server.address.split(":")
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await reader.read()
            writer.close()
            server.faults = [FaultRule("refuse", duration_s=0.1)]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(host, port)
            await asyncio.wait_for(server.listening(), 5)
            async with aiohttp.ClientSession(f"http://{server.address}") as http:
                assert (await complete(http, STREAM))[1].endswith(b"data: [DONE]\n\n")

    uvloop.run(scenario())
