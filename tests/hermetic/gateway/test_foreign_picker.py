"""A pool that brings its own picker: followed, told who served, and survived when it fails."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from inferway.cli.demo.manifests import free_ports
from inferway.simulator.faults import FaultRule

from .foreign_picker import ForeignPicker, certificate, serving
from .running import running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from inferway.simulator.server import SimServer

    from .running import RunningGateway

pytestmark = pytest.mark.hermetic

CHAT = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
TIMEOUT_S = 1
# Twice the time-out, and the noise of a busy machine.
BOUND_S = 10.0


def gateway_of(
    tmp_path: Path,
    running: list[SimServer],
    port: int,
    *,
    mode: str = "FailClose",
    annotations: str = "inferway.dev/picker-tls: 'off'",
    more: str = "",
) -> AbstractAsyncContextManager[RunningGateway]:
    folder = tmp_path / "manifests"
    folder.mkdir()
    text = f"""
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata:
  name: all
  annotations: {{{annotations}, inferway.dev/picker-timeout: {TIMEOUT_S}s}}
spec:
  selector: {{matchLabels: {{pool: all}}}}
  targetPorts: [{{number: 8000}}]
  endpointPickerRef: {{name: epp, port: {{number: 9002}}, failureMode: {mode}}}
---
apiVersion: v1
kind: Service
metadata: {{name: epp}}
spec: {{ports: [{{port: 9002, appProtocol: http2}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: epp, labels: {{kubernetes.io/service-name: epp}}}}
addressType: IPv4
endpoints: [{{addresses: [127.0.0.1]}}]
ports: [{{port: {port}}}]
---
"""
    text += more + "".join(server_manifest(one, "all") for one in running)
    (folder / "all.yaml").write_text(text)
    return running_gateway(folder, str(folder), models=("llama",))


def authorities(text: str) -> str:
    data = json.dumps({"ca.crt": text})
    return f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: own}}\ndata: {data}\n---\n"


def chats(server: SimServer) -> int:
    return server.requests.by_path["/v1/chat/completions"]


@pytest.mark.parametrize("say", [("header", "metadata"), ("header",), ("metadata",)])
async def test_its_choice_is_followed_and_it_hears_who_served(
    tmp_path: Path, say: tuple[str, ...]
) -> None:
    picker = ForeignPicker(say=say)
    async with (
        servers(3, model="llama", engine="instant") as running,
        serving(picker) as port,
        gateway_of(tmp_path, running, port) as gateway,
    ):
        for server in running:
            picker.destinations = server.address
            status, headers, reply = await gateway.post(CHAT)
            assert status == 200, reply
            assert not [name for name in headers if "destination" in name.lower()]
        assert [chats(server) for server in running] == [1, 1, 1]
        assert picker.served == [server.address for server in running]
        assert picker.models == ["llama"] * 3
        assert picker.bodies == [len(json.dumps(CHAT))] * 3


async def test_its_list_is_walked_down(tmp_path: Path) -> None:
    picker = ForeignPicker()
    async with (
        servers(3, model="llama", engine="instant") as running,
        serving(picker) as port,
        gateway_of(tmp_path, running, port) as gateway,
    ):
        running[2].faults = (FaultRule("unavailable"),)
        picker.destinations = ",".join(running[n].address for n in (2, 0, 1))
        for _ in range(5):
            assert (await gateway.post(CHAT))[0] == 200
        assert (chats(running[0]), chats(running[1])) == (5, 0)
        assert set(picker.served) == {running[0].address}


async def test_a_body_of_10_mb_and_a_stream(tmp_path: Path) -> None:
    picker = ForeignPicker()
    async with (
        servers(1, model="llama", engine="llama-3-8b-h100") as running,
        serving(picker) as port,
        gateway_of(tmp_path, running, port) as gateway,
    ):
        picker.destinations = running[0].address
        body = json.dumps({**CHAT, "user": "x" * 10_000_000}).encode()
        status, _headers, reply = await gateway.post(body)
        assert status == 200, reply
        assert picker.bodies[-1] == len(body)
        stream = await gateway.openai.chat.completions.create(
            model="llama", messages=[{"role": "user", "content": "Go"}], max_tokens=50, stream=True
        )
        text = [chunk async for chunk in stream]
        assert text[-1].choices[0].finish_reason == "length"
        assert picker.response_chunks > 10


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [(429, "rate_limit_error", "overloaded"), (503, "service_unavailable", "no_endpoint")],
)
@pytest.mark.parametrize("mode", ["FailOpen", "FailClose"])
async def test_its_refusals_reach_the_client(
    tmp_path: Path, mode: str, status: int, kind: str, code: str
) -> None:
    picker = ForeignPicker(refusal=(status, "inference error: all full"))
    async with (
        servers(1, model="llama", engine="instant") as running,
        serving(picker) as port,
        gateway_of(tmp_path, running, port, mode=mode) as gateway,
    ):
        found, headers, reply = await gateway.post(CHAT)
        assert found == status
        assert reply["error"]["message"] == "inference error: all full"
        assert (reply["error"]["type"], reply["error"]["code"]) == (kind, code)
        assert headers["retry-after"]
        assert chats(running[0]) == 0


@pytest.mark.parametrize("mode", ["FailOpen", "FailClose"])
async def test_dead_and_back(tmp_path: Path, mode: str) -> None:
    [port] = free_ports(1)
    async with (
        servers(1, model="llama", engine="instant") as running,
        gateway_of(tmp_path, running, port, mode=mode) as gateway,
    ):
        await expect(gateway, mode)
        async with serving(ForeignPicker(running[0].address), port=port):

            async def serves() -> bool:
                return (await gateway.post(CHAT))[0] == 200

            await gateway.until("the picker is found", serves)
        await expect(gateway, mode)


@pytest.mark.parametrize("mode", ["FailOpen", "FailClose"])
async def test_silent_and_slow(tmp_path: Path, mode: str) -> None:
    picker = ForeignPicker()
    async with (
        servers(1, model="llama", engine="instant") as running,
        serving(picker) as port,
        gateway_of(tmp_path, running, port, mode=mode) as gateway,
    ):
        picker.destinations = running[0].address
        picker.delay_s = TIMEOUT_S / 4
        assert (await gateway.post(CHAT))[0] == 200
        assert len(picker.served) == 1, "slow is not silent"
        picker.delay_s = 1000.0
        await expect(gateway, mode)


async def expect(gateway: RunningGateway, mode: str) -> None:
    """What a request without a picker comes to, within its bound."""
    async with asyncio.timeout(BOUND_S):
        status, headers, reply = await gateway.post(CHAT)
    if mode == "FailOpen":
        assert status == 200, reply
    else:
        assert (status, reply["error"]["code"]) == (503, "endpoint_picker_unavailable")
        assert headers["retry-after"]


VERIFY = "inferway.dev/picker-tls: verify"
VERIFY_OWN = f"{VERIFY}, inferway.dev/picker-ca: own"


@pytest.mark.parametrize(
    ("annotations", "system", "works"),
    [
        ("example.com/none: ''", "other", True),
        (VERIFY_OWN, "other", True),
        (f"{VERIFY_OWN}, inferway.dev/picker-server-name: other", "own", False),
        (VERIFY, "other", False),
        (VERIFY, "own", True),
        ("inferway.dev/picker-tls: 'off'", "own", False),
    ],
)
async def test_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, annotations: str, system: str, works: bool
) -> None:
    """`system` is whom the gateway's machine believes."""
    own = certificate(tmp_path, "epp.default.svc")
    believed = {"own": own, "other": certificate(tmp_path, "other")}[system]
    monkeypatch.setenv("SSL_CERT_FILE", str(believed.chain))
    picker = ForeignPicker()
    async with (
        servers(1, model="llama", engine="instant") as running,
        serving(picker, tls=own) as port,
        gateway_of(
            tmp_path,
            running,
            port,
            annotations=annotations,
            more=authorities(own.chain.read_text()),
        ) as gateway,
    ):
        picker.destinations = running[0].address
        status, _headers, _reply = await gateway.post(CHAT)
        assert (status, len(picker.served)) == ((200, 1) if works else (503, 0))


ELSEWHERE = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: other}
spec: {selector: {matchLabels: {pool: all}}, targetPorts: [{number: 8000}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: both}
spec:
  rules:
  - matches: [{headers: [{name: x-pool, value: PICKED}]}]
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: all}]
  - backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: other}]
