"""LoRA affinity: where the adapter is, or would find a place.

    score = 1 resident, 0.8 room to load it, 0.6 already waiting for it there, 0 full

Source: lora-affinity-scorer of the reference picker. The tiers are ours (datalayer/lora.py): the
engine's gauge, with every name counted once, and what was sent there. A request for a base model
scores 1 everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request

_BY_TIER: Final = np.array([1.0, 0.8, 0.6, 0.0])


class LoraAffinity:
    name = "lora-affinity-scorer"

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        if request.adapter_tier is None:
            return np.ones(len(endpoints))
        return _BY_TIER[request.adapter_tier.astype(np.intp)]
