"""HTTPS with several certificates on one port: who is served what, rotation, HTTP/2, secrecy."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from inferway.cli.demo.manifests import free_ports
from tests.certificates import issue

from .running import (
    RunningGateway,
    command,
    pool_manifest,
    running_gateway,
    server_manifest,
    servers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.certificates import Issued

pytestmark = pytest.mark.hermetic

GATEWAY = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  gatewayClassName: inferway
  listeners:
  - name: exact
    protocol: HTTPS
    port: {https}
    hostname: a.example.com
    tls: {{certificateRefs: [{{name: exact}}]}}
  - name: wild
    protocol: HTTPS
    port: {https}
    hostname: "*.example.org"
    tls: {{certificateRefs: [{{name: wild, namespace: certs}}]}}
  - name: broken
    protocol: HTTPS
    port: {https}
    hostname: broken.example.com
    tls: {{certificateRefs: [{{name: missing}}]}}
  - {{name: plain, protocol: HTTP, port: {http}}}
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {{name: edge, namespace: certs}}
spec:
  from: [{{group: gateway.networking.k8s.io, kind: Gateway, namespace: default}}]
  to: [{{group: "", kind: Secret}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: chat}}
spec:
  parentRefs: [{{name: edge}}]
  rules:
  - backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: chat}}]
---
"""


class Edge:
    """The gateway, with a client per certificate."""

    def __init__(self, gateway: RunningGateway, folder: Path, ports: tuple[int, int]) -> None:
        self.gateway = gateway
        self.folder = folder
        self.https, self.http = ports

    async def certificate(self, name: str) -> bytes:
        """What a new connection that asks for this host is shown (DER)."""
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        _reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.https, ssl=context, server_hostname=name
        )
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return bytes(shown)

    async def models(
        self, client: httpx2.AsyncClient, name: str, *, host: str | None = None
    ) -> httpx2.Response:
        return await client.get(
            f"https://127.0.0.1:{self.https}/v1/models",
            headers={"host": host or name},
            extensions={"sni_hostname": name},
        )

    async def listeners(self) -> dict[str, dict[str, tuple[str, str]]]:
        """Listener to condition type to status and reason."""
        url = f"{self.gateway.admin}/admin/resources?kind=gateway"
        async with self.gateway.session.get(url) as reply:
            (edge,) = (await reply.json())["items"]
        return {
            one["name"]: {
                each["type"]: (each["status"], each["reason"]) for each in one["conditions"]
            }
            for one in edge["status"]["listeners"]
        }


@pytest.fixture
def exact() -> Issued:
    return issue("a.example.com")


@pytest.fixture
def wild() -> Issued:
    return issue("*.example.org", kind="rsa-2048")


@pytest.fixture
async def edge(tmp_path: Path, exact: Issued, wild: Issued) -> AsyncIterator[Edge]:
    folder = tmp_path / "manifests"
    folder.mkdir()
    https, http = free_ports(2)
    async with servers(1, model="llama", engine="llama-3-8b-h100") as (server,):
        (folder / "gateway.yaml").write_text(GATEWAY.format(https=https, http=http))
        (folder / "pool.yaml").write_text(pool_manifest("chat") + server_manifest(server, "chat"))
        (folder / "exact.yaml").write_text(exact.secret("exact"))
        (folder / "wild.yaml").write_text(wild.secret("wild", namespace="certs", plain=True))
        async with running_gateway(folder, str(folder)) as gateway:
            yield Edge(gateway, folder, (https, http))


def pem_to_der(issued: Issued) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.chain)


