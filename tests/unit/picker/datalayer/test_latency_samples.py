"""Which answers teach, and what: through the accounting that counts what surrounds them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from inferway.picker.datalayer.accounting import Charge, InFlight
from inferway.picker.datalayer.latency_samples import PACE_S, LatencySamples
from inferway.picker.datalayer.table import EndpointTable
from inferway.picker.scheduling.engine_constants import SHIPPED

if TYPE_CHECKING:
    from inferway.picker.datalayer.calibration import Learnt

A = "10.0.0.1:8000"


class Taught:
    """In the place of `Calibration`."""

    def __init__(self) -> None:
        self.first: list[dict[str, float]] = []
        self.inter: list[dict[str, float]] = []

    def learnt(self, address: str) -> Learnt | None:
        return None

    def first_token(self, address: str, seconds: float, **terms: float) -> None:
        assert address == A
        self.first.append({"seconds": seconds, **terms})

    def inter_token(self, address: str, seconds: float, **terms: float) -> None:
        assert address == A
        self.inter.append({"seconds": seconds, **terms})


@dataclass(frozen=True)
class Done:
    """A streamed answer of 101 tokens to 1000, in half a second and then 10 ms each."""

    usage: bool = True
    event_stream: bool = True
    ttft_us: int = 700_000
    duration_us: int = 1_700_000
    prompt_tokens: int = 1000
    cached_tokens: int = 0
    completion_tokens: int = 101
    endpoint: str = A
    attempts: int = 1
    fault: int = 0


class Gateway:
    """One endpoint; a charge waited 0.2 s for its placement."""

    def __init__(self) -> None:
        self.taught = Taught()
        self.samples = LatencySamples(self.taught)  # type: ignore[arg-type]
        self.table = EndpointTable("ns/pool", [A])
        self.in_flight = InFlight()
        self.in_flight.rebind([self.table])

    def place(self, stream: int, uncached: int = 1000, **fields: object) -> Charge:
        charge = Charge(A, "m", uncached, uncached + 200, 4000, float(uncached), 0.2)
        for name, value in fields.items():
            setattr(charge, name, value)
        if not charge.streamed:
            charge.began = self.table.moment(0)
        self.in_flight.place(1, stream, charge)
        return charge

    def first(self, stream: int) -> None:
        self.in_flight.first(1, stream)

    def end(self, stream: int, done: Done, now_s: float = 10.0) -> None:
        charge = self.in_flight.done(1, stream)
        assert charge is not None
        self.samples.learn(charge, done, now_s)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


def test_a_streamed_answer_teaches_both(gateway: Gateway) -> None:
    gateway.place(1, uncached=3000)
    gateway.place(2)
    gateway.first(1)
    gateway.first(2)
    gateway.place(3, uncached=500)
    gateway.first(3)
    gateway.end(2, Done())
    (first,) = gateway.taught.first
    # The wait for the pick is not the engine's; 3000 tokens were ahead of it.
    assert first["seconds"] == pytest.approx(0.5)
    assert first["tokens"] == 3000 + 1000
    assert first["pairs"] == 1000 * (1000 - 500)
    (inter,) = gateway.taught.inter
    assert inter["seconds"] == pytest.approx(0.010)
    assert inter["requests"] == (2 + 3) / 2
    assert inter["context_tokens"] == ((3200 + 1200) + (3200 + 1200 + 700)) / 2
    # The prompt that was computed while it decoded, per token.
    assert inter["prefilled_tokens"] == 500 / 100
    assert inter["prefilled_pairs"] == 500 * 250 / 100


def test_an_answer_that_comes_at_once_teaches_the_decode_phase(gateway: Gateway) -> None:
    gateway.place(1, uncached=3000)
    gateway.first(1)
    gateway.place(2, streamed=False)
    gateway.place(3, uncached=500)
    gateway.first(3)
    gateway.end(2, Done(event_stream=False, ttft_us=1_700_000))
    assert gateway.taught.first == []
    (inter,) = gateway.taught.inter
    predicted_s = SHIPPED.first_token_s + 1000 / SHIPPED.prefill_tokens_per_s
    predicted_s += SHIPPED.attention_s * 1000 * 500
    assert inter["seconds"] == pytest.approx((1.5 - predicted_s) / 100)
    assert inter["requests"] == (1 + 2) / 2 + 1
    assert inter["context_tokens"] == (3200 + 3200 + 700) / 2 + 1200
    assert inter["prefilled_tokens"] == 500 / 100


def test_an_answer_at_once_that_is_mostly_prefill_teaches_nothing(gateway: Gateway) -> None:
    gateway.place(1, uncached=100_000, streamed=False)
    gateway.end(1, Done(event_stream=False, prompt_tokens=100_000))
    assert gateway.taught.first == gateway.taught.inter == []


def test_embeddings_teach_the_time_of_the_whole(gateway: Gateway) -> None:
    gateway.place(1, streamed=False)
    gateway.end(1, Done(event_stream=False, completion_tokens=0))
    assert [one["seconds"] for one in gateway.taught.first] == [pytest.approx(1.5)]
    assert gateway.taught.inter == []


def test_without_usage_estimates_teach_the_first_token_alone(gateway: Gateway) -> None:
    gateway.place(1, uncached=600, prompt_tokens=1000.0)
    gateway.first(1)
    gateway.end(1, Done(usage=False, prompt_tokens=0, completion_tokens=0))
    (first,) = gateway.taught.first
    assert (first["tokens"], first["pairs"]) == (600, 600 * (1000 - 300))
    assert gateway.taught.inter == []


def test_cached_tokens_count_once_the_engine_is_known_to_report_them(gateway: Gateway) -> None:
    """Until then a zero may mean that it does not say, and the index is believed."""
    for stream, done in enumerate((Done(), Done(cached_tokens=200), Done())):
        gateway.place(stream, uncached=600, prompt_tokens=1200.0)
        gateway.first(stream)
        gateway.end(stream, done, now_s=10.0 + stream)
    assert [one["tokens"] for one in gateway.taught.first] == [500, 800, 1000]


@pytest.mark.parametrize(
    ("charge", "done"),
    [
        ({}, {"endpoint": "10.0.0.2:8000"}),  # a fallback answered
        ({}, {"attempts": 2}),
        ({}, {"fault": 1}),
        ({}, {"event_stream": False}),  # the client asked for a stream
        ({"teaches": False}, {}),
        ({"prompt_tokens": 0.0}, {}),  # placed by an earlier picker
        ({"waited_s": -1.0}, {}),
        ({"waited_s": 0.8}, {"completion_tokens": 0}),  # longer than until its first byte
        ({}, {"duration_us": 700_100}),  # all of it in a tenth of a millisecond: held back
        ({}, {"duration_us": 0, "ttft_us": 0}),
    ],
)
def test_what_is_not_the_picked_engines_speed_teaches_nothing(
    gateway: Gateway, charge: dict[str, object], done: dict[str, object]
) -> None:
    gateway.place(1, **charge)
    gateway.first(1)
    gateway.end(1, replace(Done(), **done))  # type: ignore[arg-type]
    assert gateway.taught.first == gateway.taught.inter == []


def test_a_short_answer_teaches_no_time_per_token(gateway: Gateway) -> None:
    gateway.place(1)
    gateway.first(1)
    gateway.end(1, Done(completion_tokens=5))
    assert len(gateway.taught.first) == 1
    assert gateway.taught.inter == []


def test_a_busy_endpoint_teaches_at_a_pace(gateway: Gateway) -> None:
    for step in range(100):
        gateway.place(step)
        gateway.first(step)
        gateway.end(step, Done(), now_s=10.0 + step * PACE_S / 10)
    assert len(gateway.taught.first) == 10


def test_an_address_that_is_gone_is_forgotten(gateway: Gateway) -> None:
    gateway.place(1)
    gateway.first(1)
    gateway.in_flight.rebind([])
    gateway.samples.rebind(set())
    gateway.end(1, Done())
    assert gateway.taught.inter == []
