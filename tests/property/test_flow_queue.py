"""What waits is never lost, answered twice or beyond a limit, over 100,000 random steps.

The oracle is a list of dictionaries that is searched from end to end.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.picker.flowcontrol.config import BandConfig, Fairness, FlowConfig
from inferway.picker.flowcontrol.queue import FlowQueue
from inferway.picker.flowcontrol.waiting import ANYWHERE, FOR_EVER, Waiting

STEPS = 2_500  # times 40 examples
PLACES = ["x", "y", "z"]
PRIORITIES = [-10, -1, 0, 10]


class Walk:
    """A queue, everything that ever entered it, and random things that happen."""

    def __init__(self, seed: int, fairness: Fairness) -> None:
        self.random = random.Random(seed)
        band = BandConfig(requests_max=12, bytes_max=900, fairness=fairness)
        negative = BandConfig(requests_max=6, bytes_max=400, fairness=fairness)
        self.config = FlowConfig(
            requests_max=25, bytes_max=2_000, default_band=band, negative_band=negative
        )
        self.queue: FlowQueue[int] = FlowQueue(self.config)
        self.now_s = 0.0
        self.made = 0
        self.inside: dict[int, Waiting[int]] = {}
        self.left: set[int] = set()

    def step(self) -> None:
        self.now_s += self.random.expovariate(10.0)
        kind = self.random.random()
        if kind < 0.5:
            self.enter()
        elif kind < 0.7:
            self.serve()
        elif kind < 0.8:
            self.client_leaves()
        elif kind < 0.88:
            self.time_passes()
        elif kind < 0.96:
            self.rebind()
        elif kind < 0.995:
            self.queue.collect(self.now_s)
        else:
            self.reconfigure()

    def enter(self) -> None:
        draw = self.random
        self.made += 1
        ttl_s = draw.choice([0.5, 3.0, FOR_EVER])
        arrived_s = self.now_s - draw.choice([0.0, 0.0, 1.0])
        item = Waiting(
            self.made,
            priority=draw.choice(PRIORITIES),
            flow=draw.choice("abc"),
            size_bytes=draw.randrange(1, 150),
            tokens=draw.uniform(1.0, 500.0),
            arrived_s=arrived_s,
            expires_s=arrived_s + ttl_s,
            order=arrived_s,
        )
        if draw.random() < 0.6:
            item.place, item.loose_s = draw.choice(PLACES), self.now_s + draw.choice([0.2, 2.0])
        before = len(self.inside)
        displaced = self.queue.enter(item, self.now_s)
        if displaced is None:
            assert not item.waits
            assert self.is_full(item), f"refused with {before} waiting"
            return
        assert all(other.priority < item.priority for other in displaced)
        for other in displaced:
            self.gone(other)
        self.inside[item.what] = item

    def is_full(self, item: Waiting[int]) -> bool:
        limits = self.config.band(item.priority)
        peers = [one for one in self.inside.values() if one.priority == item.priority]
        stronger = [one for one in self.inside.values() if one.priority >= item.priority]
        return (
            len(peers) >= limits.requests_max
            or sum(one.bytes for one in peers) + item.bytes > limits.bytes_max
            or len(stronger) >= self.config.requests_max
            or sum(one.bytes for one in stronger) + item.bytes > self.config.bytes_max
        )

    def serve(self) -> None:
        place = self.random.choice([*PLACES, ANYWHERE])
        item = self.queue.head(place, lambda _: True)
        fitting = [one for one in self.inside.values() if one.place in (place, ANYWHERE)]
        if item is None:
            assert not fitting
            return
        assert item in fitting
        assert item.priority == max(one.priority for one in fitting)
        flow = [o for o in fitting if (o.priority, o.flow) == (item.priority, item.flow)]
        assert item.rank == min(one.rank for one in flow)
        self.queue.served(item)
        self.leaves(item)
        self.queue.corrected(item.priority, item.flow, self.random.uniform(-50.0, 50.0))

    def client_leaves(self) -> None:
        if self.inside:
            self.leaves(self.random.choice(list(self.inside.values())))

    def leaves(self, item: Waiting[int]) -> None:
        assert self.queue.leave(item, self.now_s)
        assert not self.queue.leave(item, self.now_s)
        self.gone(item)

    def gone(self, item: Waiting[int]) -> None:
        assert item.what not in self.left
        self.left.add(item.what)
        del self.inside[item.what]

    def time_passes(self) -> None:
        expected = {o.what for o in self.inside.values() if o.expires_s <= self.now_s}
        expired = self.queue.expired(self.now_s)
        assert {item.what for item in expired} == expected
        assert len(expired) == len(expected)
        for item in [*self.inside.values()][::7]:
            if item.what not in expected:
                self.queue.expire_at(item, item.expires_s)
        for item in expired:
            if self.random.random() < 0.2:
                self.queue.expire_at(item, float(int(self.now_s) + 2))  # the same again and again
            else:
                self.leaves(item)
        self.queue.loosen(self.now_s)
        assert all(o.place == ANYWHERE or o.loose_s > self.now_s for o in self.inside.values())
        due_s = [min(o.expires_s, o.loose_s) for o in self.inside.values()]
        assert self.queue.next_s() == min(due_s, default=FOR_EVER)

    def rebind(self) -> None:
        if self.inside:
            item = self.random.choice(list(self.inside.values()))
            place = self.random.choice([*PLACES, ANYWHERE])
            loose_s = FOR_EVER if place == ANYWHERE else self.now_s + self.random.random()
            self.queue.bind(item, place, loose_s)

    def reconfigure(self) -> None:
        band = self.config.default_band
        other: Fairness = "vtc" if band.fairness == "round-robin" else "round-robin"
        fresh = band.model_copy(update={"fairness": other})
        self.config = self.config.model_copy(update={"default_band": fresh})
        self.queue.reconfigure(self.config, self.now_s)

    def check(self) -> None:
        queue, inside = self.queue, self.inside.values()
        assert len(queue) == len(inside) <= self.config.requests_max
        assert queue.bytes == sum(item.bytes for item in inside) <= self.config.bytes_max
        assert sum(band.requests for band in queue.bands()) == len(inside)
        for band in queue.bands():
            limits = self.config.band(band.priority)
            assert 0 <= band.requests <= limits.requests_max
            assert 0 <= band.bytes <= limits.bytes_max
        for place in PLACES:
            here = sum(1 for item in inside if item.place in (place, ANYWHERE))
            assert queue.ahead_at(place, -100) == here


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["vtc", "round-robin", "global-strict"]))
def test_queue(seed: int, fairness: Fairness) -> None:
    walk = Walk(seed, fairness)
    for step in range(STEPS):
        walk.step()
        if step % 10 == 0:
            walk.check()
    while (item := walk.queue.head(ANYWHERE, lambda _: True)) is not None:
        walk.leaves(item)
    for place in PLACES:
        while (item := walk.queue.head(place, lambda _: True)) is not None:
            walk.leaves(item)
    walk.check()
    assert not walk.inside
