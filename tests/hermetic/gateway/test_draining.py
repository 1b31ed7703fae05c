"""What leaves the manifests takes no new requests, and finishes those that it has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hermetic

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: r}}
spec:
  rules:
  - backendRefs:
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: old, weight: {old}}}
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: new, weight: {new}}}
"""


async def test_a_stream_survives_its_weight_and_its_server(tmp_path: Path) -> None:
    async with servers(2, model="llama", engine="llama-3-8b-h100") as running:
        folder = tmp_path / "manifests"
        folder.mkdir()
        (folder / "pools.yaml").write_text(pool_manifest("old") + pool_manifest("new"))
        (folder / "old.yaml").write_text(server_manifest(running[0], "old"))
        (folder / "new.yaml").write_text(server_manifest(running[1], "new"))
        (folder / "route.yaml").write_text(ROUTE.format(old=1, new=0))
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            stream = await gateway.openai.chat.completions.create(
                model="llama",
                messages=[{"role": "user", "content": "Tell me all"}],
                max_tokens=600,
                stream=True,
            )
            chunks = aiter(stream)
            await anext(chunks)
            (folder / "route.yaml").write_text(ROUTE.format(old=0, new=1))
            (folder / "old.yaml").unlink()

            def gone(items: list[dict[str, Any]]) -> bool:
                names = {(one["kind"], one["metadata"]["name"]) for one in items}
                return ("ModelServer", running[0].name) not in names

            await gateway.until_in_effect(gone)
            before = running[1].requests.by_path["/v1/chat/completions"]
            status, _headers, reply = await gateway.post(
                {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
            )
            assert status == 200, reply
            assert running[1].requests.by_path["/v1/chat/completions"] == before + 1
            rest = [chunk async for chunk in chunks]
            assert rest[-1].choices[0].finish_reason == "length"
            assert len(rest) > 100


async def test_a_draining_server_gets_nothing_new_and_ends_what_it_has(tmp_path: Path) -> None:
    async with servers(2, model="llama", engine="llama-3-8b-h100") as running:
        folder = tmp_path / "manifests"
        folder.mkdir()
        (folder / "pool.yaml").write_text(pool_manifest("all"))
        for server in running:
            (folder / f"{server.name}.yaml").write_text(server_manifest(server, "all"))
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            stream = await gateway.openai.chat.completions.create(
                model="llama",
                messages=[{"role": "user", "content": "Tell me all"}],
                max_tokens=600,
                stream=True,
            )
            chunks = aiter(stream)
            await anext(chunks)
            busy = next(one for one in running if one.requests.by_path["/v1/chat/completions"])
            (other,) = [one for one in running if one is not busy]
            text = server_manifest(busy, "all").replace("spec: {", "spec: {draining: true, ")
            (folder / f"{busy.name}.yaml").write_text(text)

            async def drains() -> bool:
                (pool,) = (await gateway.status())["pools"]
                states = {one["address"]: one["unready"] for one in pool["endpoints"]}
                return states == {busy.address: "draining", other.address: ""}

            await gateway.until("it drains", drains)
            before = busy.requests.by_path["/v1/chat/completions"]
            chat = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}]}
            for _ in range(6):
                status, _headers, reply = await gateway.post({**chat, "max_tokens": 2})
                assert status == 200, reply
            assert busy.requests.by_path["/v1/chat/completions"] == before
            rest = [chunk async for chunk in chunks]
            assert rest[-1].choices[0].finish_reason == "length"
