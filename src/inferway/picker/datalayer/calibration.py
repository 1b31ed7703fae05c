"""The engine constants of every endpoint, learnt from the answers that it gave.

Problem: costs in seconds need to know how fast an engine is; no metric tells, accelerators differ,
and what is observed is noisy. Model: two small regressions per endpoint (least_squares.py). Time
per output token, averaged over a request's decode phase, has four terms, all counted by ourselves:

    itl  = f₀·(t_step + b_seq·n) + f₁·b_kv·A + f₂·Q/R + f₃·a_q·Q₂

    n, A   requests and context tokens in flight there, mean of the phase's start and end
    Q, Q₂  prompt tokens, and pairs u·(L - u/2), prefilled there for others, per output token

Q is what decodes wait for while prompts are computed, so that the quiet signal of an answer under
way tells how fast prefill is. Time to first token then has two:

    ttft = g₀·(f₂·(pending + u)/R + f₃·a_q·u·(L - u/2)) + g₁·t_1

An endpoint's prior is its class (pool, engine and accelerator, where a label tells it), and the
class's the shipped constants. While the class explains an endpoint's answers, the endpoint has the
constants of its class: then noise prefers none of several equal endpoints. With the root mean
square δ of the relative difference of what the two fits predict for what is remembered,

    used = class + b·(own - class)        b rises from 0 to 1 as δ passes through a narrow range

so that accelerators that no label tells apart come out right all the same.

Invariants: a coefficient stays within a factor BOUND of what is shipped; nothing is learnt before a
batch is full; an endpoint that restarts, or that has taught nothing for IDLE_S (perhaps it gets
nothing because of what was learnt), starts from its class again. What counts as an observation is
for latency_samples.py to say. No clock is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from inferway.picker.datalayer.least_squares import Memory, prior, screened
from inferway.picker.scheduling.engine_constants import SHIPPED, EngineConstants, column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.picker.datalayer.least_squares import Floats

BATCH: Final = 16  # observations that are learnt from together
BOUND: Final = 100.0
IDLE_S: Final = 300.0
_CHANGE_MIN = 0.02  # of a class, for its endpoints to hear of it
_KEEP = 0.96  # an endpoint and a class remember about 400 observations
# Inter-token times are quiet (a few per cent); first tokens wait for the step under way.
_INTER_TOKEN_PULL = prior(4, scale=0.01, proportions=0.05)
_FIRST_TOKEN_PULL = prior(2, scale=0.25, proportions=1.0).tolist()
# From where to where b rises. Equal engines stay below in all but the shortest histories.
_INTER_TOKEN_APART = (0.05, 0.1)
_FIRST_TOKEN_APART = (0.12, 0.2)
_SHIPPED_PREFILL_S = 1.0 / SHIPPED.prefill_tokens_per_s


class _Fit:
    """Both regressions, of an endpoint or of a class."""

    __slots__ = ("_first_token", "_inter_token", "inter", "scales")

    def __init__(self, start: _Fit | None) -> None:
        self._inter_token = Memory(4, keep=_KEEP)
        self._first_token = Memory(3, keep=_KEEP)
        self.inter: Floats = np.ones(4) if start is None else start.inter  # f
        self.scales: tuple[float, float] = (1.0, 1.0) if start is None else start.scales  # g

    @property
    def first(self) -> Floats:
        """Of prefill, attention and the fixed part, in the time to first token."""
        work, fixed = self.scales
        _, _, prefill, attention = self.inter.tolist()
        return np.array([work * prefill, work * attention, fixed])

    def learn_inter_token(self, table: Floats, start: _Fit) -> None:
        self._inter_token.absorb(table)
        self.inter = self._inter_token.solve(
            start.inter, _INTER_TOKEN_PULL, low=1.0 / BOUND, high=BOUND
        )
        self._solve_first_token(start)  # its work term has f in it

    def learn_first_token(self, table: Floats, start: _Fit) -> None:
        self._first_token.absorb(table)
        self._solve_first_token(start)

    def used(self, start: _Fit) -> tuple[Floats, Floats] | None:
        """Factors of f, and of `first`; None: those of its class, which is `start`."""
        own, shared = self.first, start.first
        inter = _share(self._inter_token.apart(self.inter, start.inter), *_INTER_TOKEN_APART)
        first = _share(self._first_token.apart(own, shared), *_FIRST_TOKEN_APART)
        if inter == first == 0.0:
            return None
        return start.inter + inter * (self.inter - start.inter), shared + first * (own - shared)

    def _solve_first_token(self, start: _Fit) -> None:
        """As `Memory.solve`, for two coefficients in plain numbers: a fifth of the time."""
        (p, pa, pc, py), (_, a, ac, ay), (_, _, c, cy), _ = self._first_token.products.tolist()
        _, _, prefill, attention = self.inter.tolist()
        work, fixed = start.scales
        (pull, across), _ = _FIRST_TOKEN_PULL
        ww = prefill * (prefill * p + 2.0 * attention * pa) + attention * attention * a + pull
        wc = prefill * pc + attention * ac + across
        cc = c + pull
        wy = prefill * py + attention * ay + pull * work + across * fixed
        cy += across * work + pull * fixed
        work = (wy * cc - cy * wc) / (ww * cc - wc * wc)
        fixed = _bounded((cy - wc * _bounded(work)) / cc)
        self.scales = _bounded((wy - wc * fixed) / ww), fixed


def _bounded(coefficient: float) -> float:
    return min(max(coefficient, 1.0 / BOUND), BOUND)


def _share(apart: float, low: float, high: float) -> float:
    """b of the module's text."""
    return min(max((apart - low) / (high - low), 0.0), 1.0)


