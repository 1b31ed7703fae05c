"""Whether a request with a latency objective may go on: told now, a client can go elsewhere.

Problem: in an overloaded pool a request whose objective cannot be met any more takes room from
those whose still can. Model: a request with a TTFT objective is refused when every candidate is
predicted to exceed it, what the request has waited already included, and none is idle; an idle
endpoint is as fast as it gets, so coming back would not help. Requests of negative priority are
refused for their TPOT objective in the same way. Retry-After is how long it takes until the least
loaded candidate would meet the objective, as its predicted prefill goes on.

Source: early rejection of Mooncake (min over the instances of W + p against the TTFT objective);
latency-slo-admitter of the reference picker, which looks at negative priorities only.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from inferway.picker.flowcontrol.asked import Refusal
from inferway.picker.outcome import Outcome
from inferway.picker.scheduling.predictions import Predictor, idle

if TYPE_CHECKING:
    from inferway.picker.flowcontrol.config import SloAdmissionOf
    from inferway.picker.scheduling.decide import Weighed

_RETRY_MIN_S = 1.0


class SloAdmission:
    def __init__(self, of: SloAdmissionOf) -> None:
        self.of = of
        self._predictor = Predictor()

    def refusal(self, weighed: Weighed, now_s: float) -> Refusal | None:
        """None: it goes on. To be asked only when the request has an objective."""
        request, endpoints, candidates = weighed.request, weighed.endpoints, weighed.candidates
        sheddable = request.priority < 0
        if self.of == "none" or (self.of == "sheddable" and not sheddable):
            return None
        headroom = self._predictor.headroom(request, endpoints)
        waited_s = max(0.0, now_s - request.pick.received_ns * 1e-9)
        left_s = headroom.ttft_s - waited_s
        fits = (left_s >= 0.0) | idle(endpoints)
        if sheddable:
            fits &= (headroom.tpot_s >= 0.0) | idle(endpoints)
        if candidates is not None:
            fits, left_s = fits[candidates], left_s[candidates]
        if not len(fits) or fits.any():
            return None
        short_s = max(_RETRY_MIN_S, -float(left_s.max()))
        return Refusal(Outcome.SLO_MISSED, float(ceil(short_s)), True)
