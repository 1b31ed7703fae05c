"""What clients notice when the picker is dead, stopped, slow or restarting.

Each case opens long streams, does its harm, sends short requests one after another meanwhile, and
looks at both: every stream must end as it should, and what the short requests got and how much
longer they took than before is what the failure mode promises.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import urllib.request
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

from bench.conduct.client import Reply, chat, send
from bench.conduct.matrix import statuses
from bench.overhead import arms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine
    from pathlib import Path

    from inferway.simulator.server import SimServer

STREAMS = 500
STREAM_TOKENS = 1_500
PROBES = 100
BEGIN_TIMEOUT_S = 120.0
PROBE_PAUSE_S = 0.03
DEATHS = 4
SLOW_STOP_S, SLOW_RUN_S = 0.04, 0.02
MODES = ("FailOpen", "FailClose")


@dataclass(frozen=True, slots=True)
class Outcome:
    fault: str
    mode: str
    streams_complete: int
    streams: int
    replies: str
    before_p50_ms: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def manifests(ports: list[int], mode: str) -> str:
    pool = f"""
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata:
  name: pool
  annotations: {{inferway.dev/failure-mode: {mode}}}
spec:
  selector: {{matchLabels: {{pool: pool}}}}
  targetPorts: [{{number: 8000}}]
"""
    servers = [
        f"""
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: server-{port}, labels: {{pool: pool}}}}
spec: {{addresses: [{{host: 127.0.0.1, port: {port}}}]}}
"""
        for port in ports
    ]
    return "---\n".join([pool, *servers])


def picker_pid(admin: str) -> int:
    with urllib.request.urlopen(f"{admin}/admin/status", timeout=5) as reply:
        return int(json.load(reply)["parts"]["picker"]["pid"] or 0)


@asynccontextmanager
async def meanwhile(harm: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """Goes on with the harm until the block ends."""
    async with asyncio.TaskGroup() as tasks:
        doing = tasks.create_task(harm)
        yield
        doing.cancel()


@asynccontextmanager
async def dead(admin: str) -> AsyncIterator[None]:
    """Killed as soon as its supervisor has started it anew, after ever longer pauses: about 3 s.

    A fifth death at once would end the whole gateway, for good reasons.
    """

    async def keep_killing() -> None:
        killed = {0}
        while len(killed) <= DEATHS:
            pid = await asyncio.to_thread(picker_pid, admin)
            if pid not in killed:
                _signal(pid, signal.SIGKILL)
                killed.add(pid)
            await asyncio.sleep(0.02)

    async with meanwhile(keep_killing()):
        yield


@asynccontextmanager
async def stopped(admin: str) -> AsyncIterator[None]:
    pid = await asyncio.to_thread(picker_pid, admin)
    _signal(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        _signal(pid, signal.SIGCONT)


@asynccontextmanager
async def slow(admin: str) -> AsyncIterator[None]:
    """Gets a third of the time, in pieces of 20 ms."""
    pid = await asyncio.to_thread(picker_pid, admin)

    async def pulse() -> None:
        while True:
            _signal(pid, signal.SIGSTOP)
            await asyncio.sleep(SLOW_STOP_S)
            _signal(pid, signal.SIGCONT)
            await asyncio.sleep(SLOW_RUN_S)

    try:
        async with meanwhile(pulse()):
            yield
    finally:
        _signal(pid, signal.SIGCONT)


@asynccontextmanager
async def restarting(admin: str) -> AsyncIterator[None]:
    """Killed once; its supervisor brings it back."""
    _signal(await asyncio.to_thread(picker_pid, admin), signal.SIGKILL)
    yield


def _signal(pid: int, number: signal.Signals) -> None:
    """To a part that has been told; nothing while the supervisor shows none."""
    if pid > 0:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


FAULTS = {"dead": dead, "stopped": stopped, "slow": slow, "restarting": restarting}


async def probe(session: aiohttp.ClientSession, url: str) -> list[Reply]:
    replies = []
    for _ in range(PROBES):
        replies.append(await send(session, url, chat(max_tokens=1)))
        await asyncio.sleep(PROBE_PAUSE_S)
    return replies


async def run(servers: list[SimServer], fault: str, mode: str, work: Path) -> Outcome:
    folder = work / f"{fault}-{mode}"
    folder.mkdir()
    ports = [server.port for server in servers]
    (folder / "pool.yaml").write_text(manifests(ports, mode))
    admin_port = arms.free_port()
    arm = await asyncio.to_thread(
        arms.run_inferway, f"inferway-{fault}-{mode}", work, str(folder), admin_port=admin_port
    )
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            return await _observe(session, arm.url, f"http://127.0.0.1:{admin_port}", fault, mode)
    finally:
        await asyncio.to_thread(arm.stop)


async def _observe(
    session: aiohttp.ClientSession, url: str, admin: str, fault: str, mode: str
) -> Outcome:
    body = chat(stream=True, max_tokens=STREAM_TOKENS)
    async with asyncio.TaskGroup() as tasks:
        begun = asyncio.Semaphore(0)
        streams = [
            tasks.create_task(send(session, url, body, timeout_s=300, begun=begun.release))
            for _ in range(STREAMS)
        ]
        async with asyncio.timeout(BEGIN_TIMEOUT_S):
            for _ in range(STREAMS):
                await begun.acquire()
        before = await probe(session, url)
        async with FAULTS[fault](admin):
            during = await probe(session, url)
    ended = [stream.result() for stream in streams]
    whole = sum(reply.is_finished and not reply.has_error_event for reply in ended)
    times_ms = sorted(reply.seconds * 1_000 for reply in during)
    return Outcome(
        *(fault, mode, whole, STREAMS, statuses(during)),
        before_p50_ms=statistics.median(reply.seconds * 1_000 for reply in before),
        p50_ms=statistics.median(times_ms),
        p99_ms=times_ms[-2],
        max_ms=times_ms[-1],
    )
