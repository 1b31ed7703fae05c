"""What KV events are worth, in virtual time: `python -m bench.kv_events`.

Simulated engines serve conversations that share system prompts; the real scheduler, prefix index
and event book choose. Each arm believes something else of the engines' caches: their true size, a
quarter, four times as much, each with and without events. Tokens are words of different lengths
behind a chat template, so bytes and tokens do not run in step. A part of the requests comes from
clients that bypass the picker, and one engine loses its cache on the way without its metrics
telling. At the end, what the index and the engines' blocks take in memory.
"""

from __future__ import annotations

import argparse
import heapq
from array import array
from dataclasses import dataclass, field, replace
from itertools import count
from statistics import mean
from typing import Any
from zlib import crc32

import numpy as np

from bench.decision import BenchPick
from inferway import _native
from inferway.picker.config import EndpointConfig, KvEventsConfig, PoolConfig
from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.scheduling.decide import Decision, PoolScheduler
from inferway.picker.scheduling.registry import profile_of
from inferway.simulator.cache_journal import BlockStored, CacheJournal
from inferway.simulator.engine import Engine
from inferway.simulator.kv_publisher import encode_batch
from inferway.simulator.parameters import parameters_named
from inferway.simulator.sequences import EngineRequest

MODEL = "m"
ENGINES = 4
BLOCKS = 4_000  # of 16 tokens, per engine
OUTPUT_TOKENS = 40
ARMS = {  # believed size over true size, and whether events are followed
    "true size": (1.0, False),
    "a quarter": (0.25, False),
    "four times": (4.0, False),
    "true size, events": (1.0, True),
    "a quarter, events": (0.25, True),
    "four times, events": (4.0, True),
}


@dataclass
class Text:
    """A conversation as the gateway and as the engine see it."""

    data: bytes = b""
    tokens: list[int] = field(default_factory=list)

    def said(self, role: str, words: list[str]) -> Text:
        content = " ".join(words)
        data = self.data + f'{{"role": "{role}", "content": "{content}"}}, '.encode()
        return Text(
            data, [*self.tokens, 1, 2, len(role), 3, *(crc32(word.encode()) for word in words)]
        )


@dataclass
class Arrival:
    at_s: float
    text: Text
    foreign: bool


def workload(seed: int, conversations: int, per_s: float) -> list[Arrival]:
    """Every conversation has five turns; its words are longer or shorter than others'."""
    source = np.random.default_rng(seed)
    words = [["w" * int(size) + str(n) for n in range(300)] for size in range(1, 9)]

    def some(number: int, kind: int) -> list[str]:
        return [words[kind][int(n)] for n in source.integers(0, 300, number)]

    systems = [Text().said("system", some(600, int(source.integers(0, 8)))) for _ in range(12)]
    arrivals = []
    for begin_s in np.cumsum(source.exponential(1 / per_s, conversations)):
        text, kind = systems[int(source.integers(0, len(systems)))], int(source.integers(0, 8))
        at_s, foreign = float(begin_s), bool(source.random() < 0.2)
        for _ in range(5):
            text = text.said("user", some(int(source.integers(40, 400)), kind))
            arrivals.append(Arrival(at_s, text, foreign))
            text = text.said("assistant", some(OUTPUT_TOKENS, kind))
            at_s += float(source.exponential(20.0)) + 3.0
    return sorted(arrivals, key=lambda one: one.at_s)


