"""What flow control knows of a request and of the scheduler, and what it can say to a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from inferway.picker.flowcontrol.waiting import Waiting
from inferway.picker.scheduling.contracts import PickRequest

if TYPE_CHECKING:
    from inferway.picker.outcome import Outcome
    from inferway.picker.scheduling.decide import NoEndpoint, Weighed
    from inferway.picker.scheduling.profile import Profile


class FlowRequest(PickRequest, Protocol):
    """The part of `_native.Pick` that flow control reads beyond scheduling's."""

    @property
    def pool(self) -> str: ...
    @property
    def objective(self) -> str: ...
    @property
    def request_id(self) -> str: ...
    @property
    def received_ns(self) -> int: ...
    @property
    def body_bytes(self) -> int: ...
    @property
    def user(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def ttl_ms(self) -> int: ...
    @property
    def slo_ttft_ms(self) -> int: ...
    @property
    def repeated(self) -> bool: ...
    @property
    def streamed(self) -> bool: ...
    @property
    def keeps_alive(self) -> bool: ...


class Chooser(Protocol):
    """The part of `PoolScheduler` that is needed here."""

    @property
    def profile(self) -> Profile: ...
    def choose(self, weighed: Weighed) -> list[int]: ...
    def choose_again(self, weighed: Weighed) -> list[int]: ...
    def nobody(self, weighed: Weighed) -> NoEndpoint: ...


class Asked(NamedTuple):
    """One request. `model`: after a rewrite."""

    connection: int
    pick: FlowRequest
    model: str
    priority: int

    @property
    def fingerprint(self) -> int:
        """The same for the same request that is sent again, in one process."""
        pick = self.pick
        hashes = pick.hashes
        last = int(hashes[-1]) if len(hashes) else 0
        who = (pick.fairness, pick.session, pick.user)
        size = (pick.body_bytes, pick.prompt_bytes, pick.max_tokens)
        return hash((pick.model, self.priority, size, last, who))


class Going(NamedTuple):
    """It goes on: where to, best first. `weighed` has those as candidates that were chosen from."""

    weighed: Weighed
    rows: list[int]


class Refusal(NamedTuple):
    """`retry`: whether the client shall come back by itself; None: nothing is said of it."""

    outcome: Outcome
    retry_after_s: float = 0.0
    retry: bool | None = None


Held = Waiting[Asked]
