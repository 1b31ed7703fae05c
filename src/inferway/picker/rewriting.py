"""Which model serves a request for a name that several may serve.

Problem: a name is split by weight between versions of a model, at random or so that one session or
user keeps its version, also while the weights are being changed. Model: every request is a point in
[0, 1), drawn or hashed from the name and whoever is to be kept; the targets, in their order, share
that range by weight. So the same user meets the same version, and when weights change only those
move whose point changes hands: with two targets exactly the difference of the shares. Points of
different names are independent, so that the same users do not try everything new.

Pure but for the generator it is given. A request without a model, or one that says nobody to keep
to, is drawn.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from inferway.picker.config import RewriteConfig
    from inferway.picker.scheduling.contracts import Random

_POINTS = 2.0**-64


class Asked(Protocol):
    """The part of `_native.Pick` that is needed here."""

    @property
    def model(self) -> str: ...
    @property
    def session(self) -> str: ...
    @property
    def fairness(self) -> str: ...


class _Split(NamedTuple):
    models: tuple[str, ...]
    bounds: tuple[float, ...]  # where each target's part of [0, 1) ends, without the last
    sticky: str


class Rewriter:
    """The rewrites of one pool. `hash_of` maps a text to 64 well-mixed bits."""

    def __init__(
        self, rewrites: Iterable[RewriteConfig], rng: Random, hash_of: Callable[[str], int]
    ) -> None:
        splits = {one.model: _split(one) for one in rewrites}
        self._every_other = splits.pop("", None)
        self._splits = splits
        self._rng = rng
        self._hash_of = hash_of

    def target(self, asked: Asked) -> str:
        """The model to send; the one that was asked for where no rewrite fits."""
        name = asked.model
        split = self._splits.get(name, self._every_other)
        if split is None or not name:
            return name
        if not split.bounds:
            return split.models[0]
        return split.models[bisect_right(split.bounds, self._point(split.sticky, asked))]

    def _point(self, sticky: str, asked: Asked) -> float:
        kept = ""
        if sticky == "session":
            kept = asked.session
        elif sticky == "user":
            kept = asked.fairness
        if not kept:
            return self._rng.random()
        return self._hash_of(f"{asked.model}\0{kept}") * _POINTS


def _split(rewrite: RewriteConfig) -> _Split:
    weights = [weight for _, weight in rewrite.targets]
    total = sum(weights)
    ends = [end / total for end in accumulate(weights)]
    models = tuple(model for model, _ in rewrite.targets)
    return _Split(models, tuple(ends[:-1]), rewrite.sticky)
