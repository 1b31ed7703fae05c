"""Important requests run on fast servers, all others on cheap ones, as long as there is room.

A server tells its tier by a label, a request its importance by the priority of its objective.
Try it without a gateway: `python -m pytest test_tiers.py`.
"""

import numpy as np


class Tiers:
    """Scores 1 for a server of the right tier, 0 for any other. The weight in the profile says how
    much that is worth: beside `marginal-cost`, in seconds.
    """

    def __init__(self, label: str = "tier", important: int = 10):
        self.label = label
        self.important = important

    def score(self, request, endpoints):
        wanted = "fast" if request.priority >= self.important else "cheap"
        right = [labels.get(self.label) == wanted for labels in endpoints.labels]
        return np.array(right, dtype=float)
