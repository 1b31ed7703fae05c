"""How long one decision takes, by policy and pool size: `python -m bench.decision`.

What is measured is `PoolScheduler.decide` as the picker calls it: prefix match, estimate, costs,
choice, charge, prefix insert, record, answer. Requests share the beginnings of their prompts and
end in the order in which they came, so the state is that of a busy pool. The prefix index is the
real one. Times are medians of single decisions, in µs; of the default policy also the 99th
percentile, and the median when nothing is recorded for `inferway explain`.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import TYPE_CHECKING

import numpy as np

from inferway._native import PrefixIndex, hash_seed
from inferway.picker.config import EndpointConfig, ExplainConfig, PoolConfig
from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.explain import Ring
from inferway.picker.scheduling.decide import Decision, PoolScheduler
from inferway.picker.scheduling.registry import POLICIES, profile_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GROUPS = 50  # distinct prompt beginnings
_IN_FLIGHT = 200
_WARM_UP = 300


@dataclass(slots=True)
class BenchPick:
    stream: int
    prompt_bytes: int
    max_tokens: int
    model: str
    hashes: NDArray[np.uint64]
    fairness: str = ""
    received_ns: int = 0
    streamed: bool = True
    session: str = ""
    user: str = ""
    exclude: str = ""
    subset: str | None = None
    slo_ttft_ms: int = 0
    slo_tpot_ms: int = 0
    headers: dict[str, str] = field(default_factory=dict)


def scheduler(
    endpoints: int, name: str, *, recorded: bool = True
) -> tuple[PoolScheduler, DataLayer]:
    layer = DataLayer(PrefixIndex(4_000_000), hash_seed)
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:8000" for n in range(endpoints)]
    layer.configure(
        [
            PoolConfig(
                name="bench/pool",
                endpoints=tuple(EndpointConfig(address=a, server=a) for a in addresses),
            )
        ]
    )
    rng = np.random.default_rng(1)
    for address in addresses[:1000]:
        usage, waiting = float(rng.random()), float(rng.integers(0, 5))
        layer.scraped(address, Reading(waiting, 5.0, usage), 0.0, 0.0)
    profile = profile_of(name)
    # Small enough to be full before anything is measured: then each record takes another's place.
    ring = Ring(ExplainConfig(decisions_max=_WARM_UP if recorded else 0), time.monotonic)
    recorder = ring.recorder(profile, rng, every=1)
    return PoolScheduler(layer.pools["bench/pool"], profile, rng, recorder=recorder), layer


def picks(count: int, blocks: int) -> list[BenchPick]:
    rng = np.random.default_rng(2)
    shared = rng.integers(0, 2**63, (_GROUPS, blocks), dtype=np.uint64)
    made = []
    for stream in range(count):
        hashes = shared[rng.integers(0, _GROUPS)].copy()
        hashes[blocks * 3 // 4 :] = rng.integers(0, 2**63, blocks - blocks * 3 // 4)
        made.append(BenchPick(stream, blocks * 256, 0, "llama", hashes))
    return made


def decision_us(
    endpoints: int, name: str, *, decisions: int, blocks: int, recorded: bool = True
) -> list[float]:
    made, layer = scheduler(endpoints, name, recorded=recorded)
    times = []
    for index, pick in enumerate(picks(decisions + _WARM_UP, blocks)):
        begin = time.perf_counter_ns()
        decision = made.decide(pick, filter_id=1, now_s=index // 8 * 0.001)
        end = time.perf_counter_ns()
        if not isinstance(decision, Decision):
            raise SystemExit(f"{name}: {decision}")
        if index >= _WARM_UP:
            times.append((end - begin) / 1000)
        layer.in_flight.first(1, pick.stream - 20)
        layer.in_flight.done(1, pick.stream - _IN_FLIGHT)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=2000, help="per policy and pool size")
    parser.add_argument("--blocks", type=int, default=16, help="prompt length in 256-byte blocks")
    parser.add_argument("--endpoints", type=int, nargs="+", default=[4, 10, 100, 1000, 10_000])
    options = parser.parse_args()
    print(f"{'µs per decision, median':26}" + "".join(f"{n:>10,}" for n in options.endpoints))
    for name in POLICIES:
        lines: dict[str, list[float]] = {name: []}
        for endpoints in options.endpoints:
            sizes = {"decisions": options.decisions, "blocks": options.blocks}
            times = decision_us(endpoints, name, **sizes)
            lines[name].append(median(times))
            if name == next(iter(POLICIES)):
                lines.setdefault(f"{name} (p99)", []).append(quantiles(times, n=100)[98])
                plain = decision_us(endpoints, name, **sizes, recorded=False)
                lines.setdefault("  not recorded", []).append(median(plain))
        for title, cells in lines.items():
            print(f"{title:26}" + "".join(f"{cell:10.1f}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