async def test_each_host_has_its_certificate_and_the_rest_is_refused(
    edge: Edge, exact: Issued, wild: Issued
) -> None:
    assert await edge.certificate("a.example.com") == pem_to_der(exact)
    assert await edge.certificate("any.example.org") == pem_to_der(wild)
    for stranger in ("b.example.com", "broken.example.com", "example.org"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await edge.certificate(stranger)

    async with httpx2.AsyncClient(verify=exact.trusted(), http2=True) as client:
        reply = await edge.models(client, "a.example.com")
        assert (reply.status_code, reply.http_version) == (200, "HTTP/2")
        # The same connection, another listener's host: try it on a connection of its own.
        reply = await edge.models(client, "a.example.com", host="any.example.org")
        assert reply.status_code == 421
        assert reply.json()["error"]["code"] == "misdirected_request"
        # A host that nobody serves.
        reply = await edge.models(client, "a.example.com", host="elsewhere.net")
        assert reply.status_code == 404
    async with httpx2.AsyncClient(verify=wild.trusted()) as client:
        reply = await edge.models(client, "any.example.org")
        assert (reply.status_code, reply.http_version) == (200, "HTTP/1.1")

    found = await edge.listeners()
    assert found["broken"]["ResolvedRefs"] == ("False", "InvalidCertificateRef")
    assert found["broken"]["Programmed"] == ("False", "Invalid")
    for name in ("exact", "wild", "plain"):
        assert found[name]["ResolvedRefs"] == ("True", "ResolvedRefs")
        assert found[name]["Programmed"] == ("True", "Programmed")


async def test_http2_with_prior_knowledge_on_clear_text(edge: Edge) -> None:
    body = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    async with httpx2.AsyncClient(http1=False, http2=True, timeout=30) as client:
        url = f"http://127.0.0.1:{edge.http}/v1/chat/completions"
        replies = await asyncio.gather(*(client.post(url, json=body) for _ in range(20)))
    assert {(one.status_code, one.http_version) for one in replies} == {(200, "HTTP/2")}


async def chunks(response: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: ") and line != "data: [DONE]":
            yield json.loads(line.removeprefix("data: "))


@pytest.mark.parametrize("http2", [False, True], ids=["http/1.1", "h2"])
async def test_rotation_touches_neither_streams_nor_connections(
    edge: Edge, exact: Issued, http2: bool
) -> None:
    """A stream runs while its certificate is replaced: it ends whole, its connection lives on, new
    connections see the new certificate, and the listener is not changed.
    """
    body = {
        "model": "llama",
        "messages": [{"role": "user", "content": "Tell"}],
        "stream": True,
        "max_tokens": 400,
        "ignore_eos": True,
    }
    renewed = issue("a.example.com")
    url = f"https://127.0.0.1:{edge.https}/v1/chat/completions"
    names = {"headers": {"host": "a.example.com"}, "extensions": {"sni_hostname": "a.example.com"}}
    limits = httpx2.Limits(max_connections=1)
    async with httpx2.AsyncClient(
        verify=exact.trusted(), http2=http2, limits=limits, timeout=60
    ) as client:
        async with client.stream("POST", url, json=body, **names) as response:
            assert response.status_code == 200
            stream = chunks(response)
            received = [await anext(stream)]
            (edge.folder / "exact.yaml").write_text(renewed.secret("exact"))

            async def is_new() -> bool:
                return await edge.certificate("a.example.com") == pem_to_der(renewed)

            await edge.gateway.until("new connections see the new certificate", is_new)
            assert not any(one["choices"][0]["finish_reason"] for one in received)
            received += [one async for one in stream]
        assert received[-1]["choices"][0]["finish_reason"] == "length"
        # This client trusts the old certificate only, so this is the old connection.
        assert (await edge.models(client, "a.example.com")).status_code == 200
    async with httpx2.AsyncClient(verify=exact.trusted()) as client:
        with pytest.raises(httpx2.ConnectError):
            await edge.models(client, "a.example.com")
    async with edge.gateway.session.get(f"{edge.gateway.admin}/metrics/envoy") as reply:
        text = await reply.text()
    (changes,) = [
        line
        for line in text.splitlines()
        if line.startswith("envoy_listener_manager_listener_modified")
    ]
    assert changes.split()[-1] == "0"


async def test_a_certificate_that_goes_and_comes_back(edge: Edge, exact: Issued) -> None:
    """Without its certificate a listener is closed; the others serve, and it comes back."""
    secret = (edge.folder / "exact.yaml").read_text()
    for _round in range(2):
        (edge.folder / "exact.yaml").unlink()

        async def closed() -> bool:
            try:
                await edge.certificate("a.example.com")
            except (ssl.SSLError, ConnectionError):
                return True
            return False

        await edge.gateway.until("the listener is closed", closed)
        await edge.certificate("any.example.org")
        (edge.folder / "exact.yaml").write_text(secret)

        async def open_again() -> bool:
            return not await closed()

        await edge.gateway.until("the listener is open again", open_again)
        assert await edge.certificate("a.example.com") == pem_to_der(exact)


async def test_private_keys_are_shown_nowhere(edge: Edge, exact: Issued, wild: Issued) -> None:
    admin = edge.gateway.admin
    shown = []
    for path in ("/admin/resources", "/admin/status", "/metrics", "/metrics/envoy"):
        async with edge.gateway.session.get(f"{admin}{path}") as reply:
            shown.append(await reply.text())
    for arguments in (("get", "secrets", "-o", "yaml"), ("describe", "secrets"), ("get",)):
        code, out, err = await command(*arguments, "--admin", admin)
        assert code == 0, (arguments, out, err)
        shown += [out, err]
    # A key that does not fit, and one that is no text, so that both are talked about.
    bad = exact.secret("exact").replace("tls.key: ", "tls.key: [").replace("}\n---", "]}\n---")
    (edge.folder / "exact.yaml").write_text(bad)
    mixed = type(wild)(wild.chain, exact.key).secret("wild", namespace="certs")
    (edge.folder / "wild.yaml").write_text(mixed)

    async def reported() -> bool:
        problems = (await edge.gateway.status())["problems"]
        found = await edge.listeners()
        return bool(problems) and found["wild"]["ResolvedRefs"][0] == "False"

    await edge.gateway.until("both are reported", reported)
    async with edge.gateway.session.get(f"{admin}/admin/status") as reply:
        shown.append(await reply.text())
    _code, out, err = await command("validate", str(edge.folder))
    shown += [out, err, edge.gateway.log_file.read_text()]
    text = "\n".join(shown)
    assert "does not belong to the certificate" in text
    for issued in (exact, wild):
        encoded = base64.b64encode(issued.key.encode()).decode()
        lines = issued.key.splitlines()[1:-1]
        assert not [line for line in (*lines, encoded, encoded[40:100]) if line in text]
