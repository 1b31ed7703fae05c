"""Which flow of a band goes next.

Problem: with one queue per band, the tenant that sends most gets most. Model: every flow has a
virtual time, and the flow with the least goes next; the policies differ in how it advances.

- `VirtualCounters` (source: VTC, Sheng et al., "Fairness in serving large language models", OSDI
  2024): by the tokens served, output tokens counted twice. A flow that comes back is lifted to the
  least counter among those that wait, so that nobody saves up for a burst. What nobody had to wait
  for is not counted.
- `RoundRobin`: by turns.
- `GlobalStrict`: the request that is first of all, whosever it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.picker.flowcontrol.config import Fairness as Name

OUTPUT_WEIGHT: Final = 2.0
Rank = tuple[float, float, int]


class Flow(Protocol):
    """What a policy keeps of a flow."""

    virtual: float


class Fairness(Protocol):
    """One band's policy. Flows with the least key go first."""

    def joined(self, flow: Flow, others: Iterable[Flow]) -> None:
        """A flow has something waiting, and had nothing. `others`: those that had."""
        ...

    def key(self, flow: Flow, head: Rank) -> Rank: ...

    def served(self, flow: Flow, tokens: float) -> None:
        """One of its requests has gone. `tokens`: prompt plus weighted expected output."""
        ...

    def corrected(self, flow: Flow, tokens: float) -> None:
        """A request of it that has ended was charged so many tokens too few."""
        ...


class VirtualCounters:
    def __init__(self) -> None:
        self._reached = 0.0  # the counter of the flow that was served last

    def joined(self, flow: Flow, others: Iterable[Flow]) -> None:
        least = min((other.virtual for other in others), default=self._reached)
        flow.virtual = max(flow.virtual, least)

    def key(self, flow: Flow, head: Rank) -> Rank:
        return flow.virtual, head[1], head[2]

    def served(self, flow: Flow, tokens: float) -> None:
        flow.virtual += tokens
        self._reached = flow.virtual

    def corrected(self, flow: Flow, tokens: float) -> None:
        flow.virtual += tokens


class RoundRobin:
    def __init__(self) -> None:
        self._turn = 0.0

    def joined(self, flow: Flow, others: Iterable[Flow]) -> None:
        self.served(flow, 0.0)

    def key(self, flow: Flow, head: Rank) -> Rank:
        return flow.virtual, head[1], head[2]

    def served(self, flow: Flow, tokens: float) -> None:
        self._turn += 1.0
        flow.virtual = self._turn

    def corrected(self, flow: Flow, tokens: float) -> None:
        pass


class GlobalStrict:
    def joined(self, flow: Flow, others: Iterable[Flow]) -> None:
        pass

    def key(self, flow: Flow, head: Rank) -> Rank:
        return head

    def served(self, flow: Flow, tokens: float) -> None:
        pass

    def corrected(self, flow: Flow, tokens: float) -> None:
        pass


def fairness(name: Name) -> Fairness:
    if name == "vtc":
        return VirtualCounters()
    return RoundRobin() if name == "round-robin" else GlobalStrict()
