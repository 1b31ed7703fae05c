"""Classes of endpoints, and what reaches the columns of their tables."""

from __future__ import annotations

import numpy as np
import pytest

from inferway._native import Done, FrameReader, PrefixIndex, hash_seed
from inferway.picker.config import EndpointConfig, PoolConfig
from inferway.picker.datalayer.accounting import Charge
from inferway.picker.datalayer.calibration import BATCH
from inferway.picker.datalayer.engines import Reading
from inferway.picker.datalayer.speed_book import PUBLISH_S, SpeedBook
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.protocol import filter_side
from inferway.picker.scheduling.engine_constants import SHIPPED

A, B, C = (f"10.0.0.{n}:8000" for n in (1, 2, 3))


def pool(name: str, *addresses: str, accelerators: tuple[str, ...] = ()) -> PoolConfig:
    labels = [{"inferway.dev/accelerator": one} for one in accelerators] or [{}] * len(addresses)
    endpoints = zip(addresses, labels, strict=True)
    return PoolConfig(
        name=name,
        endpoints=tuple(
            EndpointConfig(address=a, server=a, labels=label) for a, label in endpoints
        ),
    )


def teach(book: SpeedBook, address: str, factor: float, batches: int = 20) -> None:
    rng = np.random.default_rng(1)
    for _ in range(batches * BATCH):
        tokens = float(rng.uniform(100, 10_000))
        true_s = SHIPPED.first_token_s + tokens / SHIPPED.prefill_tokens_per_s
        book.calibration.first_token(address, factor * true_s, tokens=tokens, pairs=0.0, now_s=0.0)


def answered(layer: DataLayer, now_s: float) -> None:
    """An answer that teaches nothing by itself."""
    (done,) = FrameReader().feed(filter_side.done(1, endpoint="elsewhere:1"))
    assert isinstance(done, Done)
    layer.observe_latency(Charge(A, "m", 1, 1), done, now_s)


def test_what_is_learnt_reaches_every_pool_once_a_second() -> None:
    layer = DataLayer(PrefixIndex(100), hash_seed)
    layer.configure([pool("one", A, B), pool("two", B)])
    tables = [layer.pools[name].table for name in ("one", "two")]
    teach(layer.speeds, B, 3.0)
    assert [table.view().constants for table in tables] == [None, None]
    answered(layer, now_s=10.0)
    one, two = (table.view().constants for table in tables)
    assert one is not None
    assert two is not None
    assert one.prefill_token_s[1] == two.prefill_token_s[0]
    assert two.prefill_token_s[0] == pytest.approx(3.0 / SHIPPED.prefill_tokens_per_s, rel=0.1)
    teach(layer.speeds, B, 10.0)
    answered(layer, now_s=10.0 + PUBLISH_S / 2)
    assert tables[1].view().constants is two
    answered(layer, now_s=10.0 + PUBLISH_S)
    assert tables[1].view().constants is not two


def test_what_is_learnt_survives_a_new_configuration_and_not_a_restart() -> None:
    layer = DataLayer(PrefixIndex(100), hash_seed)
    layer.configure([pool("one", A), pool("two", C)])
    teach(layer.speeds, A, 3.0)
    layer.configure([pool("one", B, A)])
    columns = layer.pools["one"].table.view().constants
    assert columns is not None
    assert (
        columns.first_token_s.tolist() == [pytest.approx(3.0 * SHIPPED.first_token_s, rel=0.1)] * 2
    )
    layer.scraped(A, Reading(started_at_s=100.0), 0.0, 1.0)
    teach(layer.speeds, B, 1.0, batches=60)
    layer.scraped(A, Reading(started_at_s=200.0), 0.0, 2.0)
    learnt = layer.speeds.calibration.learnt(A)
    assert learnt is not None
    assert learnt.constants.first_token_s == pytest.approx(SHIPPED.first_token_s, rel=0.2)


@pytest.mark.parametrize(
    ("pools", "alike"),
    [
        ([pool("one", A, B)], True),
        ([pool("one", A), pool("two", B)], False),
        ([pool("one", A, B, accelerators=("l4", "h100"))], False),
        ([pool("one", A, B, accelerators=("l4", "l4"))], True),
    ],
)
def test_a_class_is_pool_and_accelerator(pools: list[PoolConfig], alike: bool) -> None:
    book = SpeedBook(lambda _changes: None)
    book.configure(pools)
    teach(book, A, 3.0)
    status = book.status(B)
    assert (status is not None) is alike
    mine = book.status(A)
    assert mine is not None
    assert mine.first_token_s == pytest.approx(3.0 * SHIPPED.first_token_s, rel=0.1)
    assert mine.observations == 20 * BATCH
