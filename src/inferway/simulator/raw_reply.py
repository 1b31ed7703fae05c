"""HTTP replies as bytes written straight to the connection.

aiohttp parses requests and keeps connections; its response objects cost more than the rest of a
simulated request, and streamed tokens need one write for all chunks of a step. A handler writes
its reply itself and returns a RawReply, which tells aiohttp that nothing is left to do.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Mapping
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

LAST_CHUNK = b"0\r\n\r\n"


class RawReply(web.StreamResponse):
    """A reply that has been written already."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._stays_open = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._stays_open

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


def head(status: int, content_type: str, headers: Mapping[str, str]) -> bytes:
    """Status line and headers without the part that says how the body ends."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}", f"Content-Type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n").encode("latin-1")


def chunk(data: bytes) -> bytes:
    """One chunk of chunked transfer encoding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def transport_of(request: web.BaseRequest) -> asyncio.Transport:
    """The connection of a request. ConnectionResetError when it is gone."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("client is gone")
    return transport


def send(
    request: web.BaseRequest,
    status: int,
    content_type: str,
    body: bytes,
    headers: Mapping[str, str],
) -> RawReply:
    """Writes a whole reply."""
    keep_alive = request.keep_alive
    ending = b"" if keep_alive else b"Connection: close\r\n"
    transport_of(request).write(
        b"%bContent-Length: %d\r\n%b\r\n%b"
        % (head(status, content_type, headers), len(body), ending, body)
    )
    return RawReply(keep_alive=keep_alive)


def reset(transport: asyncio.Transport) -> None:
    """Ends a connection with RST."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        # Event loops wrap the socket and some hide setsockopt; a duplicate shares the option.
        with socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
            duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
