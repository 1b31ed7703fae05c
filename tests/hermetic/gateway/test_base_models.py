"""One route rule by base model serves the base and all its adapters, new ones too; and names that
several pools serve under several names.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.simulator.server import SimServer

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: by-base}
spec:
  rules:
  - matches: [{headers: [{name: X-Gateway-Base-Model-Name, value: llama}]}]
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: llama}]
  - matches: [{headers: [{name: X-Gateway-Base-Model-Name, value: gemma}]}]
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: gemma}]
---
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: assistant}
spec: {modelName: assistant, targetModels: [{name: llama-bot}], poolRef: {name: llama}}
---
"""
CONFIG_MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: gemma, labels: {inference.networking.k8s.io/bbr-managed: "true"}}
data:
  baseModel: gemma
  adapters: |
    - secret-bot
"""


async def pod(gateway: RunningGateway, model: str, **headers: str) -> str:
    """Who answered, or the status when it was not 200."""
    body = {"model": model, "max_tokens": 2, "messages": [{"role": "user", "content": "Hi"}]}
    status, reply_headers, _ = await gateway.post(body, headers=headers)
    return str(reply_headers["x-inference-pod"] if status == 200 else status)


async def test_base_models_and_adapters_that_come_and_go(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    async with AsyncExitStack() as stack:
        llama, gemma = [
            (await stack.enter_async_context(servers(1, engine="instant", **options)))[0]
            for options in (
                {"model": "llama", "adapters": ("llama-bot",), "names": ("llama-0",)},
                {"model": "gemma", "names": ("gemma-0",)},
            )
        ]
        (folder / "pools.yaml").write_text(
            ROUTE
            + pool_manifest("llama")
            + pool_manifest("gemma")
            + server_manifest(llama, "llama")
            + server_manifest(gemma, "gemma")
        )
        models = ("llama", "llama-bot", "gemma", "assistant")
        async with running_gateway(folder, str(folder), models=models) as gateway:
            for model in ("llama", "llama-bot", "assistant"):
                assert await pod(gateway, model) == "llama-0", model
            assert await pod(gateway, "gemma") == "gemma-0"
            trusted = {"x-gateway-base-model-name": "llama"}
            assert await pod(gateway, "gemma", **trusted) == "gemma-0", "clients do not choose"
            assert await pod(gateway, "new-bot", **trusted) == "404"

            async with asyncio.TaskGroup() as tasks:  # a stream lives through the changes
                lasting = tasks.create_task(long_stream(gateway))
                await adapter_comes_and_goes(gateway, llama)
                await config_map_comes(gateway, folder)
            assert lasting.result() == 3_000


async def adapter_comes_and_goes(gateway: RunningGateway, server: SimServer) -> None:
    async def tell(verb: str) -> None:
        adapter = {"lora_name": "new-bot", "lora_path": "/adapters/new-bot"}
        url = f"http://{server.address}/v1/{verb}_lora_adapter"
        async with gateway.session.post(url, json=adapter) as reply:
            assert reply.status == 200

    async def is_served() -> bool:
        return await pod(gateway, "new-bot") == "llama-0"

    async def is_gone() -> bool:
        return await pod(gateway, "new-bot") == "404"

    await tell("load")
    await gateway.until("the new adapter follows its base model", is_served)
    await tell("unload")
    await gateway.until("the adapter is gone", is_gone)


async def config_map_comes(gateway: RunningGateway, folder: Path) -> None:
    """A name that no server tells is routed by a ConfigMap; then it is the pool that refuses it."""

    async def words() -> str:
        _, _, reply = await gateway.post({"model": "secret-bot", "messages": []})
        return str(reply["error"]["message"])

    async def pool_refuses() -> bool:
        return "'secret-bot'" in await words()

    assert not await pool_refuses()
    (folder / "map.yaml").write_text(CONFIG_MAP)
    await gateway.until("the ConfigMap routes", pool_refuses)


async def long_stream(gateway: RunningGateway) -> int:
    """Tokens of a stream that runs while things change."""
    body: dict[str, Any] = {"model": "llama", "max_tokens": 3_000, "stream": True}
    body["messages"] = [{"role": "user", "content": "Go on"}]
    body["stream_options"] = {"include_usage": True}
    url = f"{gateway.url}/v1/chat/completions"
    tokens = 0
    async with gateway.session.post(url, json=body) as reply:
        assert reply.status == 200
        async for line in reply.content:
            if line.startswith(b"data: {") and (usage := json.loads(line[6:]).get("usage")):
                tokens = usage["completion_tokens"]
    return tokens
