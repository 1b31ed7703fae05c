"""SLO headroom tier: those that are predicted to meet the request's objectives.

    kept = { i : no objective is missed }       empty, or the request has no objective: everyone

Source: slo-headroom-tier-filter of the reference picker. With probability `epsilonExploreNeg` those
that would miss an objective are kept instead, so that a prediction that is wrong can be found out;
chance goes by the number of the request's stream, so that the same request gets the same answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from inferway.picker.scheduling.chance import happens
from inferway.picker.scheduling.predictions import Predictor

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Request


class SloHeadroom:
    name = "slo-headroom-tier-filter"

    def __init__(self, epsilon_explore_neg: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01) -> None:
        self._explored = epsilon_explore_neg
        self._predictor = Predictor()

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        pick = request.pick
        if not pick.slo_ttft_ms and not pick.slo_tpot_ms:
            return np.ones(len(endpoints), dtype=np.bool_)
        met = self._predictor.headroom(request, endpoints).met
        return ~met if happens(self._explored, pick.stream) else met
