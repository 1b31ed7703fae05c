"""What goes into the engine and what comes out of it.

A request says how many tokens it will produce: the simulator decides lengths before it starts, as
a trace does. Its block hashes may cover the output too; a block can be found by others only once
its tokens have been computed.
"""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """One sequence to be computed."""

    request_id: str
    prompt_tokens: int
    output_tokens: int
    block_hashes: SequenceOf[int] = ()
    """Chained hashes of the full blocks of prompt and output, in order; missing ones are not
    cached.
    """
    adapter: str | None = None
    max_tokens: int | None = None
    """The client's limit, for the metric only."""
    finish_reason: FinishReason = "length"
    token_ids: SequenceOf[int] = ()
    """Of prompt and output; only the journal of the block cache shows them."""


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """A request that has its last token; times in seconds of the engine's clock."""

    request_id: str
    finish_reason: FinishReason
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    preemptions: int
    arrived_s: float
    admitted_s: float
    first_token_s: float
    finished_s: float


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened while a batch was formed."""

    kind: Literal["admitted", "preempted", "adapter_loading", "adapter_ready"]
    subject: str
    """Request id, or adapter name for the adapter events."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step: tokens and ends become visible `duration_s` after its start."""

    started_s: float
    duration_s: float
    tokens: SequenceOf[tuple[str, int]] = ()
    """Request id and number of new tokens, in batch order."""
    finished: SequenceOf[FinishedRequest] = ()
    events: SequenceOf[Event] = ()
    prefill_tokens: int = 0
    decode_sequences: int = 0

    @property
    def ended_s(self) -> float:
        return self.started_s + self.duration_s


@dataclass(slots=True, eq=False)
class RunningSequence:
    """The engine's own record of a request, from submission to its end."""

    request: EngineRequest
    arrived_s: float
    ready_s: float
    prefill_target: int
    """Tokens to compute before the next token can come out: the prompt, plus after a preemption
    what it had emitted.
    """
    computed: int = 0
    emitted: int = 0
    decoding: bool = False
    blocks: int = 0
    private_blocks: int = 0
    shared: list[int] = field(default_factory=list)
    considered: int = 0
    """Leading blocks whose key has been offered to the cache."""
    cached_tokens: int | None = None
    preemptions: int = 0
    admitted_s: float = 0.0
    first_token_s: float = 0.0
    last_token_s: float = 0.0

    def reset(self) -> None:
        """Back to the start for recomputation; what was emitted stays emitted."""
        self.prefill_target = self.request.prompt_tokens + self.emitted
        self.computed = 0
        self.decoding = False
        self.blocks = 0
        self.private_blocks = 0
        self.shared = []
        self.considered = 0

    def finish(self, now_s: float) -> FinishedRequest:
        return FinishedRequest(
            request_id=self.request.request_id,
            finish_reason=self.request.finish_reason,
            prompt_tokens=self.request.prompt_tokens,
            cached_tokens=self.cached_tokens or 0,
            output_tokens=self.emitted,
            preemptions=self.preemptions,
            arrived_s=self.arrived_s,
            admitted_s=self.admitted_s,
            first_token_s=self.first_token_s,
            finished_s=now_s,
        )
