"""Model servers for the filter's tests: they tell what reached them, and answer as asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter

from aiohttp import web

USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 7,
    "total_tokens": 127,
    "prompt_tokens_details": {"cached_tokens": 64},
}


class Upstream:
    """Echoes a request as JSON; `x-behave` in the request asks for another answer."""

    def __init__(self) -> None:
        self.port = 0
        self.requests: Counter[str] = Counter()
        self.release = asyncio.Event()
        self.slow = False  # streams wait after their headers until they are released
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.streaming = asyncio.Event()
        self._runner: web.AppRunner | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.release.set()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests[request.path] += 1
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        match request.headers.get("x-behave", "echo"):
            case "stream" | "cut" | "truncate" as behaviour:
                return await self._stream(request, behaviour)
            case "chat":
                return await self._chat(request, json.loads(body))
            case "half":
                return await self._half(request)
            case "flood":
                return await self._flood(request)
            case "drop":
                assert request.transport is not None
                request.transport.abort()
            case "empty":
                return web.Response(status=204)
            case "busy":
                return web.json_response({"error": {"message": "busy"}}, status=503)
            case "wait":
                await self.release.wait()
        return web.json_response(
            {
                "served_by": self.address,
                "method": request.method,
                "path": request.path_qs,
                "headers": {name.lower(): value for name, value in request.headers.items()},
                "body_bytes": len(body),
                "body_sha256": hashlib.sha256(body).hexdigest(),
                "usage": USAGE,
            }
        )

    async def _chat(self, request: web.Request, body: dict[str, object]) -> web.StreamResponse:
        """A stream as servers give it, event by event or cut into pieces of `x-bytes`; usage has
        an event of its own, for those who ask.
        """
        options = body.get("stream_options")
        asked = isinstance(options, dict) and options.get("include_usage") is True
        null = {"usage": None} if asked else {}
        events: list[object] = [
            {"choices": [{"delta": {"content": "one"}, "finish_reason": None}], **null},
            {"choices": [{"delta": {}, "finish_reason": "stop"}], **null},
        ]
        if asked:
            events.append({"choices": [], "usage": USAGE})
        texts = [f"data: {json.dumps(event)}\n\n" for event in events] + ["data: [DONE]\n\n"]
        content = "".join(texts).encode()
        size = int(request.headers.get("x-bytes", "0"))
        pieces = [content[at : at + size] for at in range(0, len(content), size)] if size else texts
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece if isinstance(piece, bytes) else piece.encode())
            await asyncio.sleep(0)
        await response.write_eof()
        return response

    async def _flood(self, request: web.Request) -> web.StreamResponse:
        """More events than anybody should keep for a client that does not read."""
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        event = b'data: {"choices": [], "x": "' + b"x" * (1 << 20) + b'"}\n\n'
        for _ in range(64):
            await response.write(event)
        await response.write_eof()
        return response

    async def _half(self, request: web.Request) -> web.StreamResponse:
        """Ends a JSON body in its middle, as if it were whole."""
        response = web.StreamResponse(headers={"content-type": "application/json"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        await response.write_eof()
        return response

    async def _stream(self, request: web.Request, behaviour: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        if self.slow:
            await self.release.wait()
            if request.transport is None or request.transport.is_closing():
                return response
        for text, finish in (("one", None), ("two", "stop" if behaviour == "stream" else None)):
            choice = {"delta": {"content": text}, "finish_reason": finish}
            event = f"data: {json.dumps({'choices': [choice]})}\n\n"
            await response.write(event.encode())
        self.streaming.set()
        if request.headers.get("x-hold"):
            await self.release.wait()
        if behaviour == "truncate":
            await response.write_eof()
            return response
        if behaviour == "cut":
            assert request.transport is not None
            request.transport.abort()
            return response
        usage = json.dumps({"choices": [], "usage": USAGE}).encode()
        for part in (b"data: " + usage[:20], usage[20:] + b"\n\n", b"data: [DONE]\n\n"):
            await response.write(part)
        await response.write_eof()
        return response
