"""The same through a whole gateway in real time: Envoy, filter, picker, simulated servers.

Smaller than in virtual time, because the load generator and the servers share the machine with the
gateway: two engines with eight places each.
"""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from bench.overload.scenario import TENANTS, jain, p95
from inferway.simulator.parameters import PARAMETER_SETS
from tests.hermetic.gateway.running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PLACES: Final = 8  # per engine
SERVERS: Final = 2
OUTPUT_TOKENS: Final = 100
OBJECTIVES: Final = {"high": 10, "normal": 0, "batch": -10}
_OBJECTIVE: Final = """
apiVersion: llm-d.ai/v1alpha2
kind: InferenceObjective
metadata: {{name: {name}}}
spec: {{priority: {priority}, poolRef: {{name: small}}}}
---
"""


@dataclass
class Seen:
    """What clients saw."""

    latency_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    tenants: Counter[str] = field(default_factory=Counter)
    waited: Counter[bool] = field(default_factory=Counter)  # came back as told: served?
    seconds: float = 0.0

    @property
    def per_s(self) -> float:
        return sum(map(len, self.latency_s.values())) / self.seconds

    def lines(self) -> list[str]:
        told = sum(self.waited.values())
        return [
            f"  served per s       {self.per_s:.1f}",
            *(
                f"  p95 latency, {name:6} {p95(values):.2f} s of {len(values)}"
                for name, values in sorted(self.latency_s.items())
            ),
            f"  refused            {dict(self.statuses)}",
            f"  came back as told  {self.waited[True]} of {told} served",
            f"  Jain of tenants    {jain(self.tenants[t] for t in TENANTS):.3f}",
        ]


class Clients:
    def __init__(self, session: aiohttp.ClientSession, url: str, seed: int) -> None:
        self._session, self._url = session, url
        self._random = random.Random(seed)
        self.seen = Seen()

    async def ask(self, tenant: str, objective: str, prompt: str) -> float | None:
        """Seconds to wait before coming back, or None when it was served (or told not to)."""
        body = {
            "model": "llama",
            "prompt": prompt,
            "max_tokens": OUTPUT_TOKENS,
            "stream": True,
        }
        headers = {
            "content-type": "application/json",
            "x-gateway-inference-objective": objective,
            "x-gateway-inference-fairness-id": tenant,
        }
        started_s = time.perf_counter()
        data = json.dumps(body).encode()
        async with self._session.post(self._url, data=data, headers=headers) as reply:
            await reply.read()
            if reply.status == 200:
                self.seen.latency_s[objective].append(time.perf_counter() - started_s)
                self.seen.tenants[tenant] += 1
                return None
            self.seen.statuses[objective, reply.status] += 1
            if reply.headers.get("x-should-retry") == "true":
                return float(reply.headers["retry-after"])
            return None

    def prompt(self) -> str:
        return f"{self._random.random()} " + "word " * 100

    async def arrivals(self, tenant: str, objective: str, rate: float) -> None:
        """Requests at random, each of its own task."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self._random.expovariate(rate))
                tasks.create_task(self.ask(tenant, objective, self.prompt()))

    async def batch(self, tenant: str) -> None:
        """One request after the other; a refused one again, as told."""
        await asyncio.sleep(self._random.random())
        while True:
            prompt = self.prompt()
            after_s = await self.ask(tenant, "batch", prompt)
            if after_s is not None:
                await asyncio.sleep(after_s)
                self.seen.waited[await self.ask(tenant, "batch", prompt) is None] += 1


@asynccontextmanager
async def gateway() -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    engine = replace(PARAMETER_SETS["llama-3-8b-h100"], max_num_seqs=PLACES)
    with tempfile.TemporaryDirectory(prefix="overload-") as work:
        folder = Path(work) / "manifests"
        folder.mkdir()
        async with servers(SERVERS, model="llama", engine=engine) as running:
            manifest = pool_manifest("small")
            manifest += "".join(server_manifest(one, "small") for one in running)
            for name, priority in OBJECTIVES.items():
                manifest += _OBJECTIVE.format(name=name, priority=priority)
            (folder / "pool.yaml").write_text(manifest)
            async with running_gateway(folder, str(folder), models=("llama",)) as started:
                connector = aiohttp.TCPConnector(limit=0)
                timeout = aiohttp.ClientTimeout(total=None)
                async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
                    yield session, f"{started.url}/v1/completions"


async def measure(
    session: aiohttp.ClientSession,
    url: str,
    *,
    rates: dict[str, float],
    batch_clients: int,
    seconds: float,
    warm_up_s: float = 3.0,
) -> Seen:
    """`rates`: requests per second by objective, of all tenants together."""
    clients = Clients(session, url, seed=1)
    running = [
        asyncio.get_running_loop().create_task(clients.arrivals(t, name, rate / len(TENANTS)))
        for name, rate in rates.items()
        for t in TENANTS
    ]
    running += [
        asyncio.get_running_loop().create_task(clients.batch(TENANTS[index % len(TENANTS)]))
        for index in range(batch_clients)
    ]
    await asyncio.sleep(warm_up_s)
    clients.seen = Seen()
    await asyncio.sleep(seconds)
    seen = clients.seen
    seen.seconds = seconds
    clients.seen = Seen()
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return seen


async def run(seconds: float) -> None:
    async with gateway() as (session, url):
        full = await measure(session, url, rates={}, batch_clients=3 * PLACES, seconds=seconds / 2)
        capacity = full.per_s
        print(f"through a gateway: {SERVERS} engines, {capacity:.1f} requests/s when full")
        high = {"high": 0.4 * capacity}
        alone = await measure(session, url, rates=high, batch_clients=0, seconds=seconds)
        print("priority 10 alone", *alone.lines(), sep="\n")
        rates = {**high, "normal": 0.5 * capacity}
        number = int(1.1 * SERVERS * PLACES)
        seen = await measure(session, url, rates=rates, batch_clients=number, seconds=seconds)
        print("twice the load", *seen.lines(), sep="\n")
        ratio = p95(seen.latency_s["high"]) / p95(alone.latency_s["high"])
        print(f"  p95 of priority 10 is {ratio:.2f} of its value alone")
