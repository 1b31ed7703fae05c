"""What a simulated server was asked, for tests that check what a gateway sends.

Bounded: counts per path and model, and the newest requests with their headers.
"""

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

RECENT_MAX = 256


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """What arrived, for tests that check what a gateway sends."""

    method: str
    path: str
    headers: Mapping[str, str]
    body_bytes: int


@dataclass(slots=True)
class RequestLog:
    """Counts since start; `recent` keeps the newest requests that are not health checks or
    scrapes.
    """

    by_path: Counter[str] = field(default_factory=Counter)
    by_model: Counter[str] = field(default_factory=Counter)
    recent: deque[SeenRequest] = field(default_factory=lambda: deque(maxlen=RECENT_MAX))

    @property
    def total(self) -> int:
        """Requests under /v1/."""
        return sum(count for path, count in self.by_path.items() if path.startswith("/v1/"))