---
"""


async def test_damaged_authorities_stop_their_pool_alone(tmp_path: Path) -> None:
    """Every other change takes effect meanwhile; mended, the pool serves again."""
    own = certificate(tmp_path, "epp.default.svc")
    good = authorities(own.chain.read_text())
    picker = ForeignPicker()
    async with (
        servers(1, model="llama", engine="instant") as running,
        serving(picker, tls=own) as port,
        gateway_of(
            tmp_path,
            running,
            port,
            annotations=VERIFY_OWN,
            more=authorities("no certificate") + ELSEWHERE.replace("PICKED", "first"),
        ) as gateway,
    ):
        picker.destinations = running[0].address
        file = tmp_path / "manifests/all.yaml"
        bad = file.read_text()

        async def post(pool: str) -> int:
            return (await gateway.post(CHAT, headers={"x-pool": pool}))[0]

        assert [await post("first"), await post("other")] == [500, 200]
        file.write_text(bad.replace("value: first", "value: second"))

        async def moved() -> bool:
            return [await post("first"), await post("second")] == [200, 500]

        await gateway.until("the route's change is in effect", moved)
        file.write_text(bad.replace(authorities("no certificate"), good))

        async def mended() -> bool:
            assert [await post("first"), await post("other")] in ([200, 200], [500, 200])
            return bool(picker.served)

        await gateway.until("the pool serves again", mended)
        assert await post("first") == 200
