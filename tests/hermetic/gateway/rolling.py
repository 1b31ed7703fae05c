"""Clients that never stop while a roll-out moves weights, and a watcher that notes its steps."""

from __future__ import annotations

import asyncio
import json
import math
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.binomial import DEVIATIONS, fits_share

from .running import command

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .running import RunningGateway

CLIENTS = 4


@dataclass(frozen=True)
class Answer:
    began: datetime
    version: str
    status: int
    complete: bool


@dataclass
class Load:
    """Half of the requests are streamed. `by_model`: the version is the model of the answer, else
    the server that gave it.
    """

    gateway: RunningGateway
    model: str
    by_model: bool = False
    answers: list[Answer] = field(default_factory=list)

    @property
    def errors(self) -> list[Answer]:
        return [one for one in self.answers if one.status != 200 or not one.complete]

    def shares(self, new: str, begin: datetime, end: datetime) -> tuple[int, int]:
        """(requests of the new version, all) that began in this span."""
        within = [one for one in self.answers if begin <= one.began < end]
        return sum(one.version == new for one in within), len(within)

    async def client(
        self, session: aiohttp.ClientSession, number: int, stop: asyncio.Event
    ) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            self.answers.append(await self.ask(session, f"{number} {count}", count % 2 == 0))

    async def ask(self, session: aiohttp.ClientSession, text: str, stream: bool) -> Answer:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": 4,
            "stream": stream,
        }
        began = datetime.now(UTC)
        try:
            url = f"{self.gateway.url}/v1/chat/completions"
            async with session.post(url, json=body) as reply:
                answer = await reply.text()
        except (aiohttp.ClientError, TimeoutError):
            return Answer(began, "", 0, complete=False)
        if not stream:
            parts = [json.loads(answer)] if reply.status == 200 else []
            complete = bool(parts)
        else:
            lines = [line[6:] for line in answer.splitlines() if line.startswith("data: ")]
            complete = bool(lines) and lines[-1] == "[DONE]"
            parts = [json.loads(line) for line in lines[:1]]
        server = reply.headers.get("x-inference-pod", "")
        version = parts[0].get("model", "") if self.by_model and parts else server
        return Answer(began, version, reply.status, complete)


@asynccontextmanager
async def load(
    gateway: RunningGateway, model: str, *, by_model: bool = False
) -> AsyncIterator[Load]:
    running, stop = Load(gateway, model, by_model), asyncio.Event()
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(running.client(session, number, stop))
        try:
            yield running
        finally:
            stop.set()


@dataclass
class Watched:
    """What the gateway said of one roll-out; `since` by weights."""

    document: dict[str, Any] = field(default_factory=dict)
    since: dict[tuple[int, int], datetime] = field(default_factory=dict)

    @property
    def status(self) -> dict[str, Any]:
        return dict(self.document.get("status", {}))

    @property
    def phase(self) -> str:
        return str(self.status.get("phase", ""))

    def take(self, document: dict[str, Any]) -> None:
        self.document = document
        weights, since = self.status.get("weights"), self.status.get("since")
        if weights and since:
            pair = weights.get("old", 0), weights.get("new", 0)
            self.since.setdefault(pair, datetime.fromisoformat(since))

    def spans(self) -> list[tuple[float, datetime, datetime]]:
        """Share of the new version, begin, end; of each time that weights were in force until the
        next were announced.
        """
        found = []
        history = self.status["history"]
        for (old, new), begin in sorted(self.since.items(), key=lambda item: item[1]):
            later = [
                time for entry in history if (time := datetime.fromisoformat(entry["time"])) > begin
            ]
            if later:
                found.append((new / (old + new), begin, min(later)))
        return found


async def watch(gateway: RunningGateway, name: str, phase: str) -> Watched:
    """Until the roll-out is in that phase and its weights are in force."""
    watched = Watched()

    async def holds() -> bool:
        async with gateway.session.get(f"{gateway.admin}/admin/rollouts") as reply:
            items = (await reply.json())["items"]
        for item in items:
            if item["metadata"]["name"] == name:
                watched.take(item)
        return watched.phase == phase and not watched.status.get("replaces")

    try:
        await gateway.until(f"roll-out {name} is {phase}", holds)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{json.dumps(watched.document, indent=1)}") from None
    return watched


async def rollout(*arguments: str, gateway: RunningGateway) -> str:
    """`inferway rollout …`, which must succeed; stdout and stderr."""
    code, out, err = await command("rollout", *arguments, "--admin", gateway.admin)
    assert code == 0, out + err
    return out + err


def check_shares(load: Load, watched: Watched, new: str) -> None:
    """Every step has its share, and all together have theirs; both ends exactly."""
    difference = variance = 0.0
    spans = watched.spans()
    assert spans
    for share, begin, end in spans:
        got, count = load.shares(new, begin, end)
        assert count > 0, (share, begin, end)
        assert fits_share(got, share, of=count), (share, got, count)
        difference += got - share * count
        variance += count * share * (1 - share)
    assert abs(difference) <= DEVIATIONS * math.sqrt(variance)
