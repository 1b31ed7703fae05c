"""The picker's own scheduler in front of simulated engines, in virtual time.

What is real: estimates, prefix index, accounting, policy, calibration. What is simulated: engines
(inferway.simulator.engine) and the clock. Requests arrive as a Poisson process with lognormal
lengths; what the filter would report (first token, end, usage) reaches the data layer at the moment
it happens. Nothing is scraped. Used by `bench.calibration` and by tests/replay.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from inferway._native import Done, PrefixIndex, block_end_bytes, hash_seed
from inferway.picker.config import EndpointConfig, PoolConfig
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.scheduling.decide import Decision, PoolScheduler
from inferway.picker.scheduling.registry import profile_of
from inferway.simulator.engine import Engine
from inferway.simulator.sequences import EngineRequest
from inferway.testing import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from inferway.simulator.parameters import EngineParameters
    from inferway.simulator.sequences import FinishedRequest

BYTES_PER_TOKEN = 4
MODEL = "llama"
_FILTER = 1


@dataclass(frozen=True)
class Workload:
    rate_per_s: float
    prompt_tokens: float = 2_000.0  # median
    output_tokens: float = 150.0  # median
    groups: int = 0  # prompt beginnings that are shared; 0: nothing is
    shared_ratio: float = 0.6  # of a prompt
    streamed: bool = True


class Served(NamedTuple):
    """What came of one request."""

    arrived_s: float
    endpoint: int
    first_token_s: float  # from arrival, as the next one
    duration_s: float


@dataclass
class _Open:
    arrived_s: float
    endpoint: int
    first_token_s: float = 0.0


@dataclass
class VirtualPool:
    """`told` may change what the filter reports of an answer's end."""

    engines: list[EngineParameters]
    workload: Workload
    policy: str = "marginal-cost"
    calibrate: bool = True
    labels: list[dict[str, str]] = field(default_factory=list)
    told: Callable[[Done], Done] = lambda done: done
    seed: int = 1

    def __post_init__(self) -> None:
        self.addresses = [f"10.0.0.{index + 1}:8000" for index in range(len(self.engines))]
        self.layer = DataLayer(PrefixIndex(4_000_000), hash_seed)
        labels = self.labels or [{}] * len(self.engines)
        endpoints = tuple(
            EndpointConfig(address=address, server=address, labels=labels[index])
            for index, address in enumerate(self.addresses)
        )
        self.layer.configure([PoolConfig(name="virtual/pool", endpoints=endpoints)])
        self.scheduler = PoolScheduler(
            self.layer.pools["virtual/pool"],
            profile_of(self.policy),
            np.random.default_rng(self.seed),
        )
        self.served: list[Served] = []
        self._engines = [
            Engine(replace(one), seed=self.seed + index) for index, one in enumerate(self.engines)
        ]
        self._due: list[tuple[float, int]] = []
        self._open: dict[str, _Open] = {}

    def run(self, seconds: float) -> list[Served]:
        """Everything that arrives in so long a time; what is open at its end is left out."""
        for now_s, number, pick, request in self._arrivals(seconds):
            self._advance(now_s)
            decision = self.scheduler.decide(pick, filter_id=_FILTER, now_s=now_s, model=MODEL)
            if not isinstance(decision, Decision):
                raise TypeError(f"nothing was chosen: {decision}")
            engine = self._engines[decision.row]
            self._open[str(number)] = _Open(now_s, decision.row)
            if not engine.has_work:
                heapq.heappush(self._due, (max(now_s, engine.now_s), decision.row))
            engine.submit(request, now_s)
        self._advance(seconds)
        return self.served

    def _arrivals(self, seconds: float) -> Iterator[tuple[float, int, Asked, EngineRequest]]:
        load, source = self.workload, random.Random(self.seed)
        now_s, number = 0.0, 0
        while (now_s := now_s + source.expovariate(load.rate_per_s)) < seconds:
            number += 1
            prompt = int(source.lognormvariate(math.log(load.prompt_tokens), 1.0))
            output = int(source.lognormvariate(math.log(load.output_tokens), 0.7))
            prompt, output = min(max(prompt, 16), 60_000), max(output, 2)
            group = source.randrange(load.groups) if load.groups else 0
            shared = int(prompt * load.shared_ratio) if load.groups else 0
            pick = Asked(
                stream=number,
                prompt_bytes=prompt * BYTES_PER_TOKEN,
                model=MODEL,
                hashes=_hashes(prompt, shared, group, number),
                received_ns=round(now_s * 1e9),
                streamed=load.streamed,
            )
            keys = [
                (group * 1_000_000 if index * 16 < shared else number * 1_000_000_000) + index
                for index in range((prompt + output) // 16)
            ]
            yield now_s, number, pick, EngineRequest(str(number), prompt, output, keys)

    def _advance(self, now_s: float) -> None:
        """Every step that starts before `now_s`."""
        while self._due and self._due[0][0] < now_s:
            start_s, index = heapq.heappop(self._due)
            result = self._engines[index].step(start_s)
            for request_id, _ in result.tokens:
                known = self._open[request_id]
                if not known.first_token_s:
                    known.first_token_s = result.ended_s - known.arrived_s
                    if self.workload.streamed:
                        self.layer.in_flight.first(_FILTER, int(request_id))
            for finished in result.finished:
                self._finish(finished)
            if self._engines[index].has_work:
                heapq.heappush(self._due, (result.ended_s, index))

    def _finish(self, finished: FinishedRequest) -> None:
        known = self._open.pop(finished.request_id)
        duration_s = finished.finished_s - known.arrived_s
        self.served.append(Served(known.arrived_s, known.endpoint, known.first_token_s, duration_s))
        streamed = self.workload.streamed
        done = self.told(
            Done(
                stream=int(finished.request_id),
                end=0,
                usage=True,
                first_seen=streamed,
                event_stream=streamed,
                status=200,
                ttft_us=round((known.first_token_s if streamed else duration_s) * 1e6),
                duration_us=round(duration_s * 1e6),
                prompt_tokens=finished.prompt_tokens,
                cached_tokens=finished.cached_tokens,
                completion_tokens=finished.output_tokens,
                endpoint=self.addresses[known.endpoint],
            )
        )
        charge = self.layer.in_flight.done(_FILTER, done.stream)
        if charge is None:
            raise LookupError(f"stream {done.stream} was not charged")
        self.layer.observe_usage(
            charge.model,
            end=done.end,
            prompt_bytes=charge.prompt_bytes,
            prompt_tokens=done.prompt_tokens,
            completion_tokens=done.completion_tokens,
        )
        if self.calibrate:
            self.layer.observe_latency(charge, done, finished.finished_s)


def slower(engine: EngineParameters, factor: float) -> EngineParameters:
    """The same engine on an accelerator that needs `factor` times as long for everything."""
    return replace(
        engine,
        name=f"{engine.name}/{factor:g}",
        prefill_tokens_per_s=engine.prefill_tokens_per_s / factor,
        step_fixed_s=engine.step_fixed_s * factor,
        weight_read_s=engine.weight_read_s * factor,
        attention_s=engine.attention_s * factor,
        kv_read_s=engine.kv_read_s * factor,
        sequence_s=engine.sequence_s * factor,
    )


def _hashes(prompt: int, shared: int, group: int, number: int) -> NDArray[np.uint64]:
    """Per block of the pick protocol: the group's as far as it is shared, then the request's."""
    values: list[int] = []
    while (end := block_end_bytes(len(values) + 1)) <= prompt * BYTES_PER_TOKEN:
        own = end > shared * BYTES_PER_TOKEN
        values.append((number + 1_000_000 if own else group) * 1_000 + len(values) + 1)
    return np.array(values, dtype=np.uint64)
