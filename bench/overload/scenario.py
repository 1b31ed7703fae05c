"""Three tenants, three priorities, twice what the pool can carry.

Requests of priority 10 and 0 arrive at random and together fill nine tenths of the pool. Those of
priority -10 come from clients that ask again as soon as they are served, as batch jobs do; there
are so many of them that all together want twice what there is. A client that is refused waits for
as long as `Retry-After` says and sends the same request again, if the answer allows it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import count
from statistics import quantiles
from typing import TYPE_CHECKING, Final

from bench.overload.virtual import PROMPT_TOKENS, Pool, Request
from inferway.simulator.parameters import PARAMETER_SETS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.picker.flowcontrol.config import FlowConfig

TENANTS: Final = ("a", "b", "c")
ENGINE: Final = replace(PARAMETER_SETS["llama-3-8b-h100"], max_num_seqs=32)
HIGH_SHARE, NORMAL_SHARE, WANTED_SHARE = 0.4, 0.5, 2.0  # of what the pool can carry
SERVICE_S: Final = 1.9  # of one request in a full engine; sizes the number of batch clients


@dataclass
class Told:
    """What came of clients that waited as they were told."""

    served: int = 0
    refused: int = 0
    never: int = 0  # told not to come back

    @property
    def success_ratio(self) -> float:
        return self.served / max(self.served + self.refused, 1)


@dataclass
class Scenario:
    """Clients of one pool. `capacity` is in requests per second."""

    pool: Pool
    capacity: float
    told: Told = field(default_factory=Told)
    prompts: count[int] = field(default_factory=lambda: count(1_000_000))

    def arrivals(self, objective: str, share: float) -> None:
        """Every tenant sends at random, all together so much."""
        for tenant in TENANTS:
            self._next_arrival(tenant, objective, share * self.capacity / len(TENANTS))

    def batch_clients(self, share: float) -> None:
        """So many clients that they would fill so much of the pool, a third of each tenant."""
        number = int(share * self.capacity * SERVICE_S)
        for index in range(number):
            tenant = TENANTS[index % len(TENANTS)]
            at_s = self.pool.random.uniform(0.0, SERVICE_S)
            self.pool.at(at_s, lambda t=tenant: self._ask(t, next(self.prompts), waited=False))

    def _next_arrival(self, tenant: str, objective: str, rate: float) -> None:
        def arrive() -> None:
            self.pool.ask(tenant, objective, lambda _: None, output_tokens=self._length())
            self._next_arrival(tenant, objective, rate)

        self.pool.at(self.pool.now_s + self.pool.random.expovariate(rate), arrive)

    def _ask(self, tenant: str, prompt: int, *, waited: bool) -> None:
        def ended(request: Request) -> None:
            if waited:
                self.told.served += request.served
                self.told.refused += not request.served
            if request.refusal is None:
                self.pool.at(
                    self.pool.now_s + 0.001,
                    lambda: self._ask(tenant, next(self.prompts), waited=False),
                )
                return
            comes_back = request.refusal.retry == 1
            self.told.never += not comes_back
            after_s = -(-request.refusal.retry_after_ms // 1_000) + self.pool.random.uniform(
                0, 0.02
            )
            self.pool.at(
                self.pool.now_s + after_s,
                lambda: self._ask(
                    tenant, prompt if comes_back else next(self.prompts), waited=comes_back
                ),
            )

        self.pool.ask(tenant, "batch", ended, output_tokens=self._length(), seed=prompt)

    def _length(self) -> int:
        return self.pool.random.randint(100, 300)


@dataclass(frozen=True, slots=True)
class Figures:
    """Of the time that was measured. Seconds; requests by objective."""

    per_s: float
    served: dict[str, int]
    refused: dict[str, int]
    latency_p95_s: dict[str, float]
    ttft_p95_s: dict[str, float]
    jain: float
    told: Told


def measure(
    flow: FlowConfig,
    *,
    capacity: float,
    high: float = HIGH_SHARE,
    normal: float = NORMAL_SHARE,
    wanted: float = WANTED_SHARE,
    seconds: float = 60.0,
    warm_up_s: float = 10.0,
    seed: int = 1,
) -> Figures:
    """Runs the scenario; `wanted` is what all together want, `high` and `normal` parts of it."""
    pool = Pool(ENGINE, flow, seed=seed)
    scenario = Scenario(pool, capacity)
    for objective, share in (("high", high), ("normal", normal)):
        if share:
            scenario.arrivals(objective, share)
    if wanted > high + normal:
        scenario.batch_clients(wanted - high - normal)
    pool.run(warm_up_s)
    pool.finished.clear()
    pool.refused.clear()
    scenario.told = Told()
    pool.run(warm_up_s + seconds)
    by_objective: defaultdict[str, list[Request]] = defaultdict(list)
    for request in pool.finished:
        by_objective[request.objective].append(request)
    refused: defaultdict[str, int] = defaultdict(int)
    for request in pool.refused:
        refused[request.objective] += 1
    return Figures(
        per_s=len(pool.finished) / seconds,
        served={name: len(served) for name, served in by_objective.items()},
        refused=dict(refused),
        latency_p95_s={
            name: p95(one.ended_s - one.asked_s for one in served)
            for name, served in by_objective.items()
        },
        ttft_p95_s={
            name: p95(one.first_s - one.asked_s for one in served)
            for name, served in by_objective.items()
        },
        jain=jain(
            sum(PROMPT_TOKENS + 2 * one.output_tokens for one in pool.finished if one.tenant == t)
            for t in TENANTS
        ),
        told=scenario.told,
    )


def capacity_of(flow: FlowConfig, *, seconds: float = 20.0, seed: int = 1) -> float:
    """Requests per second of a pool that always has more than enough to do."""
    return measure(
        flow, capacity=70.0, high=0.0, normal=0.0, wanted=4.0, seconds=seconds, seed=seed
    ).per_s


def p95(values: Iterable[float]) -> float:
    found = sorted(values)
    return quantiles(found, n=20)[18] if len(found) > 1 else float("nan")


def jain(values: Iterable[float]) -> float:
    """1 when all are equal, 1/n when one has all."""
    found = list(values)
    return sum(found) ** 2 / (len(found) * sum(value * value for value in found))
