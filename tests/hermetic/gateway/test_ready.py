"""What is called ready serves; servers that are down do not keep the gateway from being ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway.cli.demo.manifests import free_ports
from inferway.cli.run import SIMULATED_MODEL
from inferway.simulator.faults import FaultRule

from .running import running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.hermetic


ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: plain}}
spec:
  rules:
  - backendRefs: [{{group: inferway.dev, kind: ModelServer, name: {name}}}]
---
"""


def chat(model: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Hi"}]
    return {"model": model, "messages": messages, "max_tokens": 2}


async def test_simulated_servers_listen_when_the_gateway_is_ready(tmp_path: Path) -> None:
    """Their process starts together with Envoy and takes longer."""
    async with running_gateway(tmp_path / "none", "--sim", "1", "--speed", "50") as gateway:
        status, _headers, reply = await gateway.post(chat(SIMULATED_MODEL))
        assert status == 200, reply


async def test_a_server_that_fails_its_first_checks_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    async with servers(1, model="llama", engine="instant") as running:
        (server,) = running
        server.faults = (FaultRule("error", path="/health", status=500, count=2),)
        text = ROUTE.format(name=server.name) + server_manifest(server, "none")
        (folder / "all.yaml").write_text(text)
        async with running_gateway(folder, str(folder)) as gateway:
            assert server.requests.by_path["/health"] > 2, "one has passed"
            status, _headers, reply = await gateway.post(chat("llama"))
            assert status == 200, reply


async def test_a_server_that_stays_away_is_not(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    backend = ("--backend", f"http://127.0.0.1:{port}")
    async with running_gateway(tmp_path / "none", *backend) as gateway:
        status, _headers, reply = await gateway.post(chat("llama"))
        assert status == 503
        # The first while it never passed and still has time, the second after that.
        assert reply["error"]["code"] in {"endpoint_unreachable", "no_endpoint"}
        assert "ready_without_healthy_server" in gateway.log()
