"""A desk and its surroundings, for tests: frames in, answers out, time as a number."""

from __future__ import annotations

import numpy as np

from inferway._native import FrameReader, PrefixIndex, hash_seed
from inferway.picker.config import EndpointConfig, PickerConfig, PoolConfig
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.desk import PickDesk
from inferway.picker.metrics import PickerMetrics, PoolCounters
from inferway.picker.outcome import OUTCOMES, Outcome
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.conversation import Conversation
from inferway.picker.protocol.filter_side import Answer, Answers, Endpoints, Reject

POOL = "default/pool"
A, B, C = "10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"


def pool(
    *addresses: str, name: str = POOL, policy: str = "marginal-cost", **more: int
) -> PoolConfig:
    return PoolConfig(
        name=name,
        endpoints=tuple(EndpointConfig(address=a, server="default/s") for a in addresses),
        policy=policy,
        objectives=more,
    )


class Room:
    """A desk and what its surroundings heard; one conversation per connection number."""

    def __init__(self, *pools: PoolConfig, streams_max: int = 1_000) -> None:
        self.now_s = 100.0
        self.picked: list[float] = []
        self.answered: list[str] = []
        self.sent: list[tuple[int, bytes]] = []
        self.metrics = PickerMetrics()
        self.layer = DataLayer(PrefixIndex(10_000), hash_seed)
        self.desk = PickDesk(
            self.layer,
            self.metrics,
            PickerConfig(version=1, pools=pools),
            clock=lambda: self.now_s,
            random_of=lambda _: np.random.default_rng(3),
            picked=self.picked.append,
            answered=self.answered.append,
            send=lambda connection, frames: self.sent.append((connection, frames)),
            streams_max=streams_max,
        )
        self.conversations: dict[int, Conversation] = {}

    def say(self, *frames: bytes, connection: int = 1) -> list[Endpoints | Reject]:
        if connection not in self.conversations:
            self.conversations[connection] = Conversation(epoch=1, heartbeat_ms=100)
            frames = (filter_side.hello(connection), *frames)
        actions = self.conversations[connection].receive(FrameReader().feed(b"".join(frames)))
        assert not actions.close
        answers = self.desk.handle(connection, actions.apply)
        self.desk.settle()
        got = [answer for frame in answers for answer in Answers().feed(frame)]
        assert all(isinstance(answer, Endpoints | Reject) for answer in got)
        return [answer for answer in got if isinstance(answer, Endpoints | Reject)]

    def later(self, connection: int = 1) -> list[Answer]:
        """What was sent to the filter since the last look, beside answers to what it said."""
        frames = b"".join(data for to, data in self.sent if to == connection)
        self.sent = [(to, data) for to, data in self.sent if to != connection]
        return Answers().feed(frames)

    def advance(self, seconds: float) -> None:
        """Time goes on, with every look at what waits that is due."""
        end_s = self.now_s + seconds
        while self.now_s + self.desk.tick_in_s() <= end_s:
            self.now_s += self.desk.tick_in_s()
            self.desk.tick()
        self.now_s = end_s

    def accounting(self, name: str = POOL) -> dict[str, tuple[float, float, float]]:
        """(in flight, pending tokens, context tokens) of every address that has any."""
        table = self.layer.pools[name].table
        found = {address: table.accounting(row) for address, row in table.rows.items()}
        return {address: values for address, values in found.items() if any(values)}

    def counters(self, name: str = POOL) -> PoolCounters:
        return self.metrics.pool(name)

    def count(self, outcome: Outcome, name: str = POOL) -> int:
        return self.counters(name).outcomes[OUTCOMES.index(outcome)]


def placed(answers: list[Endpoints | Reject]) -> list[Endpoints]:
    assert all(isinstance(answer, Endpoints) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Endpoints)]


def rejected(answers: list[Endpoints | Reject]) -> Reject:
    (answer,) = answers
    assert isinstance(answer, Reject)
    return answer
