"""The calls that a model server with vLLM's routes takes about its adapters.

Problem: a server may be down, hung, without the routes, or answer 400 because somebody was faster.
Model: every call is bounded in time and size and ends in a value or a `ServerError` that says what
happened. Whether a call did what it should is not concluded from its answer: the caller lists the
models again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiohttp

from inferway.adapters.plan import Load, Present

if TYPE_CHECKING:
    import asyncio

    from inferway.adapters.plan import Call

READ_TIMEOUT_S = 5.0  # health and list: a server that serves answers at once
CALL_TIMEOUT_S = 300.0  # a load may fetch the adapter over a network first
_ANSWER_BYTES_MAX = 8 * 1024 * 1024
_SHOWN_LENGTH_MAX = 200
_NOT_ALLOWED = "the server has no such route: start vLLM with VLLM_ALLOW_RUNTIME_LORA_UPDATING=True"


class ServerError(Exception):
    """The server did not do it. `refused`: it answered, with a client error."""

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class ModelServerApi(Protocol):
    """One server. Methods other than `healthy` raise ServerError."""

    async def healthy(self) -> bool: ...

    async def present(self) -> Present: ...

    async def apply(self, call: Call) -> None: ...


@dataclass(frozen=True, slots=True)
class HttpModelServer:
    """A server at `url`. `call_slots` bounds loads and unloads on all servers together, the
    session's connector everything else.
    """

    url: str
    session: aiohttp.ClientSession
    call_slots: asyncio.Semaphore
    read_timeout_s: float = READ_TIMEOUT_S
    call_timeout_s: float = CALL_TIMEOUT_S

    async def healthy(self) -> bool:
        try:
            status, _ = await self._request("GET", "/health", None, self.read_timeout_s)
        except ServerError:
            return False
        return status == 200

    async def present(self) -> Present:
        status, body = await self._request("GET", "/v1/models", None, self.read_timeout_s)
        if status != 200:
            raise ServerError(f"GET /v1/models answers {status}")
        return listed(body)

    async def apply(self, call: Call) -> None:
        fields = {"lora_name": call.adapter}
        path = "/v1/unload_lora_adapter"
        if isinstance(call, Load):
            path = "/v1/load_lora_adapter"
            fields["lora_path"] = call.source
            if call.base_model is not None:
                fields["base_model_name"] = call.base_model
        async with self.call_slots:
            status, body = await self._request("POST", path, fields, self.call_timeout_s)
        if status >= 300:
            said = body[:_SHOWN_LENGTH_MAX].decode("utf-8", "replace").strip()
            # Without the route, the framework's own words; an adapter that is not there has others.
            missing = status in (404, 405) and b"lora" not in body.lower()
            why = _NOT_ALLOWED if missing else said
            raise ServerError(f"POST {path} answers {status}: {why}", refused=status < 500)

    async def _request(
        self, method: str, path: str, fields: dict[str, str] | None, timeout_s: float
    ) -> tuple[int, bytes]:
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self.session.request(
                method, self.url + path, json=fields, timeout=timeout, allow_redirects=False
            ) as reply:
                body = bytearray()
                async for chunk in reply.content.iter_any():
                    body += chunk
                    if len(body) > _ANSWER_BYTES_MAX:
                        raise ServerError(f"{method} {path}: more than {_ANSWER_BYTES_MAX} bytes")
                return reply.status, bytes(body)
        except TimeoutError as error:
            raise ServerError(f"{method} {path}: no answer in {timeout_s:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise ServerError(f"{method} {path}: {error}") from error


def listed(body: bytes) -> Present:
    """What a `/v1/models` answer says. An adapter has a `parent`, or (older engines) a `root` that
    is another listed model; all others are models.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ServerError(f"GET /v1/models: not JSON: {error}") from error
    cards = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(cards, list):
        raise ServerError("GET /v1/models: no list called data")
    named = {
        name: card
        for card in cards
        if isinstance(card, dict) and isinstance(name := card.get("id"), str)
    }
    adapters: dict[str, str] = {}
    for name, card in named.items():
        root = card.get("root")
        source = root if isinstance(root, str) else ""
        is_of_other_model = source != name and source in named
        if card.get("parent") or is_of_other_model:
            adapters[name] = "" if is_of_other_model else source
    return Present(adapters, frozenset(named.keys() - adapters.keys()))
