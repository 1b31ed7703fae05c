"""A decision that was recorded comes out the same when it is made again from the record, whatever
has happened to the endpoints since.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inferway._native import Pick, PrefixIndex, hash_seed
from inferway.picker.config import (
    EndpointConfig,
    ExplainConfig,
    PluginConfig,
    PoolConfig,
    ProfileConfig,
)
from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.models import Served
from inferway.picker.datalayer.readiness import Unready
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.explain import Ring
from inferway.picker.reevaluation import as_it_was, reevaluated
from inferway.picker.scheduling.decide import Decision, PoolScheduler
from inferway.picker.scheduling.profile import Profile, Term
from inferway.picker.scheduling.registry import POLICIES, profile_of

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Request

POOL = "default/pool"
MODELS = ("llama", "adapter")


class NoMoreDraws:
    """A decision made again must not need numbers that were not drawn then."""

    def random(self, _size: int | None = None) -> NoReturn:
        raise AssertionError("one more number was drawn")


class Shorter:
    """Keeps those with the shorter queues, of those that are left."""

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        loads = endpoints.in_flight
        left = loads if request.candidates is None else loads[request.candidates]
        kept: Bools = loads <= np.median(left)
        return kept


class Tired:
    """A scorer of its own state, draws included through the cost beside it."""

    def score(self, _request: Request, endpoints: Endpoints) -> Floats:
        score: Floats = 1.0 / (1.0 + endpoints.in_flight)
        return score


def profiles() -> dict[str, Profile]:
    combined = [
        Term("shorter", Shorter()),
        Term("random", profile_of("random").costs[0][1], 0.1),
        Term("tired", Tired(), 0.5),
    ]
    found = {**{name: profile_of(name) for name in POLICIES}, "combined": Profile("c", combined)}
    for types in (
        ("no-hit-lru-scorer", "session-affinity-scorer", "queue-scorer"),
        ("session-affinity-filter", "kv-cache-utilization-scorer", "random-picker"),
        ("active-request-scorer", "weighted-random-picker"),
        ("prefix-cache-scorer", "lora-affinity-scorer", "max-score-picker"),
    ):
        config = ProfileConfig(plugins=tuple(PluginConfig(type=one) for one in types))
        found["+".join(types)] = profile_of("made", config)
    return found


def pick(stream: int, rng: np.random.Generator) -> Pick:
    blocks = int(rng.integers(0, 6))
    return Pick(
        stream=stream,
        received_ns=0,
        body_bytes=0,
        prompt_bytes=blocks * 256,
        max_tokens=int(rng.integers(0, 500)),
        priority=None,
        kind=1,
        streamed=False,
        repeated=False,
        pool=POOL,
        model=MODELS[int(rng.integers(0, 2))],
        objective="",
        fairness="",
        session=str(rng.integers(0, 3)),
        request_id=f"request-{stream}",
        hashes=np.arange(1, blocks + 1, dtype=np.uint64) + np.uint64(rng.integers(0, 3) * 100),
    )


def some_change(layer: DataLayer, addresses: list[str], rng: np.random.Generator) -> None:
    """A scrape, a health check, or an end."""
    address = addresses[int(rng.integers(0, len(addresses)))]
    kind = rng.integers(0, 5)
    table = layer.pools[POOL].table
    if kind == 0:
        reading = Reading(float(rng.integers(0, 3)), float(rng.integers(0, 9)), float(rng.random()))
        layer.scraped(address, reading, layer.own_requests(address), float(rng.random()))
    elif kind == 1:
        reason = list(Unready)[int(rng.integers(0, len(Unready)))]
        table.set_unready(table.rows[address], reason, bool(rng.random() < 0.4))
    elif kind == 2:
        served = MODELS if rng.random() < 0.7 else MODELS[:1]
        layer.models(address, Served(models=served, adapters=MODELS[1:]))
    elif kind == 3:
        table.set_weight(table.rows[address], float(rng.choice([0.0, 0.3, 1.0])))
    else:
        layer.in_flight.done(1, int(rng.integers(0, 30)))


@pytest.mark.parametrize("name", sorted(profiles()))
@settings(deadline=None, max_examples=6)
@given(count=st.integers(1, 40), seed=st.integers(0, 2**32))
def test_a_recorded_decision_comes_out_the_same(name: str, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    addresses = [f"10.0.0.{n}:8000" for n in range(count)]
    layer = DataLayer(PrefixIndex(10_000), hash_seed)
    endpoints = tuple(EndpointConfig(address=a, server=a) for a in addresses)
    layer.configure([PoolConfig(name=POOL, endpoints=endpoints)])
    ring = Ring(ExplainConfig(), lambda: 0.0)
    profile = profiles()[name]
    recorder = ring.recorder(profile, rng, every=1)
    scheduler = PoolScheduler(layer.pools[POOL], profile, rng, recorder=recorder)
    winners = []
    for stream in range(30):
        if rng.random() < 0.5:
            some_change(layer, addresses, rng)
        decision = scheduler.decide(pick(stream, rng), filter_id=1, now_s=stream * 0.01)
        if isinstance(decision, Decision):
            winners.append(decision.endpoints)
    records = ring.newest_first()[::-1]
    assert len(records) == len(winners)
    for record, named in zip(records, winners, strict=True):
        choice = record.choice
        assert choice is not None
        rows = reevaluated(choice, as_it_was(choice), choice.draws, NoMoreDraws())
        assert rows == list(choice.rows)
        assert ",".join(addresses[row] for row in rows) == named
