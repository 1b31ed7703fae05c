"""The terms of the marginal cost that depend on load, as few array operations.

Both classes compute, with the names of marginal_cost.py,

    w_T·(t_1 + W + p) + Ô·itl + w_E·n·p

`Alike` for endpoints with the same constants, `Unlike` for a row of its own each, which takes a
little longer. With g = w_T/w_E and m = matched:

    w_T·p + w_E·n·p = w_E·(n + g)·p        p = L/R + a_q·L²/2 - (m/R + a_q·m²/2)

so that, but for what a match saves, the cost is linear in the rows of `Endpoints.load` (n, pending,
A, ones). Invariant: the two agree where all constants are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, cast

import numpy as np
from numpy import add, copyto, multiply, subtract

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request
    from inferway.picker.scheduling.engine_constants import EngineColumns, EngineConstants

FIRST_TOKEN_WEIGHT: Final = 4.0  # w_T
STALL_WEIGHT: Final = 1.0  # w_E
_RATIO = FIRST_TOKEN_WEIGHT / STALL_WEIGHT  # g
# A larger product would wake the threads of the linear algebra library, which spin afterwards.
_PRODUCT_MAX = 9_000


class Terms(Protocol):
    """For endpoints of one number, whose load alone changes."""

    def cost(self, request: Request, endpoints: Endpoints) -> Floats:
        """Seconds, shape (N,); the caller owns it."""
        ...


class Alike:
    """In one product: of the load, and, with a match, of the two rows that it adds."""

    def __init__(self, count: int, constants: EngineConstants) -> None:
        self._constants = k = constants
        self._first_s = FIRST_TOKEN_WEIGHT * k.first_token_s
        self._token_s = STALL_WEIGHT / k.prefill_tokens_per_s
        self._pair_s = STALL_WEIGHT * k.attention_s / 2.0
        # Of the rows of `Endpoints.load`, and of the two that `_columns_with` adds.
        pending_s = FIRST_TOKEN_WEIGHT / k.prefill_tokens_per_s
        self._factors = np.array([0.0, pending_s, 0.0, 0.0, -_RATIO, -1.0])
        self._load_factors = self._factors[:4]
        self._factor = cast("memoryview[float]", self._factors.data)
        # As arrays, because a ufunc takes them in half the time of a float.
        self._token, self._pair = np.array(self._token_s), np.array(self._pair_s)
        self._nothing = bytes(8 * count)
        self._small = 6 * count <= _PRODUCT_MAX
        self._columns = np.zeros((6, count))
        self._load, self._in_flight = self._columns[:4], self._columns[0]
        self._saved, self._stalled = self._columns[4:]

    def cost(self, request: Request, endpoints: Endpoints) -> Floats:
        k, length, output = self._constants, request.prompt_tokens, request.output_tokens
        prefill_s = length * (self._token_s + length * self._pair_s)
        matched = request.matched_tokens
        factors, columns = self._load_factors, endpoints.load
        if matched.tobytes() != self._nothing:  # an eighth of what any() takes
            factors, columns = self._factors, self._columns_with(endpoints, matched)
        factor = self._factor
        factor[0] = prefill_s + output * k.sequence_s
        factor[2] = output * k.context_token_s
        factor[3] = self._first_s + output * k.step_s + _RATIO * prefill_s
        cost: Floats = (
            factors.dot(columns) if self._small else np.einsum("i,ij->j", factors, columns)
        )
        return cost

    def _columns_with(self, endpoints: Endpoints, matched: Floats) -> Floats:
        """The load, then s = w_E·(m/R + a_q/2·m²), which the match saves, and n·s; shape (6, N),
        valid until the next call.
        """
        saved = self._saved
        copyto(self._load, endpoints.load)
        multiply(matched, self._pair, saved)
        add(saved, self._token, saved)
        multiply(saved, matched, saved)
        multiply(saved, self._in_flight, self._stalled)
        return self._columns


class Unlike:
    """In two products: the factors of the load of each endpoint are linear in Ô, L, L²/2 and 1."""

    def __init__(self, constants: EngineColumns) -> None:
        k, count = constants, len(constants)
        zeros = np.zeros(count)
        first_s = FIRST_TOKEN_WEIGHT * k.first_token_s
        token_s, pair_s = k.prefill_token_s, k.attention_s
        # One row per quantity of the request, one block of N per row of the load.
        self._table = np.block(
            [
                [k.sequence_s, zeros, k.context_token_s, k.step_s],  # Ô
                [STALL_WEIGHT * token_s, zeros, zeros, FIRST_TOKEN_WEIGHT * token_s],  # L
                [STALL_WEIGHT * pair_s, zeros, zeros, FIRST_TOKEN_WEIGHT * pair_s],  # L²/2
                [zeros, FIRST_TOKEN_WEIGHT * token_s, zeros, first_s],
            ]
        )
        self._quantities = np.array([0.0, 0.0, 0.0, 1.0])
        self._quantity = cast("memoryview[float]", self._quantities.data)
        self._small = self._table.size <= _PRODUCT_MAX
        self._token_s, self._pair_s = STALL_WEIGHT * token_s, STALL_WEIGHT * pair_s / 2.0
        self._ratio = np.array(_RATIO)
        self._shape = (4, count)
        self._nothing = bytes(8 * count)
        self._saved, self._stalled = np.zeros(count), np.zeros(count)

    def cost(self, request: Request, endpoints: Endpoints) -> Floats:
        length, matched = request.prompt_tokens, request.matched_tokens
        quantity = self._quantity
        quantity[0], quantity[1] = request.output_tokens, length
        quantity[2] = length * length / 2.0
        factors = (
            self._quantities.dot(self._table)
            if self._small
            else np.einsum("i,ij->j", self._quantities, self._table)
        ).reshape(self._shape)
        cost: Floats = np.einsum("ij,ij->j", factors, endpoints.load)
        if matched.tobytes() != self._nothing:
            saved, stalled = self._saved, self._stalled
            multiply(matched, self._pair_s, saved)
            add(saved, self._token_s, saved)
            multiply(saved, matched, saved)
            add(endpoints.load[0], self._ratio, stalled)
            multiply(saved, stalled, saved)
            subtract(cost, saved, cost)
        return cost
