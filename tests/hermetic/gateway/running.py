"""A whole gateway for tests: `inferway run` as a user starts it, over simulated servers in the
test's own process.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiohttp
import openai

from inferway.cli.demo.manifests import free_ports
from inferway.simulator.app import SimOptions, running_servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from inferway.simulator.server import SimServer

READY_TIMEOUT_S = 40.0


@dataclass
class RunningGateway:
    """The process and where it listens."""

    process: asyncio.subprocess.Process
    port: int
    admin_port: int
    log_file: Path
    session: aiohttp.ClientSession
    openai: openai.AsyncOpenAI = field(init=False)

    def __post_init__(self) -> None:
        self.openai = openai.AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key="unused", max_retries=0, timeout=60
        )

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self.admin_port}"

    async def status(self) -> dict[str, Any]:
        async with self.session.get(f"{self.admin}/admin/status") as reply:
            return dict(await reply.json())

    async def pid(self, part: str) -> int:
        return int((await self.status())["parts"][part]["pid"])

    async def kill(self, part: str, number: signal.Signals = signal.SIGKILL) -> int:
        pid = await self.pid(part)
        os.kill(pid, number)
        return pid

    async def until(self, what: str, holds: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not await holds():
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never: {what}\n{self.log()}") from None

    async def until_in_effect(self, seen: Callable[[list[dict[str, Any]]], bool]) -> None:
        """Until the resources that the gateway shows satisfy `seen` and are in force."""

        async def holds() -> bool:
            async with self.session.get(f"{self.admin}/admin/resources") as reply:
                items = (await reply.json())["items"]
            return seen(items) and bool((await self.status())["in_effect"])

        await self.until("the change is in effect", holds)

    def log(self) -> str:
        return self.log_file.read_text(errors="replace")[-6000:]

    async def post(
        self, body: bytes | dict[str, Any] | AsyncIterator[bytes], **kwargs: Any
    ) -> tuple[int, Any, Any]:
        """status, headers, JSON body of one chat completion request."""
        path = kwargs.pop("path", "/v1/chat/completions")
        headers = {"content-type": "application/json", **kwargs.pop("headers", {})}
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        data = io.BytesIO(body) if isinstance(body, bytes) else body
        url = f"{self.url}{path}"
        async with self.session.post(url, headers=headers, data=data, **kwargs) as reply:
            return reply.status, reply.headers, await reply.json(content_type=None)


async def command(*arguments: str, timeout_s: float = 30.0) -> tuple[int, str, str]:
    """Runs the inferway command to its end: exit code, stdout, stderr."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inferway", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1"},
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, out.decode(), err.decode()


@asynccontextmanager
async def running_gateway(
    folder: Path, *arguments: str, models: tuple[str, ...] = ()
) -> AsyncIterator[RunningGateway]:
    """`inferway run ARGUMENTS`, ready to serve and, if `models` are given, listing them."""
    port, admin_port = free_ports(2)
    log_file = folder.parent / f"gateway-{port}.log"
    with log_file.open("wb") as sink:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inferway", "run", *arguments),
            *("--port", str(port), "--admin-port", str(admin_port)),
            *("--envoy-workers", "1", "--log-level", "info"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            gateway = RunningGateway(process, port, admin_port, log_file, session)
            await gateway.until("the gateway is ready", lambda: _is_ready(gateway, models))
            try:
                yield gateway
            finally:
                await gateway.openai.close()
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(40):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()


async def _is_ready(gateway: RunningGateway, models: tuple[str, ...]) -> bool:
    if gateway.process.returncode is not None:
        raise AssertionError(f"the gateway ended: {gateway.process.returncode}\n{gateway.log()}")
    try:
        async with gateway.session.get(f"{gateway.admin}/readyz") as reply:
            if reply.status != 200:
                return False
        if not models:
            return True
        async with gateway.session.get(f"{gateway.url}/v1/models") as reply:
            listed = {one["id"] for one in (await reply.json())["data"]}
    except (aiohttp.ClientError, ValueError):
        return False
    return set(models) <= listed


def pool_manifest(name: str, *, annotations: str = "") -> str:
    return f"""
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata:
  name: {name}
  annotations: {{{annotations}}}
spec:
  selector: {{matchLabels: {{pool: {name}}}}}
  targetPorts: [{{number: 8000}}]
---
"""


def server_manifest(server: SimServer, pool: str) -> str:
    host, port = server.address.rsplit(":", 1)
    return f"""
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: {server.name}, labels: {{pool: {pool}}}}}
spec: {{addresses: [{{host: {host}, port: {port}}}]}}
---
"""


@asynccontextmanager
async def servers(count: int, *, model: str, **options: Any) -> AsyncIterator[list[SimServer]]:
    """Simulated servers in this process."""
    async with running_servers(SimOptions(model=model, servers=count, **options)) as running:
        yield running
