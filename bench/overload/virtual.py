"""A whole picker over simulated engines, in virtual time.

The desk is the production one, spoken to in frames of the pick protocol; the engines are those of
`inferway sim`; clients, scrapes and the desk's timer are events on one clock. A minute takes
seconds, and the same seed gives the same run.
"""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Final

import numpy as np

from inferway._native import FrameReader, PrefixIndex, hash_seed
from inferway.picker.config import EndpointConfig, PickerConfig, PoolConfig
from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.desk import PickDesk
from inferway.picker.metrics import PickerMetrics
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.conversation import Conversation
from inferway.picker.protocol.filter_side import Answers, Endpoints, Reject
from inferway.simulator.engine import Engine
from inferway.simulator.sequences import EngineRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from inferway.picker.flowcontrol.config import FlowConfig
    from inferway.simulator.parameters import EngineParameters

SCRAPE_S: Final = 0.1
PROMPT_TOKENS: Final = 256
OBJECTIVES: Final = {"high": 10, "normal": 0, "batch": -10}


@dataclass
class Request:
    """One request of a client, over all its attempts."""

    stream: int
    tenant: str
    objective: str
    output_tokens: int
    asked_s: float
    ended: Callable[[Request], None]
    first_s: float = 0.0
    ended_s: float = 0.0
    refusal: Reject | None = None
    endpoint: str = ""

    @property
    def served(self) -> bool:
        return self.ended_s > 0.0 and self.refusal is None


@dataclass
class Pool:
    """`endpoints` engines behind one desk, on a clock that `run` moves."""

    parameters: EngineParameters
    flow: FlowConfig
    endpoints: int = 4
    seed: int = 1
    now_s: float = 0.0
    output_tokens: int = 0
    finished: list[Request] = field(default_factory=list)
    refused: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        addresses = [f"10.0.0.{index}:8000" for index in range(1, self.endpoints + 1)]
        self._engines = {
            address: Engine(self.parameters, seed=self.seed * 100 + index)
            for index, address in enumerate(addresses)
        }
        self._stepping: set[str] = set()
        self._running: dict[int, Request] = {}
        self._asked: dict[int, Request] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order, self._streams = count(), count(1)
        self._conversation = Conversation(epoch=1, heartbeat_ms=100)
        self._tick_s = float("inf")
        rng = np.random.default_rng(self.seed)
        pool = PoolConfig(
            name="default/pool",
            endpoints=tuple(EndpointConfig(address=a, server="default/s") for a in addresses),
            objectives=OBJECTIVES,
            flow=self.flow,
        )
        self.metrics = PickerMetrics()
        self.desk = PickDesk(
            DataLayer(PrefixIndex(100_000), hash_seed),
            self.metrics,
            PickerConfig(version=1, pools=(pool,)),
            clock=lambda: self.now_s,
            random_of=lambda _: rng.spawn(1)[0],
            picked=lambda _: None,
            answered=lambda _: None,
            send=lambda _connection, data: self._answered(data),
        )
        self._say(filter_side.hello())
        for index, address in enumerate(addresses):
            self.at(SCRAPE_S * index / self.endpoints, lambda a=address: self._scrape(a))
        self.at(0.0, self._beat)

    def at(self, when_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), event))

    def run(self, until_s: float) -> None:
        while True:
            due_s = min(self._events[0][0], self._tick_s)
            if due_s > until_s:
                self.now_s = until_s
                return
            self.now_s = max(self.now_s, due_s)
            if self._tick_s <= self._events[0][0]:
                self.desk.tick()
                self._look_again()
            else:
                heapq.heappop(self._events)[2]()

    def ask(
        self,
        tenant: str,
        objective: str,
        ended: Callable[[Request], None],
        *,
        output_tokens: int,
        seed: int | None = None,
    ) -> None:
        """A client sends a request now; `ended` is called when it was served or refused. `seed`
        chooses the prompt.
        """
        stream = next(self._streams)
        request = Request(stream, tenant, objective, output_tokens, self.now_s, ended)
        self._asked[stream] = request
        self._say(
            filter_side.pick(
                stream,
                objective=objective,
                fairness=tenant,
                streamed=True,
                prompt_bytes=4 * PROMPT_TOKENS + 10,
                seed=stream if seed is None else seed,
            )
        )

    def waiting(self) -> int:
        """Requests in the picker's queue."""
        return len(self.desk.holding.flows.held)

    def _say(self, *frames: bytes) -> None:
        actions = self._conversation.receive(FrameReader().feed(b"".join(frames)))
        assert not actions.close, actions.close
        if actions.apply:
            answers = self.desk.handle(1, actions.apply)
            self.desk.settle()
            self._answered(b"".join(answers))
            self._look_again()

    def _look_again(self) -> None:
        self._tick_s = self.now_s + self.desk.tick_in_s()

    def _answered(self, data: bytes) -> None:
        for answer in Answers().feed(data):
            if isinstance(answer, Endpoints):
                self._submit(self._asked.pop(answer.stream), answer.endpoints[0])
            elif isinstance(answer, Reject):
                request = self._asked.pop(answer.stream)
                request.refusal = answer
                self.refused.append(request)
                self.at(self.now_s, lambda r=request: self._left(r))

    def _left(self, request: Request) -> None:
        self._say(filter_side.done(request.stream, end=3, status=429))
        request.ended(request)

    def _submit(self, request: Request, address: str) -> None:
        request.endpoint = address
        self._running[request.stream] = request
        engine = self._engines[address]
        engine.submit(
            EngineRequest(str(request.stream), PROMPT_TOKENS, request.output_tokens), self.now_s
        )
        if address not in self._stepping:
            self._stepping.add(address)
            self.at(max(self.now_s, engine.now_s), lambda: self._step(address))

    def _step(self, address: str) -> None:
        engine = self._engines[address]
        if not engine.has_work:
            self._stepping.discard(address)
            return
        result = engine.step(max(self.now_s, engine.now_s))

        def over() -> None:
            frames = []
            for name, tokens in result.tokens:
                self.output_tokens += tokens
                request = self._running[int(name)]
                if not request.first_s:
                    request.first_s = self.now_s
                    frames.append(filter_side.first(request.stream))
            ended = [self._running.pop(int(one.request_id)) for one in result.finished]
            for request in ended:
                request.ended_s = self.now_s
                self.finished.append(request)
                usage = (PROMPT_TOKENS, 0, request.output_tokens)
                frames.append(
                    filter_side.done(
                        request.stream, usage=usage, event_stream=True, endpoint=address
                    )
                )
            if frames:
                self._say(*frames)
            for request in ended:
                request.ended(request)
            self._step(address)

        self.at(result.ended_s, over)

    def _scrape(self, address: str) -> None:
        engine = self._engines[address]
        own = self.desk.own_requests(address)
        usage = engine.blocks.usage_ratio
        reading = Reading(float(engine.num_waiting), float(engine.num_running), usage)
        self.desk.scraped(address, reading, own, self.now_s)
        self._look_again()
        self.at(self.now_s + SCRAPE_S, lambda: self._scrape(address))

    def _beat(self) -> None:
        self.desk.beat()
        self.at(self.now_s + 0.1, self._beat)
