"""The state of a pool's endpoints as columns.

Problem: a policy is an array expression, a charge is a change of three numbers, and both happen
thousands of times a second. Model: one `EndpointTable` per pool, one row per endpoint in the order
of the configuration, one float64 column per quantity. `view()` hands the columns to policies
without a copy; charges go through memoryviews of the same memory, which cost a third of an array
item assignment. Invariants: the accounting columns hold whole numbers, so sums are exact, and they
never go below zero: that would be a release without its charge, and raises. The table does not know
which request is behind a charge (accounting.py does) and fetches nothing (scrape.py does).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, cast

import numpy as np

from inferway.picker.datalayer.readiness import Readiness
from inferway.picker.scheduling.contracts import Endpoints
from inferway.picker.scheduling.engine_constants import EngineColumns, column

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from inferway.picker.datalayer.readiness import Unready
    from inferway.picker.scheduling.engine_constants import EngineConstants

_NO_LABELS: Final[Mapping[str, Mapping[str, str]]] = {}
_NO_VALUES: Final[Mapping[str, float]] = {}
_UNKNOWN = float("nan")
_NEVER = float("-inf")
_KEPT: Final = ("_waiting", "_running", "_kv_usage", "_foreign", "_scraped_at")
_new = tuple.__new__  # takes a third of what the constructor of a named tuple takes


class Moment(NamedTuple):
    """One endpoint, as its decodes feel it. What is prefilled only grows."""

    requests: float
    context_tokens: float
    prefilled_tokens: float
    prefilled_pairs: float


class EndpointTable:
    """Columns of one pool. Addresses are distinct; a repeated one is kept once. `labels` are by
    address, `attributes` the keys of further scraped values.
    """

    __slots__ = (
        "_ages",
        "_attributes",
        "_constants",
        "_context",
        "_foreign",
        "_in_flight",
        "_kv_usage",
        "_load",
        "_pending",
        "_picks",
        "_prefilled_pairs",
        "_prefilled_tokens",
        "_running",
        "_scraped_at",
        "_view",
        "_waiting",
        "_weight",
        "addresses",
        "labels",
        "pool",
        "readiness",
        "rows",
    )

    def __init__(
        self,
        pool: str,
        addresses: Iterable[str],
        labels: Mapping[str, Mapping[str, str]] = _NO_LABELS,
        *,
        panic_ratio: float = 1.0,
        attributes: Iterable[str] = (),
    ) -> None:
        self.pool = pool
        self.addresses: tuple[str, ...] = tuple(dict.fromkeys(addresses))
        self.labels = tuple(labels.get(address, {}) for address in self.addresses)
        self.rows: dict[str, int] = {a: row for row, a in enumerate(self.addresses)}
        count = len(self.addresses)
        self._load = np.zeros((4, count))  # in the form of `Endpoints.load`
        self._load[3] = 1.0
        self._in_flight, self._pending, self._context, _ = (
            cast("memoryview[float]", column.data) for column in self._load
        )
        self._picks = [0] * count
        self._prefilled_tokens = [0.0] * count
        self._prefilled_pairs = [0.0] * count
        self._waiting = np.full(count, _UNKNOWN)
        self._running = np.full(count, _UNKNOWN)
        self._kv_usage = np.full(count, _UNKNOWN)
        self._foreign = np.full(count, _UNKNOWN)
        self._attributes = {key: np.full(count, _UNKNOWN) for key in attributes}
        self._scraped_at = np.full(count, _NEVER)
        self._ages = np.full(count, np.inf)
        self.readiness = Readiness(count, panic_ratio)
        self._weight = np.ones(count)
        self._constants: EngineColumns | None = None
        self._view: Endpoints | None = None

    def __len__(self) -> int:
        return len(self.addresses)

    def view(self) -> Endpoints:
        """The columns as a policy sees them; a new object after every change but charges."""
        if self._view is None:
            self._view = Endpoints(
                load=self._load,
                waiting=self._waiting,
                running=self._running,
                kv_usage_ratio=self._kv_usage,
                foreign_requests=self._foreign,
                metrics_age_s=self._ages,
                ready=self.readiness.ready,
                weight=self._weight,
                addresses=self.addresses,
                labels=self.labels,
                attributes=self._attributes,
                constants=self._constants,
            )
        return self._view

    def charge(self, row: int, uncached_tokens: int, context_tokens: int) -> float:
        """Books a request that is about to be sent to the endpoint. The tokens pending before."""
        ahead = self._pending[row]
        self._in_flight[row] += 1.0
        self._pending[row] = ahead + uncached_tokens
        self._context[row] += context_tokens
        return ahead

    def first_token(self, row: int, uncached_tokens: int, pairs: float = 0.0) -> None:
        """The prompt of a charged request has been computed, with so many pairs of tokens."""
        left = self._pending[row] - uncached_tokens
        if left < 0.0:
            raise ArithmeticError(f"pending_tokens of {self.addresses[row]} below zero: {left}")
        self._pending[row] = left
        self._prefilled_tokens[row] += uncached_tokens
        self._prefilled_pairs[row] += pairs

    def release(
        self, row: int, uncached_tokens: int, context_tokens: int, pairs: float = 0.0
    ) -> None:
        """A charged request has ended. `uncached_tokens` is 0 when its first token was seen."""
        requests = self._in_flight[row] - 1.0
        context = self._context[row] - context_tokens
        pending = self._pending[row] - uncached_tokens
        if requests < 0.0 or context < 0.0 or pending < 0.0:
            raise ArithmeticError(
                f"in_flight, pending_tokens or context_tokens of {self.addresses[row]} below zero:"
                f" {requests}, {pending}, {context}"
            )
        self._in_flight[row] = requests
        self._pending[row] = pending
        self._context[row] = context
        self._prefilled_tokens[row] += uncached_tokens
        self._prefilled_pairs[row] += pairs

    def count_pick(self, row: int) -> None:
        self._picks[row] += 1

    def picks(self, row: int) -> int:
        return self._picks[row]

    def in_flight(self, row: int) -> float:
        return self._in_flight[row]

    def accounting(self, row: int) -> tuple[float, float, float]:
        """(in flight, pending tokens, context tokens) of one endpoint."""
        return self._in_flight[row], self._pending[row], self._context[row]

    def moment(self, row: int) -> Moment:
        """What makes decodes slow there, now."""
        return _new(
            Moment,
            (
                self._in_flight[row],
                self._context[row],
                self._prefilled_tokens[row],
                self._prefilled_pairs[row],
            ),
        )

    def clear_accounting(self) -> None:
        self._load[:3] = 0.0

    def record(
        self,
        row: int,
        *,
        waiting: float | None,
        running: float | None,
        kv_usage_ratio: float | None,
        own_requests: float,
        now_s: float,
        attributes: Mapping[str, float] = _NO_VALUES,
    ) -> None:
        """Takes over one good scrape. `own_requests`: ours in flight there while it was made."""
        foreign = _UNKNOWN
        if waiting is not None and running is not None:
            foreign = max(0.0, waiting + running - own_requests)
        # New arrays, not new values in the old ones: an Endpoints object already handed out keeps
        # the scraped columns it promised.
        self._waiting = _with(self._waiting, row, waiting)
        self._running = _with(self._running, row, running)
        self._kv_usage = _with(self._kv_usage, row, kv_usage_ratio)
        self._foreign = _with(self._foreign, row, foreign)
        if self._attributes:
            self._attributes = {
                key: _with(column, row, attributes.get(key))
                for key, column in self._attributes.items()
            }
        self._scraped_at[row] = now_s
        self._view = None

    def refresh_ages(self, now_s: float) -> None:
        """Brings `metrics_age_s` up to date; once in a while and after a scrape is enough."""
        np.subtract(now_s, self._scraped_at, out=self._ages)

    def set_unready(self, row: int, reason: Unready, holds: bool) -> None:
        """An endpoint is ready when no reason holds."""
        if self.readiness.put(reason, row, holds):
            self._view = None

    def set_all_unready(self, reasons: Mapping[Unready, Sequence[bool]]) -> None:
        """For every row whether the reason holds."""
        self.readiness.put_all(reasons)
        self._view = None

    def set_weight(self, row: int, weight: float) -> None:
        """In [0, 1]: the chance with which the endpoint takes part in a choice."""
        if self._weight[row] == weight:
            return
        self._weight = _with(self._weight, row, weight)
        self._view = None

    def set_constants(self, changes: Iterable[tuple[int, EngineConstants]]) -> None:
        """What calibration learnt, by row."""
        columns = self._constants or EngineColumns.shipped(len(self.addresses))
        rows = columns.rows.copy()
        for row, constants in changes:
            rows[:, row] = column(constants)
        self._constants = EngineColumns(rows)
        self._view = None

    def rebuilt(
        self,
        addresses: Iterable[str],
        labels: Mapping[str, Mapping[str, str]] = _NO_LABELS,
        *,
        panic_ratio: float = 1.0,
        attributes: Iterable[str] = (),
    ) -> EndpointTable:
        """The table of a changed endpoint set: what is known of an address that stays is kept.
        Everyone is ready and has a whole weight.
        """
        table = EndpointTable(
            self.pool, addresses, labels, panic_ratio=panic_ratio, attributes=attributes
        )
        kept = [(row, self.rows[a]) for a, row in table.rows.items() if a in self.rows]
        if kept:
            new, old = (np.array(side) for side in zip(*kept, strict=True))
            table._load[:, new] = self._load[:, old]
            for row, before in kept:
                table._picks[row] = self._picks[before]
                table._prefilled_tokens[row] = self._prefilled_tokens[before]
                table._prefilled_pairs[row] = self._prefilled_pairs[before]
            for name in _KEPT:
                getattr(table, name)[new] = getattr(self, name)[old]
            for key in table._attributes.keys() & self._attributes.keys():
                table._attributes[key][new] = self._attributes[key][old]
        return table


def _with(column: np.ndarray, row: int, value: float | None) -> np.ndarray:
    changed = column.copy()
    changed[row] = _UNKNOWN if value is None else value
    return changed
