"""HTTP/2 without TLS to model servers: pools with appProtocol h2c, and Services with it."""

from __future__ import annotations

import asyncio
import contextlib
import json

import h2.config
import h2.connection
import h2.events
import pytest

from inferway.routing.model import Endpoint, Pool, Route, RouteMatch, ServerGroup

pytestmark = pytest.mark.hermetic


class Http2Server(asyncio.Protocol):
    """Speaks HTTP/2 only, from the first byte; answers each request with its own name."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
        )
        self.connection.initiate_connection()
        transport.write(self.connection.data_to_send())

    def data_received(self, data: bytes) -> None:
        for event in self.connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                self.paths.append(dict(event.headers)[":path"])
            elif isinstance(event, h2.events.StreamEnded):
                body = json.dumps({"server": "h2c"}).encode()
                headers = [(":status", "200"), ("content-type", "application/json")]
                self.connection.send_headers(event.stream_id, headers)
                self.connection.send_data(event.stream_id, body, end_stream=True)
        self.transport.write(self.connection.data_to_send())


@contextlib.asynccontextmanager
async def http2_server():
    paths: list[str] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Http2Server(paths), "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], paths


@pytest.mark.parametrize("kind", ["pool", "service"])
async def test_requests_reach_a_server_that_speaks_http2_only(gateway, build, kind) -> None:
    async with http2_server() as (port, paths):
        endpoints = (Endpoint("127.0.0.1", port, "d/s", "vllm", "/metrics"),)
        if kind == "pool":
            backend = Pool("d/p", endpoints, True, True, "random", ())
            target = build.to_pool("d/p")
        else:
            backend = ServerGroup("service/d/s:80", endpoints, h2c=True)
            target = build.to_servers("service/d/s:80")
        model = build.model(Route("r", RouteMatch(), (target,)), backends=(backend,))
        await gateway.serve(model)
        assert await gateway.servers("/asked", count=50) == {"h2c": 50}
        assert paths.count("/asked") == 50
        await gateway.envoy.stop()
