"""A server with several ports: each is an endpoint, picked and health-checked by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.simulator.faults import FaultRule

from .running import running_gateway, servers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hermetic

CHAT = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
MANIFESTS = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: ranks, annotations: {{inferway.dev/policy: round-robin}}}}
spec:
  selector: {{matchLabels: {{app: ranks}}}}
  targetPorts: [{{number: {0}}}, {{number: {1}}}]
---
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: node, labels: {{app: ranks}}}}
spec: {{addresses: [{{host: 127.0.0.1}}]}}
"""


async def test_every_target_port_is_an_endpoint(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    async with servers(2, model="llama", engine="instant") as running:
        addresses = [one.address for one in running]
        ports = [address.rsplit(":", 1)[1] for address in addresses]
        (folder / "all.yaml").write_text(MANIFESTS.format(*ports))
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:

            async def ready() -> dict[str, bool]:
                (pool,) = (await gateway.status())["pools"]
                return {one["address"]: one["ready"] for one in pool["endpoints"]}

            async def served(requests: int) -> list[int]:
                before = [one.requests.by_model["llama"] for one in running]
                for _ in range(requests):
                    status, _headers, reply = await gateway.post(CHAT)
                    assert status == 200, reply
                after = [one.requests.by_model["llama"] for one in running]
                return [now - then for now, then in zip(after, before, strict=True)]

            assert await ready() == dict.fromkeys(addresses, True)
            assert await served(10) == [5, 5]
            assert all(one.requests.by_path["/health"] for one in running)

            running[0].faults = (FaultRule("error", path="/health", status=500),)

            async def one_is_out() -> bool:
                return await ready() == {addresses[0]: False, addresses[1]: True}

            await gateway.until("one port of the server is unhealthy", one_is_out)
            assert await served(4) == [0, 4]
