"""One decision: from a PICK to an ordered list of endpoints, with everything charged.

Problem: requests of one batch must not see the same idle endpoint; what one decision changes, the
next must see. Model: `PoolScheduler` binds a pool's stores to a profile. `weigh` estimates the
request, drops who may not be chosen and rates the rest, and changes nothing; `place` charges the
choice, inserts its prompt into the prefix index and tells the profile; `decide` does both with the
choice between them. Invariants: an endpoint that is not ready, that a hint rules out, or that lists
its models and not this one while another does, is never chosen; the charge is exactly what the
decision carries. It does not queue, rewrite or reject: the caller does, before.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from numpy import multiply

from inferway.picker.datalayer.accounting import Charge
from inferway.picker.datalayer.lora import RESIDENT
from inferway.picker.datalayer.readiness import Unready
from inferway.picker.scheduling.address_hints import AddressHints
from inferway.picker.scheduling.contracts import Request
from inferway.picker.scheduling.profile import Removal
from inferway.picker.scheduling.reason import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.picker.datalayer.state import PoolData
    from inferway.picker.explain import PoolRecorder
    from inferway.picker.scheduling.contracts import (
        Bools,
        Endpoints,
        Floats,
        PickRequest,
        Random,
    )
    from inferway.picker.scheduling.profile import Profile

# Who drops endpoints before the profile's own filters do.
NOT_SERVING: Final = "does not serve the model"
NOT_IN_SUBSET: Final = "not in the subset"
EXCLUDED: Final = "excluded"
HELD_BACK: Final = "back-pressure"
_TOKENS_MAX = 0xFFFF_FFFF  # the protocol carries u32
_new = tuple.__new__  # takes a third of what the constructor of a named tuple takes
_AGES_REFRESH_S = 0.001  # ages are a matter of tenths of a second
_REMEMBERED_MAX = 1024  # models, and orders of endpoints


class NoEndpoint(StrEnum):
    """Why nothing could be chosen."""

    EMPTY = "the pool has no endpoints"
    NONE_READY = "no endpoint of the pool is ready"
    FILTERED = "what hints and filters leave of the pool is not ready"


class Decision(NamedTuple):
    row: int
    address: str
    endpoints: str  # comma-separated addresses, best first: value of the destination header
    charged_uncached: int
    charged_context: int
    prompt_tokens: float = 0.0  # the estimate that it rests on
    reason: str = ""  # why the first one, where the pool asks for it


class Weighed(NamedTuple):
    """One request rated. The columns are live: rated again, it may come out otherwise."""

    request: Request
    endpoints: Endpoints
    costs: Floats  # (N,), the lowest wins
    candidates: Bools | None  # (N,), who may be chosen; None: everyone
    removals: tuple[Removal, ...]  # who was dropped by what, in order
    terms: tuple[Floats | None, ...]  # raw values, in the order of `Profile.terms`


class _Model(NamedTuple):
    """What holds for one model until endpoints come, go or tell something else."""

    mask: Bools | None  # rows that may be chosen; None when all may
    adapter: bool
    removals: tuple[Removal, ...]


class PoolScheduler:
    """Decides for one pool until the next configuration. `rng` is the pool's own. `reasons`:
    decisions say why.
    """

    def __init__(
        self,
        data: PoolData,
        profile: Profile,
        rng: Random,
        *,
        recorder: PoolRecorder | None = None,
        reasons: bool = False,
        fallback_max: int = 3,
    ) -> None:
        self._data = data
        self.profile = profile
        self._single, self._choose = profile.single, profile.picker.choose
        self._learners = profile.learners
        self._recorder, self._reasons = recorder, reasons
        self._rng: Random = rng if recorder is None else recorder.tape
        self._count = fallback_max + 1
        self._drawn = 0
        self._sequence = 0
        self._aged_at_s = self._now_s = float("-inf")
        self._view = data.table.view()
        self._hints = AddressHints(data.table.addresses)
        self._revision = -1  # of the catalog, for which `_models` holds
        self._models: dict[str, _Model] = {}
        self._shares = _shares(self._view)
        self._named: dict[tuple[int, ...], str] = {}
        self._scale = np.array(1.0)  # as an array, because a ufunc takes it faster than a float

    def knows(self, model: str) -> bool | None:
        """Whether an endpoint serves the model; None while not all of them have told."""
        return self._data.layer.catalog.knows(model, self._data.table.addresses)

    def decide(
        self,
        pick: PickRequest,
        *,
        filter_id: int,
        now_s: float,
        priority: int = 0,
        model: str = "",
    ) -> Decision | NoEndpoint:
        """`model`: the name after a rewrite; empty = as the client asked."""
        weighed = self.weigh(pick, now_s, priority, model)
        rows = self.choose(weighed)
        return self.place(weighed, rows, filter_id) if rows else self.nobody(weighed)

    def weigh(self, pick: PickRequest, now_s: float, priority: int = 0, model: str = "") -> Weighed:
        """Rates the request. Nothing changes but what is random."""
        if self._recorder is not None:
            self._recorder.tape.draws = []
        data = self._data
        layer, table, prefix = data.layer, data.table, data.prefix
        model = model or pick.model
        if now_s >= layer.health.due_s:
            layer.health.advance(now_s)
        view = table.view()
        self._now_s = now_s
        if view is not self._view or not 0.0 <= now_s - self._aged_at_s < _AGES_REFRESH_S:
            table.refresh_ages(now_s)
            self._aged_at_s = now_s
        known = self._models.get(model)
        if known is None or view is not self._view or layer.catalog.revision != self._revision:
            known = self._know(model, view)
        estimate = layer.estimates.of(model)
        output = estimate.output_tokens
        if 0 < pick.max_tokens < output:
            output = float(pick.max_tokens)
        prompt_bytes = pick.prompt_bytes
        prompt = prompt_bytes / estimate.bytes_per_token
        if prompt < 1.0:
            prompt = 1.0
        matched = prefix.match(pick.hashes, model)
        if matched is not prefix.nothing and prompt_bytes > 0:
            # The blocks matched are at most the prompt; an engine always computes its last token.
            self._scale[()] = (prompt - 1.0) / prompt_bytes
            multiply(matched, self._scale, matched)  # it was made for this request
        mask, adapter, removals = known
        subset, exclude = pick.subset, pick.exclude
        if subset is not None or exclude:
            mask, removals = self._hinted(known, subset, exclude)
        if self._shares is not None:
            mask, removals = self._share_out(self._shares, mask, removals)
        tiers = data.lora.tiers(model) if adapter else None
        request = _new(Request, (prompt, output, priority, matched, tiers, model, mask, pick))
        if self._single is not None:
            costs = self._single(request, view, self._sequence, self._rng)
            return _new(Weighed, (request, view, costs, mask, removals, (costs,)))
        request, removals = self.profile.filter(request, view, removals)
        costs, terms = self.profile.rate(request, view, self._sequence, self._rng)
        return _new(Weighed, (request, view, costs, request.candidates, removals, terms))

    def choose(self, weighed: Weighed) -> list[int]:
        """Rows, best first; empty when there is no candidate."""
        if self._recorder is not None:
            self._drawn = len(self._recorder.tape.draws)
        return self._choose(weighed[2], weighed[3], self._rng, count=self._count)

    def choose_again(self, weighed: Weighed) -> list[int]:
        """Instead of what `choose` said, from the same request with fewer candidates."""
        if self._recorder is not None:
            del self._recorder.tape.draws[self._drawn :]
        return self._choose(weighed[2], weighed[3], self._rng, count=self._count)

    def place(
        self, weighed: Weighed, rows: Sequence[int], filter_id: int, held_s: float = 0.0
    ) -> Decision:
        """Charges the first row and remembers it. `rows`: at least one, the others fallbacks.
        `held_s`: how long the request has waited for its turn.
        """
        if self._recorder is not None:
            self._recorder.chosen(weighed, rows, filter_id, self._sequence, self._aged_at_s, held_s)
        data, request = self._data, weighed[0]
        prompt, output, _, matched, tiers, model, _, pick = request  # a third of reading by name
        layer, table = data.layer, data.table
        row = rows[0]
        address = table.addresses[row]
        uncached = int(prompt - matched.item(row) + 0.5) or 1
        context = int(prompt + output + 0.5)
        if context > _TOKENS_MAX:  # and so it may be with `uncached`, which is never more
            uncached, context = min(uncached, _TOKENS_MAX), _TOKENS_MAX
        self._sequence += 1
        table.count_pick(row)
        waited_s = self._now_s - pick.received_ns * 1e-9
        charge = Charge(address, model, uncached, context, pick.prompt_bytes, prompt, waited_s)
        if not pick.streamed:
            charge.streamed, charge.began = False, table.moment(row)
        if tiers is not None:
            charge.teaches = tiers.item(row) == RESIDENT
        layer.in_flight.place(filter_id, pick.stream, charge)
        if layer.kv_events.engines:
            charge.prompt = layer.kv_events.placed(address, pick.hashes, self._aged_at_s)
        if layer.health.watched:  # the ages are of now
            layer.health.placed(address, (filter_id, pick.stream), self._aged_at_s)
        if tiers is not None:
            layer.lora.placed(address, model)
        data.prefix.insert(row, pick.hashes, model)
        for plugin in self._learners:
            plugin.placed(request, weighed.endpoints, row)
        order = tuple(rows)
        endpoints = self._named.get(order) or self._name(order)
        why = reason(self.profile, weighed, rows) if self._reasons else ""
        return _new(Decision, (row, address, endpoints, uncached, context, prompt, why))

    def refused(self, weighed: Weighed) -> None:
        """The request goes nowhere, although somebody could be chosen."""
        if self._recorder is not None:
            self._recorder.nobody(weighed, self._sequence)

    def nobody(self, weighed: Weighed) -> NoEndpoint:
        """Why there was nothing to choose from."""
        self.refused(weighed)
        if not len(weighed.endpoints):
            return NoEndpoint.EMPTY
        return NoEndpoint.FILTERED if weighed.endpoints.ready.any() else NoEndpoint.NONE_READY

    def _hinted(
        self, known: _Model, subset: str | None, exclude: str
    ) -> tuple[Bools | None, tuple[Removal, ...]]:
        """The candidates, less those that hints rule out."""
        mask, removals = known.mask, []
        if subset is not None:
            removals.append(Removal(NOT_IN_SUBSET, self._hints.rows(subset)))
        if exclude:
            removals.append(Removal(EXCLUDED, ~self._hints.rows(exclude)))
        for removal in removals:
            mask = removal.keep if mask is None else mask & removal.keep
        return mask, (*known.removals, *removals)

    def _know(self, model: str, view: Endpoints) -> _Model:
        catalog = self._data.layer.catalog
        if catalog.revision != self._revision or view.ready is not self._view.ready:
            self._models.clear()
        if view.weight is not self._view.weight:
            self._shares = _shares(view)
        self._revision, self._view = catalog.revision, view
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= _REMEMBERED_MAX:
                self._models.clear()
            known = self._models[model] = self._new_model(model, view.ready)
        return known

    def _new_model(self, model: str, ready: Bools) -> _Model:
        data = self._data
        serving = np.array(data.layer.catalog.serving(model, data.table.addresses), dtype=np.bool_)
        readiness = data.table.readiness
        removals = [Removal(by, keep) for by, keep in readiness.removals()]
        removals.append(Removal(NOT_SERVING, serving))
        mask = ready & serving
        if not mask.any():
            spared = readiness.available & serving
            if spared.any():  # rather an ejected one that has the model than one without it
                mask = spared
                removals = [one for one in removals if one.by != Unready.EJECTED]
            else:  # whoever lists the model is not ready: another may know it too
                mask = ready
                del removals[-1]
        adapter = data.layer.catalog.is_adapter(model)
        dropping = tuple(removal for removal in removals if not removal.keep.all())
        return _Model(None if mask.all() else mask, adapter, dropping)

    def _share_out(
        self, shares: Floats, mask: Bools | None, removals: tuple[Removal, ...]
    ) -> tuple[Bools | None, tuple[Removal, ...]]:
        """Lets endpoints under back-pressure take part with the chance of their weight, as long as
        somebody is left.
        """
        taking_part = self._rng.random(len(shares)) < shares
        left = taking_part if mask is None else taking_part & mask
        if taking_part.all() or not left.any():
            return mask, removals
        return left, (*removals, Removal(HELD_BACK, taking_part))

    def _name(self, order: tuple[int, ...]) -> str:
        """The destination header. Rows come in the same orders again and again."""
        if len(self._named) >= _REMEMBERED_MAX:
            self._named.clear()
        addresses = self._data.table.addresses
        named = self._named[order] = ",".join([addresses[row] for row in order])
        return named


def _shares(view: Endpoints) -> Floats | None:
    """The weights; None when all are whole."""
    return None if (view.weight >= 1.0).all() else view.weight
