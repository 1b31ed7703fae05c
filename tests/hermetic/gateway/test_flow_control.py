"""A full pool through a whole gateway: who waits is served in order, who is refused is told when to
come back, and an empty pool is waited for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import aiohttp
import pytest

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

ONE_AT_A_TIME = """
apiVersion: inferway.dev/v1alpha1
kind: EndpointPickerConfig
metadata: {name: narrow}
plugins:
- {name: one, type: concurrency-detector, parameters: {maxConcurrency: 1}}
flowControl:
  noEndpointRequestTTL: 60s
  keepAlive: 1s
  maxSheddableWait: 0s
  saturationDetector: {pluginRef: one}
---
"""
OBJECTIVE = """
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {{name: {name}}}
spec: {{priority: {priority}, poolRef: {{name: narrow}}}}
---
"""


async def chat(gateway: RunningGateway, objective: str, tokens: int) -> tuple[int, str, float]:
    """Status, reason of a refusal, and when the answer was there."""
    body = {
        "model": "llama",
        "messages": [{"role": "user", "content": f"{objective} {tokens}"}],
        "max_tokens": tokens,
    }
    headers = {"x-gateway-inference-objective": objective}
    status, got, _ = await gateway.post(body, headers=headers)
    if status == 429:
        assert got["x-should-retry"] == "true"
        assert int(got["retry-after"]) >= 1
        assert got["x-llm-d-request-dropped-reason"] == got["x-inferway-dropped-reason"]
    return status, got.get("x-inferway-dropped-reason", ""), asyncio.get_running_loop().time()


async def test_a_full_pool_and_an_empty_one(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    manifest = ONE_AT_A_TIME + pool_manifest(
        "narrow", annotations="inferway.dev/picker-config: narrow"
    )
    for name, priority in (("high", 10), ("low", -10)):
        manifest += OBJECTIVE.format(name=name, priority=priority)
    async with servers(1, model="llama", output_tokens_mean=50.0) as (server,):
        (folder / "pool.yaml").write_text(manifest)
        (folder / "server.yaml").write_text(server_manifest(server, "narrow"))
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(chat(gateway, "", 1_000))]  # about eight seconds
                await in_flight(gateway, 1)
                for name, tokens in (("low", 2), ("", 3), ("high", 4)):
                    asked.append(tasks.create_task(chat(gateway, name, tokens)))
                await waiting(gateway, 3)
                shed = await chat(gateway, "low", 5)
            assert shed[:2] == (429, "rejected-saturated")
            _, low, normal, high = (task.result() for task in asked)
            assert [low[0], normal[0], high[0]] == [200, 200, 200]
            assert high[2] < normal[2] < low[2]

            (folder / "server.yaml").write_text("# nobody\n")
            await gateway.until_in_effect(
                lambda items: all(one["kind"] != "ModelServer" for one in items)
            )
            late = asyncio.get_running_loop().create_task(chat(gateway, "", 2))
            kept = asyncio.get_running_loop().create_task(streamed(gateway))
            await waiting(gateway, 2)
            await asyncio.sleep(2.5)  # the shortest pace is a second
            (folder / "server.yaml").write_text(server_manifest(server, "narrow"))
            assert (await late)[0] == 200
            content = await kept
            assert content.count(b": ping\n\n") >= 2
            assert content.startswith(b": ping\n\n")
            assert content.endswith(b"data: [DONE]\n\n")


async def streamed(gateway: RunningGateway) -> bytes:
    """All that the client of a stream reads."""
    body = {
        "model": "llama",
        "stream": True,
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 3,
    }
    url = f"{gateway.url}/v1/chat/completions"
    async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
        assert (response.status, response.content_type) == (200, "text/event-stream")
        return await response.read()


async def in_flight(gateway: RunningGateway, requests: int) -> None:
    async def holds() -> bool:
        pools = (await gateway.status())["pools"]
        return sum(one["in_flight"] for pool in pools for one in pool["endpoints"]) == requests

    await gateway.until(f"{requests} in flight", holds)


async def waiting(gateway: RunningGateway, requests: int) -> None:
    async def holds() -> bool:
        pools = (await gateway.status())["pools"]
        return sum(band["requests"] for p in pools for band in p["flow"]["bands"]) == requests

    await gateway.until(f"{requests} wait", holds)
