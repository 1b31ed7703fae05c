"""Latency: who meets the request's objectives, and by how much.

    headroom = objective - prediction       of TTFT and of TPOT (predictions.py)

    group 0   every objective is met
    group 1   of the others: idle endpoints, which are as fast as they get
    group 2   TPOT is missed, TTFT met
    group 3   TTFT is missed, TPOT met
    group 4   both are missed
    score     = (4 - group + 0.9·within) / 5

`within`, in [0, 1]: the weighted mean of both headrooms, each scaled by the least and the greatest
of the candidates in the same group. With the strategy `least`, group 0 prefers the tightest fit,
which keeps room for stricter requests; with `most` the most headroom. The other groups prefer the
smallest miss. An objective that the request does not have is met, and weighs nothing; a request
without any is ranked by its predictions, the fastest first.

Source: latency-scorer of the reference picker, whose predictions come from a trained model in a
process of its own. Its composite weights are for when that process is away, and mean nothing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
from pydantic import Field

from inferway.picker.scheduling.predictions import Headroom, Predictor, idle

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Floats, Ints, Request

_GROUPS = 5
_GROUP_SPAN = 0.9  # so that the best of a group is behind the worst of the one before


class Latency:
    name = "latency-scorer"

    def __init__(
        self,
        ttft_weight: Annotated[float, Field(ge=0.0)] = 0.8,
        tpot_weight: Annotated[float, Field(ge=0.0)] = 0.2,
        headroom_selection_strategy: Literal["least", "most"] = "least",
    ) -> None:
        self._weights = ttft_weight, tpot_weight
        self._tightest_first = headroom_selection_strategy == "least"
        self._predictor = Predictor()

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        predictor, pick = self._predictor, request.pick
        among = np.ones(len(endpoints), dtype=np.bool_)
        if request.candidates is not None:
            among = request.candidates
        if not pick.slo_ttft_ms and not pick.slo_tpot_ms:
            faster = Headroom(
                -predictor.ttft_s(request, endpoints), -predictor.tpot_s(request, endpoints)
            )
            return self._within(faster, among)
        headroom = predictor.headroom(request, endpoints)
        missed = Headroom(*map(_missed, headroom))
        group = _groups(headroom, endpoints)
        score = np.zeros(len(endpoints))
        for one in range(_GROUPS):
            members = group == one
            if not members.any():
                continue
            within = self._within(headroom if one == 0 else missed, members & among)
            if one == 0 and self._tightest_first:
                within = 1.0 - within
            score[members] = ((_GROUPS - 1 - one) + within[members] * _GROUP_SPAN) / _GROUPS
        return score

    def _within(self, headroom: Headroom, compared: Bools) -> Floats:
        """In [0, 1], the most headroom of those compared 1."""
        total, weights = np.zeros(len(compared)), 0.0
        for weight, values in zip(self._weights, headroom, strict=True):
            if not weight or not np.isfinite(values).all():  # no such objective
                continue
            of = values[compared]
            low, high = (float(of.min()), float(of.max())) if of.size else (0.0, 0.0)
            span = high - low
            scaled = np.clip((values - low) / span, 0.0, 1.0) if span > 0.0 else values >= high
            total += weight * scaled
            weights += weight
        within: Floats = total / weights if weights else np.ones(len(compared))
        return within


def _missed(headroom_s: Floats) -> Floats:
    """What is met counts the same, however well. Without an objective nothing changes."""
    return headroom_s if np.isposinf(headroom_s).all() else np.minimum(headroom_s, 0.0)


def _groups(headroom: Headroom, endpoints: Endpoints) -> Ints:
    late, slow = headroom.ttft_s < 0.0, headroom.tpot_s < 0.0
    group: Ints = np.select(
        [~late & ~slow, idle(endpoints), ~late, ~slow], [0, 1, 2, 3], default=4
    ).astype(np.int64)
    return group
