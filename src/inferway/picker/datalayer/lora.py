"""Where a LoRA adapter would find a place.

Problem: an engine batches a few adapters at a time and swaps the others in, which stalls it. Its
gauge lists only adapters that have work right now (an idle one that is still loaded looks absent),
repeats running names among the waiting ones, and is as old as the last scrape. Model: per address,
what the gauge said, plus the adapters that we have in flight there, plus the most recently used
adapters up to the number of slots, as the engine itself keeps them; where a newer engine tells
which are loaded, those instead. From these a tier:

    0  resident: running there, in flight there from us, or among the last `slots` used
    1  room: fewer adapters have work there than there are slots
    2  waiting there already: its load is paid by an earlier request
    3  full

Source: lora-affinity-scorer of the reference picker, with names counted once and residency added.
Invariant: `PoolLora.tiers` columns always equal `LoraState.tier` of every row. Engines without the
gauge are judged by our own decisions alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from inferway.picker.datalayer.engines import LoraReading
    from inferway.picker.scheduling.contracts import Floats

RESIDENT, ROOM, WAITING, FULL = 0.0, 1.0, 2.0, 3.0

# An engine that never said: between vLLM's default of 1 and SGLang's of 8.
SLOTS_UNKNOWN = 4
_COLUMNS_MAX = 1024
_LOG_MAX = 65_536
_NOBODY: frozenset[str] = frozenset()


class _Adapters:
    """What is known of the adapters on one address."""

    __slots__ = ("recent", "running", "slots", "waiting")

    def __init__(self) -> None:
        self.running = _NOBODY
        self.waiting = _NOBODY
        self.slots: int | None = None
        self.recent: dict[str, None] = {}  # least recently used first

    def use(self, adapter: str) -> bool:
        """Marks it as just used; True when that changed which adapters are resident."""
        known = adapter in self.recent
        self.recent.pop(adapter, None)
        self.recent[adapter] = None
        self.trim()
        return not known

    def trim(self) -> bool:
        """Forgets what no longer fits; True when there was something."""
        surplus = len(self.recent) - (self.slots or SLOTS_UNKNOWN)
        for adapter in list(self.recent)[: max(surplus, 0)]:
            del self.recent[adapter]
        return surplus > 0


class LoraState:
    """`in_flight_at(address)` counts our requests there by model; `is_adapter` tells them apart."""

    def __init__(
        self,
        in_flight_at: Callable[[str], Mapping[str, int]],
        is_adapter: Callable[[str], bool],
    ) -> None:
        self._in_flight_at = in_flight_at
        self._is_adapter = is_adapter
        self._addresses: dict[str, _Adapters] = {}
        self._pools: list[PoolLora] = []

    def rebind(self, pools: Sequence[Sequence[str]]) -> list[PoolLora]:
        """One view per pool (its addresses by row); vanished addresses are forgotten."""
        wanted = dict.fromkeys(address for addresses in pools for address in addresses)
        self._addresses = {a: self._addresses.get(a) or _Adapters() for a in wanted}
        self._pools = [PoolLora(self, addresses) for addresses in pools]
        return list(self._pools)

    def record(self, address: str, reading: LoraReading | None) -> None:
        """Takes over a good scrape. None: the engine has no gauge, or had no adapter yet."""
        state = self._addresses.get(address)
        if state is None or reading is None:
            return
        before = (state.running, state.waiting, state.slots)
        state.running, state.waiting = reading.running, reading.waiting - reading.running
        state.slots = reading.slots
        changed = before != (state.running, state.waiting, state.slots)
        if reading.loaded is not None and reading.loaded != state.recent.keys():
            # The engine says what is resident; the order in which it was used stays.
            kept = [name for name in state.recent if name in reading.loaded]
            new = sorted(reading.loaded.difference(kept))
            state.recent = dict.fromkeys([*new, *kept])
            changed = True
        for adapter in sorted(state.running):
            changed |= state.use(adapter)
        changed |= state.trim()
        if changed:
            self._changed(address)

    def placed(self, address: str, model: str) -> None:
        """We sent a request for the model there; a base model changes nothing."""
        state = self._addresses.get(address)
        if state is not None and self._is_adapter(model) and state.use(model):
            self._changed(address)

    def forget(self, address: str) -> None:
        """The engine restarted."""
        if address in self._addresses:
            self._addresses[address] = _Adapters()
            self._changed(address)

    def active_changed(self, address: str, model: str) -> None:
        """The model came to have requests of ours in flight there, or ceased to."""
        if self._is_adapter(model):
            self._changed(address)

    def tier(self, adapter: str, address: str) -> float:
        state = self._addresses[address]
        ours = self._in_flight_at(address)
        if adapter in ours or adapter in state.running or adapter in state.recent:
            return RESIDENT
        busy = state.running | state.waiting | {name for name in ours if self._is_adapter(name)}
        if len(busy) < (state.slots or SLOTS_UNKNOWN):
            return ROOM
        return WAITING if adapter in state.waiting else FULL

    def _changed(self, address: str) -> None:
        for pool in self._pools:
            pool.changed(address)


class PoolLora:
    """Tier columns of one pool, kept per adapter.

    A column is brought up to date when it is asked for, row by row from a log of changed rows: so
    a change costs one append however many adapters there are.
    """

    def __init__(self, state: LoraState, addresses: Sequence[str]) -> None:
        self._state = state
        self._addresses = tuple(addresses)
        self._rows = {address: row for row, address in enumerate(addresses)}
        self._columns: dict[str, tuple[Floats, int]] = {}  # column, position in the log
        self._log: list[int] = []

    def tiers(self, adapter: str) -> Floats:
        """Tier of the adapter on every endpoint, shape (N,); valid until the next change."""
        tier = self._state.tier
        column, seen = self._columns.get(adapter, (None, 0))
        if column is None or len(self._log) - seen >= len(column):
            if len(self._columns) >= _COLUMNS_MAX:
                self._columns.clear()
            column = np.array([tier(adapter, address) for address in self._addresses])
        else:
            for row in self._log[seen:]:
                column[row] = tier(adapter, self._addresses[row])
        self._columns[adapter] = (column, len(self._log))
        return column

    def changed(self, address: str) -> None:
        row = self._rows.get(address)
        if row is None or not self._columns:
            return
        if len(self._log) >= _LOG_MAX:
            self._log.clear()
            self._columns.clear()
        self._log.append(row)
