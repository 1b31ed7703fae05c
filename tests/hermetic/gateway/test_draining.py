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
