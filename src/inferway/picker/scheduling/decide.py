"""One decision: from a PICK to an ordered list of endpoints, with everything charged.

Problem: requests of one batch must not see the same idle endpoint; what one decision changes, the
next must see. Model: `PoolScheduler` binds a pool's stores to a policy; `decide` estimates the
request, asks the policy for costs, chooses, charges the choice and inserts its prompt into the
prefix index before it returns. Invariants: an endpoint that is not ready, or that lists its models
and not this one while another does, is never chosen; the charge is exactly what the decision
carries. It does not queue, rewrite or reject: the caller does, before.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy import multiply

from inferway.picker.datalayer.accounting import Charge
from inferway.picker.scheduling.contracts import Request
from inferway.picker.scheduling.select import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inferway.picker.datalayer.state import PoolData
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Policy, Random

_TOKENS_MAX = 0xFFFF_FFFF  # the protocol carries u32
_new = tuple.__new__  # takes a third of what the constructor of a named tuple takes
_AGES_REFRESH_S = 0.001  # ages are a matter of tenths of a second
_REMEMBERED_MAX = 1024  # models, and orders of endpoints


class PickRequest(Protocol):
    """The part of `_native.Pick` that a decision needs."""

    @property
    def stream(self) -> int: ...
    @property
    def prompt_bytes(self) -> int: ...
    @property
    def max_tokens(self) -> int: ...
    @property
    def model(self) -> str: ...
    @property
    def hashes(self) -> NDArray[np.uint64]: ...


class NoEndpoint(StrEnum):
    """Why nothing could be chosen."""

    EMPTY = "the pool has no endpoints"
    NONE_READY = "no endpoint of the pool is ready"


class Decision(NamedTuple):
    row: int
    address: str
    endpoints: str  # comma-separated addresses, best first: value of the destination header
    charged_uncached: int
    charged_context: int
    prompt_tokens: float = 0.0  # the estimate that it rests on


class _Model(NamedTuple):
    """What holds for one model until endpoints come, go or tell something else."""

    mask: Bools | None  # rows that may be chosen; None when all may
    adapter: bool


class PoolScheduler:
    """Decides for one pool until the next configuration. `rng` is the pool's own."""

    def __init__(
        self, data: PoolData, policy: Policy, rng: Random, *, fallback_max: int = 3
    ) -> None:
        self._data = data
        self._policy = policy
        self._rng = rng
        self._fallback_max = fallback_max
        self._sequence = 0
        self._aged_at_s = float("-inf")
        self._view = data.table.view()
        self._revision = -1  # of the catalog, for which `_models` holds
        self._models: dict[str, _Model] = {}
        self._named: dict[tuple[int, ...], str] = {}
        self._scale = np.array(1.0)  # as an array, because a ufunc takes it faster than a float

    @property
    def policy(self) -> Policy:
        return self._policy

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
        data = self._data
        layer, table, prefix = data.layer, data.table, data.prefix
        model = model or pick.model
        hashes = pick.hashes
        view = table.view()
        if view is not self._view or not 0.0 <= now_s - self._aged_at_s < _AGES_REFRESH_S:
            table.refresh_ages(now_s)
            self._aged_at_s = now_s
        known = self._models.get(model)
        if known is None or view is not self._view or layer.catalog.revision != self._revision:
            known = self._know(model, view)
        request = self._request(pick, prefix.match(hashes, model), model, priority, known)
        costs = self._policy.cost(request, view, self._sequence, self._rng)
        rows = choose(costs, known.mask, self._rng, fallback_max=self._fallback_max)
        if not rows:
            return NoEndpoint.NONE_READY if len(table) else NoEndpoint.EMPTY
        row = rows[0]
        address = table.addresses[row]
        prompt = request.prompt_tokens
        uncached = int(prompt - request.matched_tokens.item(row) + 0.5) or 1
        context = int(prompt + request.output_tokens + 0.5)
        if context > _TOKENS_MAX:  # and so it may be with `uncached`, which is never more
            uncached, context = min(uncached, _TOKENS_MAX), _TOKENS_MAX
        self._sequence += 1
        table.count_pick(row)
        charge = Charge(address, model, uncached, context, pick.prompt_bytes)
        layer.in_flight.place(filter_id, pick.stream, charge)
        if known.adapter:
            layer.lora.placed(address, model)
        prefix.insert(row, hashes, model)
        order = tuple(rows)
        endpoints = self._named.get(order) or self._name(order)
        return _new(Decision, (row, address, endpoints, uncached, context, prompt))

    def _request(
        self, pick: PickRequest, matched: Floats, model: str, priority: int, known: _Model
    ) -> Request:
        estimate = self._data.layer.estimates.of(model)
        output = estimate.output_tokens
        if 0 < pick.max_tokens < output:
            output = float(pick.max_tokens)
        prompt_bytes = pick.prompt_bytes
        prompt = prompt_bytes / estimate.bytes_per_token
        if prompt < 1.0:
            prompt = 1.0
        if matched is not self._data.prefix.nothing and prompt_bytes > 0:
            # The blocks matched are at most the prompt; an engine always computes its last token.
            self._scale[()] = (prompt - 1.0) / prompt_bytes
            multiply(matched, self._scale, matched)  # it was made for this request
        tiers = self._data.lora.tiers(model) if known.adapter else None
        return _new(Request, (prompt, output, priority, matched, tiers))

    def _know(self, model: str, view: Endpoints) -> _Model:
        catalog = self._data.layer.catalog
        if catalog.revision != self._revision or view.ready is not self._view.ready:
            self._models.clear()
        self._revision, self._view = catalog.revision, view
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= _REMEMBERED_MAX:
                self._models.clear()
            known = _Model(self._mask(model, view.ready), catalog.is_adapter(model))
            self._models[model] = known
        return known

    def _mask(self, model: str, ready: Bools) -> Bools | None:
        """Rows that may be chosen for the model; None when all may."""
        data = self._data
        serving = data.layer.catalog.serving(model, data.table.addresses)
        mask = ready & np.array(serving, dtype=np.bool_)
        if not mask.any():  # whoever lists the model is not ready: another may know it too
            mask = ready
        return None if mask.all() else mask

    def _name(self, order: tuple[int, ...]) -> str:
        """The destination header. Rows come in the same orders again and again."""
        if len(self._named) >= _REMEMBERED_MAX:
            self._named.clear()
        addresses = self._data.table.addresses
        named = self._named[order] = ",".join([addresses[row] for row in order])
        return named
