"""What following KV events comes to, as metric families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from inferway.observability.names import METRIC_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from inferway.picker.datalayer.kv_events.book import EventBook

_PREFIX: Final = f"{METRIC_PREFIX}kv_event"


class Following(Protocol):
    """The part of a `Subscriber` that is shown."""

    @property
    def publishers(self) -> int: ...
    @property
    def connected(self) -> int: ...
    @property
    def strange(self) -> int: ...
    @property
    def slices_full(self) -> int: ...
    def sequence_counts(self) -> tuple[int, int, int]: ...


def families(book: EventBook, subscriber: Following) -> Iterator[Metric]:
    """Every family, also when nobody publishes."""
    counters = book.counters
    gaps, losses, restarts = subscriber.sequence_counts()
    batches = {
        **counters.batches,
        "garbage": counters.batches["garbage"] + subscriber.strange,
        "gap": gaps,
        "lost_gap": losses,
        "restart": restarts,
    }
    yield _counter("s", "Events of engines' caches, in blocks, by what they were.", counters.events)
    yield _counter(
        "_batches",
        "Messages of engines, and what their numbers show: gaps, those that no replay filled, "
        "restarts.",
        batches,
    )
    yield _counter(
        "_prompts",
        "Answered prompts of engines that publish, by whether their blocks were found.",
        counters.prompts,
    )
    for name, text, count in (
        (
            "_evictions",
            "Prefix index entries that left because the engine said so.",
            counters.evicted,
        ),
        (
            "_full_slices",
            "Times that events had to wait for the next turn.",
            subscriber.slices_full,
        ),
    ):
        counter = CounterMetricFamily(_PREFIX + name, text)
        counter.add_metric((), count)
        yield counter
    publishers = GaugeMetricFamily(
        f"{_PREFIX}_publishers", "Engines' publishers that are followed.", labels=("connected",)
    )
    publishers.add_metric(("true",), subscriber.connected)
    publishers.add_metric(("false",), subscriber.publishers - subscriber.connected)
    yield publishers
    for name, text, value in (
        ("blocks", "Blocks that engines told of and did not remove.", book.blocks),
        ("bytes", "Memory of what is known of them.", book.memory_bytes),
    ):
        gauge = GaugeMetricFamily(f"{METRIC_PREFIX}kv_engine_{name}", text)
        gauge.add_metric((), value)
        yield gauge


def _counter(name: str, text: str, counts: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(_PREFIX + name, text, labels=("kind",))
    for kind, count in counts.items():
        family.add_metric((kind,), count)
    return family
