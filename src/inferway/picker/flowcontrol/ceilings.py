"""How far each priority may fill an endpoint (or the pool): hold-back for what matters more.

Source: the reference's `static-usage-limit-policy` (one threshold for all) and
`priority-holdback-policy`: the highest priority gets the greatest ceiling, the lowest the least,
and those between get theirs by rank or by value. With no difference between both, all get the same.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.picker.flowcontrol.config import CeilingConfig


class Ceilings:
    """`priorities`: those that the pool knows (objectives, bands, 0). Others get the ceiling of the
    place that they would have among them.
    """

    def __init__(self, config: CeilingConfig, priorities: Iterable[int]) -> None:
        self._config = config
        self._known = sorted({0, *priorities})
        self._ceilings: dict[int, float] = {one: self._between(one) for one in self._known}

    def of(self, priority: int) -> float:
        ceiling = self._ceilings.get(priority)
        return self._between(priority) if ceiling is None else ceiling

    @property
    def same_for_all(self) -> float | None:
        """The one ceiling, where there are not several."""
        config = self._config
        if config.least_ratio == config.most_ratio or len(self._known) == 1:
            return config.most_ratio
        return None

    def _between(self, priority: int) -> float:
        config, known = self._config, self._known
        if len(known) == 1:
            return config.most_ratio
        if config.domain == "value":
            part = (priority - known[0]) / (known[-1] - known[0])
        else:
            part = bisect_left(known, priority) / (len(known) - 1)
        part = min(max(part, 0.0), 1.0)
        return config.least_ratio + part * (config.most_ratio - config.least_ratio)
