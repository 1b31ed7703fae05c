"""A desk that records, with a clock of its own, and the questions one can ask it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
import pytest

from inferway._native import FrameReader, PrefixIndex, hash_seed
from inferway.picker.config import EndpointConfig, ExplainConfig, PickerConfig, PoolConfig
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.desk import PickDesk
from inferway.picker.explain_messages import ExplainAnswer, ExplainQuery
from inferway.picker.explainer import Explainer
from inferway.picker.metrics import PickerMetrics
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.conversation import Conversation
from inferway.picker.protocol.filter_side import Answers

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.config import PoolExplainConfig
    from inferway.picker.protocol.filter_side import Answer

POOL = "default/pool"


class Recording:
    """A picker without its sockets."""

    def __init__(self, config: PickerConfig) -> None:
        self.now_s = 1_000.0
        self.layer = DataLayer(PrefixIndex(10_000), hash_seed)
        self.desk = PickDesk(
            self.layer,
            PickerMetrics(),
            config,
            clock=lambda: self.now_s,
            random_of=lambda _: np.random.default_rng(3),
            picked=lambda _: None,
            answered=lambda _: None,
            send=lambda _connection, _frames: None,
        )
        self.ring = self.desk.ring
        self._conversation = Conversation(epoch=1, heartbeat_ms=100)
        self.explainer = Explainer(
            self.ring,
            clock=lambda: self.now_s,
            wall=lambda: datetime(2025, 1, 1, 12, 0, 0, tzinfo=UTC),
        )
        self.say(filter_side.hello(1))

    def say(self, *frames: bytes) -> list[Answer]:
        actions = self._conversation.receive(FrameReader().feed(b"".join(frames)))
        assert not actions.close
        answers = self.desk.handle(1, actions.apply)
        self.desk.settle()
        return Answers().feed(b"".join(answers))

    async def ask(self, **conditions: object) -> ExplainAnswer:
        return await self.explainer.answer(ExplainQuery.model_validate(conditions))


def config(
    count: int = 3,
    *,
    policy: str = "marginal-cost",
    limits: ExplainConfig | None = None,
    pool: PoolExplainConfig | None = None,
) -> PickerConfig:
    addresses = [f"10.0.{n // 250}.{n % 250 + 1}:8000" for n in range(count)]
    made = PoolConfig(
        name=POOL,
        endpoints=tuple(EndpointConfig(address=a, server="default/s") for a in addresses),
        policy=policy,
        objectives={"important": 7},
    )
    if pool is not None:
        made = made.model_copy(update={"explain": pool})
    return PickerConfig(version=1, pools=(made,), explain=limits or ExplainConfig())


@pytest.fixture
def recording() -> Callable[..., Recording]:
    def make(*arguments: int, **options: object) -> Recording:
        return Recording(config(*arguments, **options))  # type: ignore[arg-type]

    return make
