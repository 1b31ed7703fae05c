"""Queue: fewest requests waiting in the engine.

    score = (max - waiting) / (max - min)      over the candidates; 1 for all when all are equal

Source: queue-scorer of the reference picker. `waiting` is scraped and as old as the last scrape.
The scale hides magnitude: one waiting against none counts as much as a thousand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.scheduling.compare import Kept, fewest

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class Queue:
    name = "queue-scorer"

    def __init__(self) -> None:
        self._kept = Kept(lambda endpoints, among: fewest(endpoints.waiting, among))

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        return self._kept(request, endpoints)