def _constants(inter: Floats, first: Floats) -> EngineConstants:
    prefill, attention, fixed = first.tolist()
    step, context, _, _ = inter.tolist()
    return EngineConstants(
        prefill_tokens_per_s=SHIPPED.prefill_tokens_per_s / prefill,
        attention_s=SHIPPED.attention_s * attention,
        first_token_s=SHIPPED.first_token_s * fixed,
        step_s=SHIPPED.step_s * step,
        context_token_s=SHIPPED.context_token_s * context,
        sequence_s=SHIPPED.sequence_s * step,
    )


_AS_SHIPPED: Final = _Fit(None)


class _Class:
    __slots__ = ("constants", "fit", "members")

    def __init__(self) -> None:
        self.fit = _Fit(_AS_SHIPPED)
        self.constants = SHIPPED
        self.members: list[str] = []

    def settle(self) -> bool:
        """Whether its constants moved enough for its endpoints to follow."""
        found = _constants(self.fit.inter, self.fit.first)
        pairs = zip(column(found), column(self.constants), strict=True)
        if all(abs(now - before) <= _CHANGE_MIN * before for now, before in pairs):
            return False
        self.constants = found
        return True


class _Endpoint:
    __slots__ = (
        "dropped",
        "first_token_rows",
        "fit",
        "inter_token_rows",
        "known",
        "observations",
        "own",
        "taught_s",
    )

    def __init__(self, known: _Class) -> None:
        self.known = known
        self.observations = 0
        self.dropped = 0
        self.start_anew()

    def start_anew(self) -> None:
        self.fit = _Fit(self.known.fit)
        self.own: EngineConstants | None = None  # None: those of its class
        self.inter_token_rows: list[tuple[float, ...]] = []
        self.first_token_rows: list[tuple[float, ...]] = []
        self.taught_s: float | None = None

    @property
    def constants(self) -> EngineConstants:
        return self.known.constants if self.own is None else self.own


@dataclass(frozen=True, slots=True)
class Learnt:
    """What there is to show of an endpoint."""

    constants: EngineConstants
    observations: int  # believed
    dropped: int  # not believed


