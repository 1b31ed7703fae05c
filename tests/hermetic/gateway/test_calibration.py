"""Two unequal servers in one pool, told apart by nothing but their answers."""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from .running import RunningGateway, running_gateway, servers

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.simulator.server import SimServer

pytestmark = pytest.mark.hermetic

PROMPTS = [f"{number} " + "word " * (200 + 40 * (number % 20)) for number in range(100)]


def backends(*running: SimServer) -> list[str]:
    return [part for one in running for part in ("--backend", f"http://{one.address}")]


async def ask(gateway: RunningGateway, prompt: str) -> None:
    body = {
        "model": "llama",
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": 24,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    async with gateway.session.post(f"{gateway.url}/v1/chat/completions", json=body) as reply:
        assert reply.status == 200
        assert "[DONE]" in await reply.text()


async def endpoints(gateway: RunningGateway) -> dict[str, dict[str, Any]]:
    (pool,) = (await gateway.status())["pools"]
    return {one["address"]: one for one in pool["endpoints"]}


def chats(server: SimServer) -> int:
    return server.requests.by_path["/v1/chat/completions"]


async def test_a_slower_server_is_found_out_and_gets_less(tmp_path: Path) -> None:
    folder = tmp_path / "gateway"
    folder.mkdir()
    async with (
        servers(1, model="llama", engine="llama-3-8b-h100") as (fast,),
        servers(1, model="llama", engine="llama-3-70b-4xa100") as (slow,),
        running_gateway(folder, *backends(fast, slow), models=("llama",)) as gateway,
    ):
        prompts = cycle(PROMPTS)

        async def learnt() -> bool:
            found = (await endpoints(gateway)).values()
            speeds = [one["speed"] for one in found if one["speed"] is not None]
            return len({one["step_s"] for one in speeds}) == 2

        async def client() -> None:
            while not await learnt():
                for _ in range(8):
                    await ask(gateway, next(prompts))

        async with asyncio.timeout(90):
            await asyncio.gather(*(client() for _ in range(12)))
        found = await endpoints(gateway)
        quick, late = found[fast.address]["speed"], found[slow.address]["speed"]
        before = chats(fast), chats(slow)
        await asyncio.gather(*(ask(gateway, prompt) for prompt in PROMPTS[:40]))
        taken = chats(fast) - before[0], chats(slow) - before[1]
    assert late["step_s"] > 1.3 * quick["step_s"]
    assert sum(taken) == 40
    assert taken[0] > 20, taken
