"""A route of one team reaches a Service of another, as far as that other team allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.cli.demo.manifests import free_ports

from .running import running_gateway, servers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hermetic

MANIFESTS = """
apiVersion: v1
kind: Namespace
metadata: {{name: apps, labels: {{team: search}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: infra}}
spec:
  gatewayClassName: inferway
  listeners:
  - name: http
    protocol: HTTP
    port: {port}
    allowedRoutes: {{namespaces: {{from: Selector, selector: {{matchLabels: {{team: search}}}}}}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: chat, namespace: apps}}
spec:
  parentRefs: [{{name: edge, namespace: infra}}]
  rules:
  - backendRefs: [{{name: chat, namespace: models, port: 80}}]
---
apiVersion: v1
kind: Service
metadata: {{name: chat, namespace: models}}
spec: {{ports: [{{name: http, port: 80}}]}}
---
"""
GRANT = """
apiVersion: gateway.networking.k8s.io/v1
kind: ReferenceGrant
metadata: {name: apps, namespace: models}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: apps}]
  to: [{group: "", kind: Service}]
"""
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: chat-1, namespace: models, labels: {{kubernetes.io/service-name: chat}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1], conditions: {{ready: {ready}}}}}]
"""


async def test_grants_and_readiness_take_effect_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (port,) = free_ports(1)
    async with servers(1, model="llama", engine="instant") as (server,):
        address = int(server.address.rpartition(":")[2])
        (folder / "all.yaml").write_text(MANIFESTS.format(port=port))
        (folder / "slice.yaml").write_text(SLICE.format(port=address, ready="true"))
        async with running_gateway(folder, str(folder)) as gateway:
            url = f"http://127.0.0.1:{port}/v1/chat/completions"
            body = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}]}

            async def status() -> tuple[int, str]:
                async with gateway.session.post(url, json=body) as reply:
                    answer = await reply.json()
                    return reply.status, answer.get("error", {}).get("code", "")

            async def becomes(wanted: tuple[int, str]) -> None:
                async def holds() -> bool:
                    return await status() == wanted

                await gateway.until(f"{wanted}", holds)

            await becomes((500, "backend_not_resolved"))
            (folder / "grant.yaml").write_text(GRANT)
            await becomes((200, ""))
            (folder / "slice.yaml").write_text(SLICE.format(port=address, ready="false"))
            await becomes((503, "no_endpoint"))
            (folder / "slice.yaml").write_text(SLICE.format(port=address, ready="true"))
            await becomes((200, ""))
            (folder / "grant.yaml").unlink()
            await becomes((500, "backend_not_resolved"))