class Calibration:
    """Of all endpoints of one picker."""

    def __init__(self) -> None:
        self._classes: dict[str, _Class] = {}
        self._endpoints: dict[str, _Endpoint] = {}
        self._names: dict[str, str] = {}
        self._changed: dict[str, None] = {}  # addresses, in order

    def rebind(self, classes: Mapping[str, str]) -> None:
        """The endpoints there are from now on: address to name of its class. What was learnt of
        those that stay in their class is kept. All but the shipped constants count as changed.
        """
        names = dict.fromkeys(classes.values())
        self._classes = {name: self._classes.get(name) or _Class() for name in names}
        self._endpoints = {
            address: self._endpoints[address]
            if self._names.get(address) == name
            else _Endpoint(self._classes[name])
            for address, name in classes.items()
        }
        self._names = dict(classes)
        for known in self._classes.values():
            known.members = []
        self._changed = {}
        for address, endpoint in self._endpoints.items():
            endpoint.known.members.append(address)
            if endpoint.constants is not SHIPPED:
                self._changed[address] = None

    def forget(self, address: str) -> None:
        """The engine restarted, and may be another one."""
        endpoint = self._endpoints.get(address)
        if endpoint is not None:
            endpoint.start_anew()
            self._changed[address] = None

    def forget_idle(self, now_s: float) -> None:
        """To be called every few seconds."""
        for address, endpoint in self._endpoints.items():
            if endpoint.taught_s is not None and now_s - endpoint.taught_s > IDLE_S:
                self.forget(address)

    def inter_token(
        self,
        address: str,
        seconds: float,
        *,
        requests: float,
        context_tokens: float,
        prefilled_tokens: float,
        prefilled_pairs: float,
        now_s: float,
    ) -> None:
        """One answer's mean time per output token, above 0, with the terms of the module's text."""
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            return
        endpoint.taught_s = now_s
        rows = endpoint.inter_token_rows
        rows.append(
            (
                SHIPPED.step_s + SHIPPED.sequence_s * requests,
                SHIPPED.context_token_s * context_tokens,
                _SHIPPED_PREFILL_S * prefilled_tokens,
                SHIPPED.attention_s * prefilled_pairs,
                seconds,
            )
        )
        if len(rows) < BATCH:
            return
        endpoint.inter_token_rows = []
        table, dropped = screened(rows, endpoint.fit.inter)
        endpoint.known.fit.learn_inter_token(table, _AS_SHIPPED)
        endpoint.fit.learn_inter_token(table, endpoint.known.fit)
        self._learnt(address, endpoint, dropped)

    def first_token(
        self, address: str, seconds: float, *, tokens: float, pairs: float, now_s: float
    ) -> None:
        """One answer's time to first token, above 0, with tokens = pending + u and
        pairs = u·(L - u/2).
        """
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            return
        endpoint.taught_s = now_s
        rows = endpoint.first_token_rows
        rows.append(
            (
                _SHIPPED_PREFILL_S * tokens,
                SHIPPED.attention_s * pairs,
                SHIPPED.first_token_s,
                seconds,
            )
        )
        if len(rows) < BATCH:
            return
        endpoint.first_token_rows = []
        table, dropped = screened(rows, endpoint.fit.first)
        endpoint.known.fit.learn_first_token(table, _AS_SHIPPED)
        endpoint.fit.learn_first_token(table, endpoint.known.fit)
        self._learnt(address, endpoint, dropped)

    def learnt(self, address: str) -> Learnt | None:
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            return None
        return Learnt(endpoint.constants, endpoint.observations, endpoint.dropped)

    def take_changed(self) -> list[tuple[str, EngineConstants]]:
        """Endpoints whose constants changed since the last call."""
        changed, self._changed = self._changed, {}
        return [(address, self._endpoints[address].constants) for address in changed]

    def _learnt(self, address: str, endpoint: _Endpoint, dropped: int) -> None:
        endpoint.observations += BATCH - dropped
        endpoint.dropped += dropped
        if endpoint.known.settle():
            self._changed.update(dict.fromkeys(endpoint.known.members))
        used = endpoint.fit.used(endpoint.known.fit)
        before, endpoint.own = endpoint.own, None if used is None else _constants(*used)
        if endpoint.own != before:
            self._changed[address] = None
