"""HTTPS ports that validate their clients: who is let in, and what a change of authorities does."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import httpx2
import pytest

from inferway.cli.demo.manifests import free_ports
from tests.certificates import issue

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.certificates import Issued

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: inferway
  tls:
    frontend:
      default: {validation: REFERENCES}
      perPort:
      - port: LENIENT
        tls: {validation: REFERENCES}
  listeners:
  - {name: strict, protocol: HTTPS, port: STRICT, tls: {certificateRefs: [{name: cert}]}}
  - {name: lenient, protocol: HTTPS, port: LENIENT, tls: {certificateRefs: [{name: cert}]}}
  - {name: plain, protocol: HTTP, port: PLAIN}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: edge}]
  rules:
  - backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: chat}]
---
"""
REFERENCES = '{caCertificateRefs: [{group: "", kind: ConfigMap, name: clients}]}'
LENIENT = REFERENCES.replace("]}", "], mode: AllowInsecureFallback}")
HOST = "a.example.com"


def believed(*issued: Issued) -> str:
    data = json.dumps({"ca.crt": "".join(one.chain for one in issued)})
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: clients}}\ndata: {data}\n"


def client(folder: Path, server: Issued, own: Issued | None) -> httpx2.AsyncClient:
    """One that trusts the server, and shows its own certificate when it has one."""
    context = server.trusted()
    if own is not None:
        file = folder / f"{own.serial}.pem"
        file.write_text(own.key + own.chain)
        context.load_cert_chain(file)
    limits = httpx2.Limits(keepalive_expiry=600)
    return httpx2.AsyncClient(verify=context, limits=limits, timeout=20)


async def status(one: httpx2.AsyncClient, port: int) -> int:
    """0: the connection was refused."""
    try:
        found = await one.get(
            f"https://127.0.0.1:{port}/v1/models",
            headers={"host": HOST},
            extensions={"sni_hostname": HOST},
        )
    except (httpx2.TransportError, ssl.SSLError):  # with TLS 1.3 the refusal comes as it reads
        return 0
    return int(found.status_code)


async def listener_changes(gateway: RunningGateway) -> float:
    async with gateway.session.get(f"{gateway.admin}/metrics/envoy") as reply:
        lines = (await reply.text()).splitlines()
    (found,) = [
        line for line in lines if line.startswith("envoy_listener_manager_listener_modified")
    ]
    return float(found.split()[-1])


async def test_who_is_let_in(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    strict, lenient, plain = free_ports(3)
    shown, first, second = issue(HOST), issue("first"), issue("second")
    text = GATEWAY.replace("REFERENCES", REFERENCES, 1).replace("REFERENCES", LENIENT)
    for name, port in (("STRICT", strict), ("LENIENT", lenient), ("PLAIN", plain)):
        text = text.replace(name, str(port))
    async with servers(1, model="llama", engine="instant") as (server,):
        (folder / "gateway.yaml").write_text(text + shown.secret("cert"))
        (folder / "pool.yaml").write_text(pool_manifest("chat") + server_manifest(server, "chat"))
        authorities = folder / "authorities.yaml"
        authorities.write_text(believed(first))
        async with (
            running_gateway(folder, str(folder)) as gateway,
            client(tmp_path, shown, None) as none,
            client(tmp_path, shown, first) as right,
            client(tmp_path, shown, second) as wrong,
        ):
            assert [await status(one, strict) for one in (none, wrong, right)] == [0, 0, 200]
            assert [await status(one, lenient) for one in (none, wrong, right)] == [200, 200, 200]

            authorities.write_text(believed(second))

            async def is_new() -> bool:
                return await status(wrong, strict) == 200

            await gateway.until("the new authority counts", is_new)
            assert await status(right, strict) == 200, "a connection that was there goes on"
            async with client(tmp_path, shown, first) as again:
                assert await status(again, strict) == 0
            assert await listener_changes(gateway) == 0

            authorities.unlink()

            async def is_closed() -> bool:
                async with client(tmp_path, shown, second) as again:
                    return await status(again, strict) == 0

            await gateway.until("without authorities nobody is let in", is_closed)
            async with gateway.session.get(f"http://127.0.0.1:{plain}/v1/models") as reply:
                assert reply.status == 200
