"""A desk under random frames, scrapes, configurations and losses: every request is answered once or
has left, and what is charged is what runs.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from inferway.picker.config import PickerConfig
from inferway.picker.datalayer.engines import Reading
from inferway.picker.flowcontrol.config import BandConfig, ConcurrencyConfig, FlowConfig
from inferway.picker.protocol.filter_side import Endpoints, Queued, Reject, done, first, pick
from tests.unit.picker.runtime.room import POOL, A, B, C, Room, pool

STEPS = 400
OBJECTIVES = {"high": 10, "low": -10}


class Walk:
    """`open`: streams that were asked for and not ended, each None or the endpoint it got."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.version = 1
        self.made = Room(self.config().pools[0])
        self.open: dict[tuple[int, int], str | None] = {}
        self.streams = 0

    def config(self) -> PickerConfig:
        draw = self.random
        addresses = draw.sample([A, B, C], draw.choice([0, 1, 2, 2, 3, 3]))
        mode = draw.choice(["late-binding", "late-binding", "gate", "legacy"])
        flow = FlowConfig(
            mode=mode,
            detector=ConcurrencyConfig(requests_max=draw.choice([1, 2, 3])),
            requests_max=15,
            ttl_s=5.0,
            no_endpoint_ttl_s=draw.choice([0.0, 2.0]),
            default_band=BandConfig(requests_max=8, fairness=draw.choice(["vtc", "round-robin"])),
        )
        made = pool(*addresses, **OBJECTIVES).model_copy(update={"flow": flow})
        return PickerConfig(version=self.version, pools=(made,))

    def step(self) -> None:
        draw, made = self.random, self.made
        kind = draw.random()
        connection = draw.choice([1, 2])
        if kind < 0.45:
            self.ask(connection)
        elif kind < 0.8:
            self.end()
        elif kind < 0.93:
            made.advance(draw.expovariate(2.0))
        elif kind < 0.97:
            address = draw.choice([A, B, C])
            made.desk.scraped(address, Reading(2.0, 3.0, 0.5), 1.0, made.now_s)
        elif kind < 0.99:
            self.version += 1
            made.desk.configure(self.config())
        else:
            made.desk.drop(connection)
            made.conversations.pop(connection, None)
            self.open = {key: at for key, at in self.open.items() if key[0] != connection}
        self.hear()

    def ask(self, connection: int) -> None:
        draw = self.random
        self.streams += 1
        frame = pick(
            self.streams,
            objective=draw.choice(["high", "low", "", ""]),
            fairness=draw.choice("ab"),
            seed=draw.randrange(5),
            ttl_ms=draw.choice([0, 0, 1_500]),
            streamed=True,
            keeps_alive=draw.random() < 0.5,
        )
        self.open[connection, self.streams] = None
        self.answered(connection, list(self.made.say(frame, connection=connection)))

    def end(self) -> None:
        if not self.open:
            return
        connection, stream = self.random.choice(list(self.open))
        at = self.open.pop((connection, stream))
        frames = [done(stream, end=0 if at else 2, usage=(500, 0, 90), endpoint=at or "")]
        if at and self.random.random() < 0.5:
            frames.insert(0, first(stream))
        self.answered(connection, list(self.made.say(*frames, connection=connection)))

    def hear(self) -> None:
        for connection in (1, 2):
            self.answered(connection, self.made.later(connection))

    def answered(self, connection: int, answers: list[object]) -> None:
        for answer in answers:
            if isinstance(answer, Queued):
                assert self.open[connection, answer.stream] is None
            elif isinstance(answer, Endpoints):
                assert self.open[connection, answer.stream] is None, "answered twice"
                self.open[connection, answer.stream] = answer.endpoints[0]
            else:
                assert isinstance(answer, Reject)
                assert self.open[connection, answer.stream] is None, "answered twice"
                assert answer.status in (429, 503)
                del self.open[connection, answer.stream]
                said = self.made.say(done(answer.stream, end=3), connection=connection)
                self.answered(connection, list(said))

    def check(self) -> None:
        desk, open_ = self.made.desk, self.open
        running = [at for at in open_.values() if at is not None]
        assert desk.open_streams == len(running)
        assert len(desk.holding.flows.held) == len(open_) - len(running)
        found = {address: int(sums[0]) for address, sums in self.made.accounting().items()}
        known = self.made.layer.pools[POOL].table.rows
        assert found == {a: running.count(a) for a in known if a in running}
        status = desk.holding.status(POOL, self.made.now_s)
        assert sum(band.requests for band in status.bands) == len(open_) - len(running)
        assert all(0 <= band.requests <= 8 and band.bytes >= 0 for band in status.bands)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_desk(seed: int) -> None:
    walk = Walk(seed)
    for _ in range(STEPS):
        walk.step()
        walk.check()
    walk.made.advance(20.0)
    walk.hear()
    assert all(at is not None for at in walk.open.values()), "nobody waits beyond its time"
    while walk.open:
        walk.end()
        walk.hear()
    assert walk.made.accounting() == {}
    assert walk.made.desk.open_streams == 0
