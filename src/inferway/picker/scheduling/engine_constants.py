"""What an engine needs for a token, in the terms of the marginal cost.

Problem: costs and predictions in seconds need the engine's speed, which no metric tells. Model:
`EngineConstants` are those of one endpoint: shipped ones until its answers have taught better
(datalayer/calibration.py). `EngineColumns` holds them for all endpoints of a pool, and tells when
all are alike, which makes a cost cheaper to compute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EngineConstants:
    """Llama-3.1-8B in bf16 on one H100: the smallest engine in wide use.

    Derived from its published compute and bandwidth. The ranking bears errors of a factor of two
    in either direction, and the ratios that decide (prefill against step time against cache read)
    are alike on larger engines: Qwen3-32B on two H100 has 16.6k, 16 ms, 76 ns.
    """

    prefill_tokens_per_s: float = 31_000.0  # R
    attention_s: float = 1.3e-9  # a_q, per pair of tokens
    first_token_s: float = 0.025  # t_1: what a first token takes beyond its prefill
    step_s: float = 7.7e-3  # t_f + t_w: one decode step of a batch of one
    context_token_s: float = 76e-9  # b_kv, per context token and step
    sequence_s: float = 8e-6  # b_seq, per sequence and step
    adapter_load_s: float = 0.02  # rank 16 from host memory: 1.5 ms + 32 MB at 2 GB/s


SHIPPED: Final = EngineConstants()


class EngineColumns:
    """The constants of a pool's endpoints, each a column of shape (N,). Never changes."""

    __slots__ = ("alike", "rows")

    def __init__(self, rows: Floats) -> None:
        """`rows`: shape (6, N), in the order of the properties; it is not copied."""
        self.rows = rows
        self.alike = bool((rows == rows[:, :1]).all())  # all endpoints have the same constants

    @classmethod
    def of(cls, constants: Sequence[EngineConstants]) -> EngineColumns:
        return cls(np.array([column(one) for one in constants]).reshape(-1, 6).T.copy())

    @classmethod
    def shipped(cls, count: int) -> EngineColumns:
        return cls(np.repeat(np.array([column(SHIPPED)]).T, count, axis=1))

    def __len__(self) -> int:
        return len(self.rows[0])

    @property
    def first(self) -> EngineConstants:
        """Of the first endpoint."""
        token_s, attention_s, first_token_s, step_s, context_token_s, sequence_s = self.rows[
            :, 0
        ].tolist()
        return EngineConstants(
            1.0 / token_s, attention_s, first_token_s, step_s, context_token_s, sequence_s
        )

    @property
    def prefill_token_s(self) -> Floats:
        """1/R."""
        return self._row(0)

    @property
    def attention_s(self) -> Floats:
        return self._row(1)

    @property
    def first_token_s(self) -> Floats:
        return self._row(2)

    @property
    def step_s(self) -> Floats:
        return self._row(3)

    @property
    def context_token_s(self) -> Floats:
        return self._row(4)

    @property
    def sequence_s(self) -> Floats:
        return self._row(5)

    def _row(self, index: int) -> Floats:
        row: Floats = self.rows[index]
        return row


def column(constants: EngineConstants) -> tuple[float, float, float, float, float, float]:
    """One endpoint's place in `EngineColumns.rows`."""
    return (
        1.0 / constants.prefill_tokens_per_s,
        constants.attention_s,
        constants.first_token_s,
        constants.step_s,
        constants.context_token_s,
        constants.sequence_s,
    )
