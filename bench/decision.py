"""How long one decision takes, by policy and pool size: `python -m bench.decision`.

What is measured is `PoolScheduler.decide` as the picker calls it: prefix match, estimate, costs,
choice, charge, prefix insert, record, answer. Requests share the beginnings of their prompts and
end in the order in which they came, so the state is that of a busy pool. The prefix index is the
real one. Times are medians of single decisions, in µs; of the default policy also the 99th
percentile, and the median when nothing is recorded for `inferway explain`. Below the policies stand
profiles of several plugins (composed.py).

The last lines are about waiting: requests come at random moments, so many per second, and wait for
those before them; what counts is the time from coming to being decided. It is worked out from the
CPU time of each decision, so that other programs on the machine do not show.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, field
from functools import partial
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

from .composed import composed, with_foreign

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from inferway.picker.scheduling.profile import Profile

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
    endpoints: int, profile: Profile, *, recorded: bool = True
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
    endpoints: int, profile: Profile, *, decisions: int, blocks: int, recorded: bool = True
) -> list[float]:
    made, layer = scheduler(endpoints, profile, recorded=recorded)
    times = []
    for index, pick in enumerate(picks(decisions + _WARM_UP, blocks)):
        begin = time.perf_counter_ns()
        decision = made.decide(pick, filter_id=1, now_s=index // 8 * 0.001)
        end = time.perf_counter_ns()
        if not isinstance(decision, Decision):
            raise SystemExit(f"{profile.name}: {decision}")
        if index >= _WARM_UP:
            times.append((end - begin) / 1000)
        layer.in_flight.first(1, pick.stream - 20)
        layer.in_flight.done(1, pick.stream - _IN_FLIGHT)
    return times


def waits_us(endpoints: int, profile: Profile, *, per_s: int, seconds: float) -> list[float]:
    """From coming to being decided, of every request, on a core that does nothing else."""
    made, layer = scheduler(endpoints, profile)
    rng = np.random.default_rng(3)
    asked = picks(int(per_s * seconds), 16)
    comes_s = np.cumsum(rng.exponential(1.0 / per_s, len(asked))).tolist()
    waits, free_s = [], 0.0
    for pick, at_s in zip(asked, comes_s, strict=True):
        begin_s = time.thread_time()
        made.decide(pick, filter_id=1, now_s=at_s)
        free_s = max(free_s, at_s) + time.thread_time() - begin_s
        waits.append((free_s - at_s) * 1e6)
        layer.in_flight.first(1, pick.stream - 20)
        layer.in_flight.done(1, pick.stream - _IN_FLIGHT)
    return waits[_WARM_UP:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=2000, help="per policy and pool size")
    parser.add_argument("--blocks", type=int, default=16, help="prompt length in 256-byte blocks")
    parser.add_argument("--endpoints", type=int, nargs="+", default=[4, 10, 100, 1000, 10_000])
    parser.add_argument("--per-second", type=int, default=5000, help="requests that come at random")
    options = parser.parse_args()
    print(f"{'µs per decision, median':26}" + "".join(f"{n:>10,}" for n in options.endpoints))
    makes: dict[str, Callable[[], Profile]] = {name: partial(profile_of, name) for name in POLICIES}
    default = next(iter(makes))
    makes |= {"composed of four": composed, "with a foreign scorer": with_foreign}
    for name, make in makes.items():
        lines: dict[str, list[float]] = {name: []}
        for endpoints in options.endpoints:
            sizes = {"decisions": options.decisions, "blocks": options.blocks}
            times = decision_us(endpoints, make(), **sizes)
            lines[name].append(median(times))
            if name == default:
                lines.setdefault(f"{name} (p99)", []).append(quantiles(times, n=100)[98])
                plain = decision_us(endpoints, make(), **sizes, recorded=False)
                lines.setdefault("  not recorded", []).append(median(plain))
        for title, cells in lines.items():
            print(f"{title:26}" + "".join(f"{cell:10.1f}" for cell in cells), flush=True)
    print(f"\nµs from coming to decided, 100 endpoints, {options.per_second:,} requests per second")
    print(f"{'':26}{'median':>10}{'p99':>10}{'p99.9':>10}")
    for name in (default, "composed of four", "with a foreign scorer"):
        waits = waits_us(100, makes[name](), per_s=options.per_second, seconds=4.0)
        cuts = quantiles(waits, n=1000)
        print(f"{name:26}{median(waits):10.1f}{cuts[989]:10.1f}{cuts[998]:10.1f}", flush=True)


if __name__ == "__main__":
    main()
