"""What an answer tells of its engine's speed, if anything.

Problem: a latency is worth learning from only when what made it is known: where the request ran,
since when, with what ahead of it. Model: `learn` takes a charge and the DONE that ended it, and
gives `Calibration` up to two observations. Left out: answers that are not whole (errors, cut off,
clients that left), requests that another endpoint than the picked one answered or that were tried
twice, adapters that had to be loaded, times that no engine has, and all but one answer per PACE_S
and endpoint, because more teach nothing new. The wait for the pick (body upload, guards, the
gateway's own queue) is not the engine's, and subtracted.

A streamed answer gives its time to first token and its mean time per token after it. Of one that
came at once only the whole duration is known: with one token or none (embeddings) it is the first,
else the decode phase is what the predicted first token leaves, where that is most of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from inferway.picker.scheduling.engine_constants import SHIPPED

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from inferway.picker.datalayer.accounting import Charge
    from inferway.picker.datalayer.calibration import Calibration

PACE_S: Final = 0.05
TOKENS_MIN: Final = 8  # fewer do not average out how a stream is cut into packets
_FIRST_TOKEN_MIN_S, _FIRST_TOKEN_MAX_S = 1e-4, 3_600.0
_INTER_TOKEN_MIN_S, _INTER_TOKEN_MAX_S = 2e-5, 10.0  # less: the stream was held back and released
_DECODE_SHARE_MIN = 0.5


class Ended(Protocol):
    """The part of `_native.Done` that is needed here."""

    @property
    def usage(self) -> bool: ...
    @property
    def event_stream(self) -> bool: ...
    @property
    def ttft_us(self) -> int: ...
    @property
    def duration_us(self) -> int: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def completion_tokens(self) -> int: ...
    @property
    def endpoint(self) -> str: ...
    @property
    def attempts(self) -> int: ...
    @property
    def fault(self) -> int: ...


class LatencySamples:
    """`calibration` is taught."""

    def __init__(self, calibration: Calibration) -> None:
        self._calibration = calibration
        self._due_s: dict[str, float] = {}
        self._reports_cached: set[str] = set()

    def rebind(self, addresses: AbstractSet[str]) -> None:
        """Forgets all others."""
        self._due_s = {a: at for a, at in self._due_s.items() if a in addresses}
        self._reports_cached = {a for a in self._reports_cached if a in addresses}

    def learn(self, charge: Charge, done: Ended, now_s: float) -> None:
        """`done` came at `now_s` and is complete and no error."""
        address = charge.address
        if now_s < self._due_s.get(address, now_s) or not _attributable(charge, done):
            return
        self._due_s[address] = now_s + PACE_S
        length, uncached = self._tokens(charge, done)
        pairs = uncached * (length - uncached / 2.0)
        work = charge.ahead_tokens + uncached
        duration_s = done.duration_us * 1e-6 - charge.waited_s
        outputs = done.completion_tokens if done.usage else 0
        if done.event_stream:
            first_s = done.ttft_us * 1e-6 - charge.waited_s
            decode_s = duration_s - first_s
        elif outputs > 1:
            first_s = 0.0  # is not learnt
            decode_s = duration_s - self._predicted_s(address, work, pairs)
            if decode_s < _DECODE_SHARE_MIN * duration_s:
                return
        else:
            first_s, decode_s = duration_s, 0.0
        if outputs >= TOKENS_MIN:
            each_s = decode_s / (outputs - 1)
            if not _INTER_TOKEN_MIN_S <= each_s <= _INTER_TOKEN_MAX_S:
                return  # nor is its first token what it seems
            self._learn_inter_token(charge, each_s, outputs, now_s)
        if _FIRST_TOKEN_MIN_S <= first_s <= _FIRST_TOKEN_MAX_S:
            self._calibration.first_token(address, first_s, tokens=work, pairs=pairs, now_s=now_s)

    def _learn_inter_token(self, charge: Charge, each_s: float, outputs: int, now_s: float) -> None:
        began, ended = charge.began, charge.moment
        if began is None or ended is None:
            return
        # A streamed answer began after its own prompt was computed, with itself in flight; one that
        # comes at once is counted from its placement, before both. When it ends, it is gone.
        if charge.streamed:
            own_tokens, own_pairs, itself = 0.0, 0.0, 0.5
        else:
            own_tokens, own_pairs, itself = float(charge.uncached_tokens), charge.pairs, 1.0
        tokens = ended.prefilled_tokens - began.prefilled_tokens - own_tokens
        pairs = ended.prefilled_pairs - began.prefilled_pairs - own_pairs
        if tokens < 0.0 or pairs < 0.0:
            return  # the address left the pool and came back meanwhile
        context = (began.context_tokens + ended.context_tokens) / 2.0
        self._calibration.inter_token(
            charge.address,
            each_s,
            requests=(began.requests + ended.requests) / 2.0 + itself,
            context_tokens=context + itself * charge.context_tokens,
            prefilled_tokens=tokens / (outputs - 1),
            prefilled_pairs=pairs / (outputs - 1),
            now_s=now_s,
        )

    def _tokens(self, charge: Charge, done: Ended) -> tuple[float, float]:
        """Its prompt, and how much of it was not cached: as the engine reports, else estimated."""
        length, uncached = charge.prompt_tokens, float(charge.uncached_tokens)
        if not done.usage or done.prompt_tokens < 1:
            return length, min(uncached, length)
        if done.cached_tokens:
            self._reports_cached.add(charge.address)
        told = float(done.prompt_tokens)
        if charge.address in self._reports_cached:  # so that its zero means zero
            return told, max(told - done.cached_tokens, 1.0)
        return told, min(uncached * told / length, told)

    def _predicted_s(self, address: str, tokens: float, pairs: float) -> float:
        """The time to first token that is expected of the endpoint."""
        learnt = self._calibration.learnt(address)
        k = SHIPPED if learnt is None else learnt.constants
        return k.first_token_s + tokens / k.prefill_tokens_per_s + pairs * k.attention_s


def _attributable(charge: Charge, done: Ended) -> bool:
    """Whether one endpoint, the picked one, made this answer, and made it whole."""
    return (
        charge.teaches
        and done.endpoint == charge.address
        and done.attempts <= 1
        and not done.fault
        and done.event_stream == charge.streamed
        and charge.prompt_tokens > 0.0  # placed by us
        and charge.waited_s >= 0.0
    )
