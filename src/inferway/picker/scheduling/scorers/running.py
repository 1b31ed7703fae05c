"""Running requests: fewest requests in the engine's batch.

    score = (max - running) / (max - min)      over the candidates; 1 for all when all are equal

Source: running-requests-size-scorer of the reference picker. `running` is scraped and as old as the
last scrape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.scheduling.compare import Kept, fewest

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class Running:
    name = "running-requests-size-scorer"

    def __init__(self) -> None:
        self._kept = Kept(lambda endpoints, among: fewest(endpoints.running, among))

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return self._kept(request, endpoints)
