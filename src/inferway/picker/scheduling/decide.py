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

from inferway.picker.datalayer.accounting import Charge
from inferway.picker.scheduling.contracts import Request
from inferway.picker.scheduling.select import choose

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inferway.picker.datalayer.state import PoolData
    from inferway.picker.scheduling.contracts import Bools, Floats, Policy, Random

_TOKENS_MAX = 0xFFFF_FFFF  # the protocol carries u32
_MASKS_MAX = 1024


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
        self._masks: dict[str, Bools | None] = {}
        self._masks_of: tuple[int, Bools] | None = None

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
        data, layer = self._data, self._data.layer
        table = data.table
        model = model or pick.model
        if now_s != self._aged_at_s:
            table.refresh_ages(now_s)
            self._aged_at_s = now_s
        request = self._request(pick, model, priority)
        costs = self._policy.cost(request, table.view(), self._sequence, self._rng)
        rows = choose(costs, self._mask(model), self._rng, fallback_max=self._fallback_max)
        if not rows:
            return NoEndpoint.NONE_READY if len(table) else NoEndpoint.EMPTY
        row = rows[0]
        addresses = table.addresses
        address = addresses[row]
        prompt = request.prompt_tokens
        uncached = _tokens(prompt - request.matched_tokens.item(row))
        context = _tokens(prompt + request.output_tokens)
        self._sequence += 1
        table.count_pick(row)
        charge = Charge(address, model, uncached, context, pick.prompt_bytes)
        layer.in_flight.place(filter_id, pick.stream, charge)
        if request.adapter_tier is not None:
            layer.lora.placed(address, model)
        data.prefix.insert(row, pick.hashes, model)
        endpoints = ",".join([addresses[row] for row in rows])
        return Decision(row, address, endpoints, uncached, context)

    def _request(self, pick: PickRequest, model: str, priority: int) -> Request:
        layer = self._data.layer
        estimate = layer.estimates.of(model)
        output = estimate.output_tokens
        if 0 < pick.max_tokens < output:
            output = float(pick.max_tokens)
        prompt = max(1.0, pick.prompt_bytes / estimate.bytes_per_token)
        matched: Floats = self._data.prefix.match(pick.hashes, model)
        if pick.prompt_bytes > 0 and len(pick.hashes):
            # The blocks matched are at most the prompt; an engine always computes its last token.
            matched = matched * ((prompt - 1.0) / pick.prompt_bytes)
        tiers = self._data.lora.tiers(model) if layer.catalog.is_adapter(model) else None
        return Request(prompt, output, priority, matched, tiers)

    def _mask(self, model: str) -> Bools | None:
        """Rows that may be chosen for the model; None when all may."""
        catalog, table = self._data.layer.catalog, self._data.table
        ready = table.view().ready
        of = self._masks_of
        if of is None or of[0] != catalog.revision or of[1] is not ready:
            self._masks_of = (catalog.revision, ready)
            self._masks = {}
        if model not in self._masks:
            if len(self._masks) >= _MASKS_MAX:
                self._masks.clear()
            mask = ready & np.array(catalog.serving(model, table.addresses), dtype=np.bool_)
            if not mask.any():  # whoever lists the model is not ready: another may know it too
                mask = ready
            self._masks[model] = None if mask.all() else mask
        return self._masks[model]


def _tokens(estimate: float) -> int:
    """A charge: a whole number from 1 to what the protocol can carry."""
    tokens = int(estimate + 0.5) or 1
    return tokens if tokens < _TOKENS_MAX else _TOKENS_MAX  # noqa: FURB136 - min() costs more
