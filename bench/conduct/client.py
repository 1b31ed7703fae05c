"""What a client sees: one request, sent without an SDK so that nothing is repaired or retried."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp

from bench.overhead.arms import MODEL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT_S = 60.0
PATH = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class Reply:
    """`status` 0: no response at all. `broken`: the transport said that the body is incomplete."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    broken: bool = False
    seconds: float = 0.0
    first_event_s: float | None = None

    @property
    def error(self) -> dict[str, Any] | None:
        """The OpenAI error object of a reply that is one."""
        try:
            error = json.loads(self.text).get("error")
        except (ValueError, AttributeError):
            return None
        return error if isinstance(error, dict) else None

    @property
    def events(self) -> list[str]:
        """Data of every event of a stream."""
        lines = self.text.splitlines()
        return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]

    @property
    def is_finished(self) -> bool:
        """A stream that says that it is complete."""
        return "[DONE]" in self.events

    @property
    def has_error_event(self) -> bool:
        return any(event.startswith("{") and "error" in json.loads(event) for event in self.events)


def chat(*, stream: bool = False, max_tokens: int = 10, text: str = "hello") -> bytes:
    messages = [{"role": "user", "content": text}]
    body = {"model": MODEL, "messages": messages, "stream": stream, "max_tokens": max_tokens}
    return json.dumps(body).encode()


async def send(
    session: aiohttp.ClientSession,
    url: str,
    body: bytes,
    *,
    timeout_s: float = TIMEOUT_S,
    begun: Callable[[], None] | None = None,
) -> Reply:
    """Sends one chat completion and reads it to its end, whatever that is. `begun` is called at the
    first event of a stream.
    """
    started_s = time.monotonic()
    status, headers, text = 0, dict[str, str](), ""
    first_event_s, broken = None, False
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.post(
                f"{url}{PATH}",
                data=body,
                headers={"content-type": "application/json"},
            ) as reply,
        ):
            status = reply.status
            headers = {name.lower(): value for name, value in reply.headers.items()}
            async for piece in reply.content.iter_any():
                text += piece.decode(errors="replace")
                if first_event_s is None and "data:" in text:
                    first_event_s = time.monotonic() - started_s
                    if begun is not None:
                        begun()
    except (aiohttp.ClientError, ConnectionError, TimeoutError):
        broken = True
    seconds = time.monotonic() - started_s
    return Reply(status, headers, text, broken, seconds, first_event_s)