class Run:
    """One arm over one workload."""

    def __init__(self, size: float, events: bool, seed: int) -> None:
        parameters = replace(
            parameters_named("llama-3-8b-h100"), num_blocks=BLOCKS, max_model_len=BLOCKS * 16
        )
        self.events = events
        self.journals = [CacheJournal() for _ in range(ENGINES)]
        self.engines = [Engine(parameters, seed=n, journal=j) for n, j in enumerate(self.journals)]
        self.busy = [False] * ENGINES
        self.addresses = [f"10.0.0.{n}:8000" for n in range(ENGINES)]
        self.layer = DataLayer(_native.PrefixIndex(4_000_000), _native.hash_seed)
        told = KvEventsConfig(port=5557) if events else None
        endpoints = tuple(
            EndpointConfig(address=a, server=a, kv_events=told) for a in self.addresses
        )
        self.layer.configure([PoolConfig(name="p", endpoints=endpoints)])
        reading = Reading(block_size=16, num_blocks=int(BLOCKS * size))
        for address in self.addresses:
            self.layer.scraped(address, reading, 0.0, 0.0)
        rng = np.random.default_rng(seed)
        profile = profile_of("marginal-cost")
        self.scheduler = PoolScheduler(self.layer.pools["p"], profile, rng)
        self.source = np.random.default_rng(seed + 1)
        self.queue: list[tuple[float, int, Any]] = []
        self.order = count()
        self.open: dict[str, tuple[Any, Arrival, float]] = {}
        self.ttft_s: list[float] = []
        self.errors: list[float] = []
        self.cached: list[float] = []

    def push(self, at_s: float, what: Any) -> None:
        heapq.heappush(self.queue, (at_s, next(self.order), what))

    def run(self, arrivals: list[Arrival]) -> None:
        for one in arrivals:
            self.push(one.at_s, one)
        self.push(arrivals[len(arrivals) // 2].at_s, "a cache is lost")
        while self.queue:
            now_s, _, what = heapq.heappop(self.queue)
            self.layer.kv_events.settle(now_s)
            if isinstance(what, Arrival):
                self.arrive(what, now_s)
            elif what == "a cache is lost":
                self.engines[0].blocks.forget_idle()
            else:
                self.stepped(*what, now_s)
            for number, engine in enumerate(self.engines):
                if engine.has_work and not self.busy[number]:
                    self.busy[number] = True
                    result = engine.step(max(now_s, engine.now_s))
                    self.push(result.ended_s, (number, result))

    def arrive(self, arrival: Arrival, now_s: float) -> None:
        stream = next(self.order)
        hashes = _native.block_hashes(arrival.text.data, 0)
        pick = BenchPick(stream, len(arrival.text.data), OUTPUT_TOKENS, MODEL, hashes)
        number, expected = int(self.source.integers(0, ENGINES)), 0.0
        if not arrival.foreign:
            weighed = self.scheduler.weigh(pick, now_s)
            rows = self.scheduler.choose(weighed)
            expected = weighed.request.matched_tokens.item(rows[0])
            decision = self.scheduler.place(weighed, rows, 1)
            assert isinstance(decision, Decision)
            number = decision.row
        tokens = array("I", arrival.text.tokens).tobytes()
        blocks = _native.fixed_block_hashes(tokens, 64, 7).tolist()
        request = EngineRequest(str(stream), len(arrival.text.tokens), OUTPUT_TOKENS, blocks)
        self.engines[number].submit(request, now_s)
        self.open[str(stream)] = (pick, arrival, expected)

    def stepped(self, number: int, result: Any, now_s: float) -> None:
        self.busy[number] = False
        events = self.journals[number].take()
        if events and self.events:
            batch = encode_batch(events, at_s=now_s, rank=0)
            self.layer.kv_events.apply(self.addresses[number], 0, batch, now_s)
        for request_id, _ in result.tokens:
            self.layer.in_flight.first(1, int(request_id))
        for finished in result.finished:
            pick, arrival, expected = self.open.pop(finished.request_id)
            charge = self.layer.in_flight.done(1, pick.stream)
            if charge is None:
                continue
            self.ttft_s.append(finished.first_token_s - arrival.at_s)
            self.errors.append(abs(expected - finished.cached_tokens))
            self.cached.append(finished.cached_tokens / finished.prompt_tokens)
            self.layer.observe_usage(
                MODEL,
                end=0,
                prompt_bytes=pick.prompt_bytes,
                prompt_tokens=finished.prompt_tokens,
                completion_tokens=OUTPUT_TOKENS,
            )
            if charge.prompt is not None:
                done = Ended(
                    int((finished.first_token_s - arrival.at_s) * 1e6),
                    int((now_s - arrival.at_s) * 1e6),
                    finished.prompt_tokens,
                )
                self.layer.kv_events.ended(charge, done, charge.prompt, now_s)


@dataclass
class Ended:
    ttft_us: int
    duration_us: int
    prompt_tokens: int
    endpoint: str = ""


def memory() -> None:
    """Bytes per block of the index and of engines' blocks, with a million of each."""
    index = _native.PrefixIndex(2_000_000)
    source = np.random.default_rng(1)
    for _ in range(1_000):
        index.insert(0, source.integers(0, 2**63, 1_000, dtype=np.uint64), 0)
    print(f"index, one holder per block: {index.memory_bytes() / len(index):.0f} B")
    cache = _native.EngineCache(1 << 20)
    for _ in range(1_000):
        hashes = tuple(source.integers(0, 2**63, 1_000).tolist())
        run = len(cache)
        batch = encode_batch([BlockStored(hashes, None, (), 16)], at_s=0.0, rank=0)
        cache.apply(batch, 0.0)
        keys = source.integers(0, 2**63, 112, dtype=np.uint64)  # 64,000 bytes, 16,000 tokens
        cache.bind(run // 1_000, keys, 16_000, 64_000)
    told = f"{cache.bound / len(cache):.2f} of them bound"
    print(f"engine's blocks, {told}: {cache.memory_bytes() / len(cache):.0f} B")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--conversations", type=int, default=400)
    parser.add_argument("--per-s", type=float, default=4.0)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':22}{'TTFT mean':>12}{'p95':>10}{'cached':>10}{'error':>14}  prompts")
    for name, (size, events) in ARMS.items():
        runs = []
        for seed in range(options.seeds):
            run = Run(size, events, seed)
            run.run(workload(seed, options.conversations, options.per_s))
            runs.append(run)
        ttft_ms = [1e3 * one for run in runs for one in run.ttft_s]
        told = [run.layer.kv_events.counters.prompts for run in runs] if events else []
        found = {kind: sum(one[kind] for one in told) for kind in (told[0] if told else ())}
        print(
            f"{name:22}{mean(ttft_ms):9.1f} ms{np.quantile(ttft_ms, 0.95):7.0f} ms"
            f"{100 * mean([c for run in runs for c in run.cached]):8.1f} %"
            f"{mean([e for run in runs for e in run.errors]):8.0f} tok  {found or ''}",
            flush=True,
        )
    memory()


if __name__ == "__main__":
    main()
