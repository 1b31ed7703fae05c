"""Which of our requests are under way where.

Problem: in-flight work is the truth that decisions rest on, so it must be counted the moment a pick
is made and must never leak, whatever is lost, repeated or reconfigured. Model: `InFlight` holds one
`Charge` per open stream, keyed by the filter that owns the stream, and books it on the row of its
address in every pool table that has the address. A charge knows the `Site` of its address, so that
only placing it looks the address up. Invariant: the accounting columns of every bound table equal
the sum over the open charges, always; so a rebind simply books all of them anew. An address that no
table has keeps its charges, unbooked, until the streams end. Events of unknown streams, and
repeated ones, change nothing. It does not decide and does not know the socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from inferway._native import Open
    from inferway.picker.datalayer.kv_events.association import Prompt
    from inferway.picker.datalayer.table import EndpointTable, Moment

_NO_MODELS: Mapping[str, int] = {}


class Site:
    """One address: the rows on which its charges are booked, and our requests there by model."""

    __slots__ = ("models", "places")

    def __init__(self) -> None:
        self.places: list[tuple[EndpointTable, int]] = []
        self.models: dict[str, int] = {}


_UNPLACED: Final = Site()


@dataclass(slots=True)
class Charge:
    """What one open stream holds. Token counts are whole numbers, as the protocol carries them."""

    address: str  # empty: not known where it runs
    model: str
    uncached_tokens: int
    context_tokens: int
    prompt_bytes: int = 0  # 0: not known (placed by an earlier picker)
    prompt_tokens: float = 0.0  # estimated; 0: not known
    waited_s: float = 0.0  # from its arrival to its placement
    ahead_tokens: float = 0.0  # pending on the endpoint when it was placed
    streamed: bool = True  # what the client asked for
    began: Moment | None = None  # its endpoint when a stream began, else when it was placed
    teaches: bool = True  # false: something that costs do not count delays its first token
    first_seen: bool = False
    prompt: Prompt | None = None  # only where the endpoint tells of its cache
    site: Site = field(default=_UNPLACED, repr=False)  # set when it is placed

    @property
    def pairs(self) -> float:
        """Pairs of tokens that its attention compares: u·(L - u/2)."""
        uncached = self.uncached_tokens
        return uncached * max(self.prompt_tokens - uncached / 2.0, 0.0)

    @property
    def moment(self) -> Moment | None:
        """Its endpoint now; None when no pool has it any more."""
        for table, row in self.site.places:
            return table.moment(row)
        return None


class InFlight:
    """Open streams of all filters.

    `active_changed(address, model)` is called when a model comes to have requests in flight on an
    address, or ceases to.
    """

    def __init__(self, active_changed: Callable[[str, str], None] | None = None) -> None:
        self._filters: dict[int, dict[int, Charge]] = {}
        self._sites: dict[str, Site] = {}
        self._active_changed = active_changed

    def __len__(self) -> int:
        return sum(map(len, self._filters.values()))

    def rebind(self, tables: Iterable[EndpointTable]) -> None:
        """Books every open charge on these tables, which from now on are the ones in force."""
        for site in self._sites.values():
            site.places = []
        for table in tables:
            table.clear_accounting()
            for address, row in table.rows.items():
                self._site(address).places.append((table, row))
        self._sites = {a: site for a, site in self._sites.items() if site.places or site.models}
        for streams in self._filters.values():
            for charge in streams.values():
                pending = 0 if charge.first_seen else charge.uncached_tokens
                for table, row in charge.site.places:
                    table.charge(row, pending, charge.context_tokens)

    def place(self, filter_id: int, stream: int, charge: Charge) -> None:
        """A pick was made. A stream that was already open moves to the new place."""
        streams = self._filters.get(filter_id)
        if streams is None:
            streams = self._filters[filter_id] = {}
        elif stream in streams:
            self._unbook(streams[stream])
        streams[stream] = charge
        address, model = charge.address, charge.model
        charge.site = site = self._sites.get(address) or self._site(address)
        pending = 0 if charge.first_seen else charge.uncached_tokens
        for table, row in site.places:
            charge.ahead_tokens = table.charge(row, pending, charge.context_tokens)
        models = site.models
        count = models.get(model, 0)
        models[model] = count + 1
        if count == 0 and self._active_changed is not None:
            self._active_changed(address, model)

    def replay(self, filter_id: int, frame: Open) -> None:
        """A stream that an earlier picker (or nobody: fail-open) placed and that still runs."""
        charge = Charge(frame.endpoint, frame.model, frame.charged_uncached, frame.charged_context)
        charge.first_seen = frame.phase != 0
        self.place(filter_id, frame.stream, charge)

    def first(self, filter_id: int, stream: int) -> Charge | None:
        """The first byte of the answer has come. None: unknown stream, or told before."""
        streams = self._filters.get(filter_id)
        charge = streams.get(stream) if streams else None
        if charge is None or charge.first_seen:
            return None
        charge.first_seen = True
        uncached, pairs = charge.uncached_tokens, charge.pairs
        for table, row in charge.site.places:
            table.first_token(row, uncached, pairs)
            if charge.streamed:
                charge.began = table.moment(row)
        return charge

    def done(self, filter_id: int, stream: int) -> Charge | None:
        """The stream has ended. None: unknown stream, or ended before."""
        streams = self._filters.get(filter_id)
        charge = streams.pop(stream, None) if streams else None
        if charge is not None:
            self._unbook(charge)
        return charge

    def drop_filter(self, filter_id: int) -> int:
        """The connection is gone: releases all it held and returns how many streams that were."""
        streams = self._filters.pop(filter_id, {})
        for charge in streams.values():
            self._unbook(charge)
        return len(streams)

    def models_at(self, address: str) -> Mapping[str, int]:
        """Requests in flight on an address, by model."""
        site = self._sites.get(address)
        return _NO_MODELS if site is None else site.models

    def _site(self, address: str) -> Site:
        return self._sites.setdefault(address, Site())

    def _unbook(self, charge: Charge) -> None:
        site = charge.site
        pending, pairs = (0, 0.0) if charge.first_seen else (charge.uncached_tokens, charge.pairs)
        for table, row in site.places:
            table.release(row, pending, charge.context_tokens, pairs)
        models = site.models
        left = models[charge.model] - 1
        if left:
            models[charge.model] = left
            return
        del models[charge.model]
        if not models and not site.places:
            del self._sites[charge.address]
        if self._active_changed is not None:
            self._active_changed(charge.address, charge.model)
