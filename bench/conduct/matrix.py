"""The fault matrix: what one of two servers does, and what a gateway should make of it.

A case sets its fault, sends requests, and gives what was seen and whether that is right. Right is
what a client needs: nothing that went wrong looks like success, whatever can be rescued is, only a
server's own faults take it out of service, and it comes back when they end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.conduct.client import PATH, Reply, chat, send
from inferway.simulator.faults import FaultRule

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import aiohttp

    from inferway.simulator.server import SimServer

REQUESTS = 40
STREAMS = 20
RETRY_AFTER_S = 7
BACK_WITHIN_S = 15.0  # of the end of a fault


@dataclass(frozen=True, slots=True)
class Verdict:
    right: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Scene:
    """One gateway over a server that is well and one that is to have the fault."""

    session: aiohttp.ClientSession
    url: str
    well: SimServer
    faulty: SimServer

    @property
    def asked(self) -> int:
        """Requests that the server with the fault saw, without what gateways ask it themselves."""
        return self.faulty.requests.by_path[PATH]

    async def many(self, count: int, body: bytes | None = None) -> list[Reply]:
        """One after another."""
        return [await send(self.session, self.url, body or chat()) for _ in range(count)]

    async def comes_back(self) -> float | None:
        """Ends the fault; seconds until the server is sent requests again, None: not in time."""
        self.faulty.faults = ()
        await self.faulty.listening()
        before, started_s = self.asked, asyncio.get_running_loop().time()
        while (passed_s := asyncio.get_running_loop().time() - started_s) < BACK_WITHIN_S:
            await self.many(2)
            if self.asked > before:
                return passed_s
            await asyncio.sleep(0.1)
        return None


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    run: Callable[[Scene], Awaitable[Verdict]]
    limited: bool = False


def statuses(replies: list[Reply]) -> str:
    """`40 x 200`; a reply without a status is a broken connection."""
    counted = Counter(str(reply.status or "broken connection") for reply in replies)
    return ", ".join(f"{count} x {status}" for status, count in sorted(counted.items()))


def _back(seconds: float | None) -> str:
    return "not back in 15 s" if seconds is None else f"back after {seconds:.1f} s"


async def client_errors(scene: Scene) -> Verdict:
    scene.faulty.faults = [FaultRule("error", status=400)]
    await scene.many(REQUESTS // 2)
    half = scene.asked
    replies = await scene.many(REQUESTS // 2)
    later = scene.asked - half
    return Verdict(later >= REQUESTS // 8, f"{statuses(replies)}; still used: {later} of 20")


async def busy(scene: Scene) -> Verdict:
    scene.faulty.faults = [FaultRule("unavailable", retry_after_s=RETRY_AFTER_S)]
    replies = await scene.many(REQUESTS)
    asked = scene.asked
    back_s = await scene.comes_back()
    rescued = all(reply.status == 200 for reply in replies)
    honoured = asked <= REQUESTS // 8 and (back_s or 0.0) <= RETRY_AFTER_S + 2
    seen = f"{statuses(replies)}; asked {asked} times in spite of Retry-After; {_back(back_s)}"
    return Verdict(rescued and honoured and back_s is not None, seen)


async def resets(scene: Scene) -> Verdict:
    scene.faulty.faults = [FaultRule("reset")]
    replies = await scene.many(REQUESTS)
    asked = scene.asked
    back_s = await scene.comes_back()
    right = all(reply.status == 200 for reply in replies) and back_s is not None
    return Verdict(right, f"{statuses(replies)}; asked {asked} times; {_back(back_s)}")


async def server_errors(scene: Scene) -> Verdict:
    scene.faulty.faults = [FaultRule("error", status=500)]
    replies = await scene.many(REQUESTS)
    back_s = await scene.comes_back()
    failed = sum(reply.status != 200 for reply in replies)
    right = failed <= REQUESTS // 4 and back_s is not None
    return Verdict(right, f"{statuses(replies)}; {_back(back_s)}")


async def _streams(scene: Scene, mode: FaultRule) -> Verdict:
    """Every stream ends in a way that no client takes for success, and that each can read."""
    scene.faulty.faults = [mode]
    replies = await scene.many(STREAMS, chat(stream=True))
    hit = [reply for reply in replies if not reply.is_finished or reply.has_error_event]
    # How the transport ends after the event does not matter: the client has been told.
    told = [reply for reply in hit if reply.has_error_event and not reply.is_finished]
    broken = sum(reply.broken and not reply.has_error_event for reply in hit)
    silent = sum(not r.broken and not r.has_error_event for r in hit)
    contradicting = sum(reply.has_error_event and reply.is_finished for reply in hit)
    seen = f"of {len(hit)} streams: {len(told)} end with an error event, {broken} are just cut off"
    if silent:
        seen += f", {silent} look like success"
    if contradicting:
        seen += f", {contradicting} say error and then [DONE]"
    return Verdict(len(hit) > 0 and len(told) == len(hit), seen)


async def streams_cut(scene: Scene) -> Verdict:
    return await _streams(scene, FaultRule("cut_stream", after_chunks=5))


async def streams_truncated(scene: Scene) -> Verdict:
    return await _streams(scene, FaultRule("end_early", after_chunks=5))


async def client_leaves(scene: Scene) -> Verdict:
    for _ in range(4):
        await send(scene.session, scene.url, chat(max_tokens=2_000), timeout_s=0.5)
    for _ in range(50):
        cancelled = scene.well.cancelled + scene.faulty.cancelled
        if cancelled == 4:
            break
        await asyncio.sleep(0.1)
    return Verdict(cancelled == 4, f"{cancelled} of 4 cancelled at the server")


async def overload(scene: Scene) -> Verdict:
    """12 at once where 4 may run and 2 may wait for a second."""
    body = chat(max_tokens=400)
    replies = await asyncio.gather(*(send(scene.session, scene.url, body) for _ in range(12)))
    refused = [reply for reply in replies if reply.status != 200]
    shaped = [r for r in refused if r.error is not None and "retry-after" in r.headers]
    right = len(shaped) == len(refused) > 0 and {r.status for r in refused} <= {429, 503}
    with_body = sum(reply.error is not None for reply in refused)
    with_time = sum("retry-after" in reply.headers for reply in refused)
    seen = f"{statuses(list(replies))}; of {len(refused)} refused {with_body} with an error object,"
    return Verdict(right, f"{seen} {with_time} with Retry-After")


async def malformed(scene: Scene) -> Verdict:
    reply = await send(scene.session, scene.url, b'{"model": "bench-model", ')
    kind = reply.headers.get("content-type", "no content type")
    shape = "OpenAI's error object" if reply.error else "no error object"
    return Verdict(
        reply.status == 400 and reply.error is not None, f"{reply.status} {kind}, {shape}"
    )


async def unknown_model(scene: Scene) -> Verdict:
    reply = await send(scene.session, scene.url, chat().replace(b"bench-model", b"no-such-model"))
    who = "the server's own" if reply.error and reply.error.get("code") == 404 else "the gateway's"
    shape = f"{who} error object" if reply.error else "no error object"
    return Verdict(reply.status == 404 and reply.error is not None, f"{reply.status}, {shape}")


CASES = [
    Case("every answer 400", client_errors),
    Case(f"every answer 503, Retry-After: {RETRY_AFTER_S}", busy),
    Case("connection reset before the answer", resets),
    Case("every answer 500", server_errors),
    Case("stream cut after 5 chunks", streams_cut),
    Case("stream ends early, cleanly", streams_truncated),
    Case("client leaves, not streamed", client_leaves),
    Case("overload: 4 run, 2 wait, 12 come", overload, limited=True),
    Case("malformed JSON", malformed),
    Case("unknown model", unknown_model),
]
