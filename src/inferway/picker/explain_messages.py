"""What is said about recorded decisions: between the picker and control, and to people as JSON.

Problem: the decisions are in the picker's memory, those who ask are at the admin API. Model:
control sends an `ExplainQuery` over their link, the picker answers with an `ExplainAnswer`; the
admin API and `inferway explain` show its `Explanation`s as they are. Invariant: no prompt, no value
of a client's header and no name of a user is in here. Unknown values are None, never zero.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ExplainQuery(_Message):
    """Which decisions. With several conditions, those that meet all of them; newest first."""

    question: int = Field(default=0, description="its number, given by the link")
    request_id: str = Field(default="", description="empty: any")
    pool: str = Field(default="", description="namespace/name; empty: any")
    endpoint: str = Field(default="", description="address that was chosen or answered; empty: any")
    outcome: str = Field(default="", description="what came of it; empty: anything")
    policy: str = Field(
        default="", description="what it would have chosen is told of each; empty: nothing is"
    )
    newest: int = Field(default=20, ge=1, le=10_000, description="so many at most")
    candidates_max: int = Field(
        default=0, ge=0, le=10_000, description="endpoints told of each; 0: only what was chosen"
    )


class Term(_Message):
    """One part of a candidate's rating. Costs add up, and the lowest total wins."""

    name: str
    raw: float | None = Field(description="as the scorer or cost said it; None: not a number")
    cost: float | None = Field(description="what it adds to the total, weight and sign included")
    parts: dict[str, float] = Field(
        default_factory=dict, description="that the raw value consists of, where the term tells"
    )


class Candidate(_Message):
    """One endpoint as the decision saw it, charges of the same batch included."""

    address: str
    place: int = Field(default=0, description="in the list that Envoy got, from 1; 0: not in it")
    removed_by: str = Field(default="", description="mask or filter; empty: it was a candidate")
    cost: float | None = Field(default=None, description="total; the lowest wins")
    terms: tuple[Term, ...] = ()
    in_flight: int
    pending_tokens: int = Field(description="uncached prompt tokens there, first token not seen")
    context_tokens: int = Field(description="prompt and expected output tokens in flight there")
    matched_tokens: float = Field(description="of this prompt, probably in its cache")
    adapter_tier: int | None = Field(
        default=None,
        description="0 resident, 1 room, 2 waiting there, 3 full; None: no adapter was asked for",
    )
    waiting: float | None = None
    running: float | None = None
    kv_usage_ratio: float | None = None
    foreign_requests: float | None = None
    weight: float | None = Field(
        default=None, description="share of traffic that back-pressure leaves it; 1: all"
    )
    metrics_age_s: float | None = Field(
        default=None, description="of the scraped values; None: never scraped"
    )


class Ending(_Message):
    """How the answer ended, as the filter saw it."""

    how: str = Field(description="complete, server_failed, client_left or answered_locally")
    fault: str = Field(default="", description="what was wrong with it; empty: nothing")
    attempts: int = Field(description="servers that were tried")
    status: int
    endpoint: str = Field(description="that really answered; empty: none did")
    ttft_s: float | None = Field(description="None: no byte came")
    duration_s: float
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None


class Explanation(_Message):
    """One decision."""

    request_id: str
    at: str = Field(description="when it was made; RFC 3339")
    age_s: float
    pool: str
    outcome: str
    policy: str = Field(default="", description="empty: it did not come to a choice")
    model: str = Field(description="as the client asked")
    served_model: str = Field(description="after a rewrite")
    objective: str = ""
    priority: int | None = Field(default=None, description="None: its pool is not known")
    waited_s: float = Field(default=0.0, description="in the picker's queue")
    prompt_tokens: float | None = Field(default=None, description="estimate")
    output_tokens: float | None = Field(default=None, description="estimate")
    repeated: bool = Field(default=False, description="asked again by a filter that reconnected")
    winner: str = Field(default="", description="address; empty: nothing was chosen")
    runner_up: str = Field(default="", description="second in the list; empty: nobody else")
    margin: float | None = Field(
        default=None, description="cost of the runner-up less the winner's"
    )
    cost_unit: str = ""
    reason: str = Field(default="", description="why the winner won, in short")
    would_be: str = Field(
        default="",
        description="address that the policy in question would have chosen; empty: nobody, or not "
        "enough was kept",
    )
    draws: tuple[float, ...] = Field(default=(), description="random numbers that the choice took")
    candidates: tuple[Candidate, ...] = Field(default=(), description="in the order of their cost")
    endpoints_total: int = Field(default=0, description="of the pool at that moment")
    candidates_total: int = Field(default=0, description="of them, not removed by anything")
    removed: dict[str, int] = Field(
        default_factory=dict, description="how many endpoints each mask or filter removed"
    )
    ended: Ending | None = Field(default=None, description="None: it still runs, or never ran")


class Reach(_Message):
    """How far back the picker's memory of decisions goes."""

    recorded: int = Field(description="decisions that are remembered")
    recorded_max: int
    forgotten: int = Field(description="since the picker started")
    passed_over: int = Field(default=0, description="not recorded: too many in one second")
    bytes_used: int = Field(description="estimate")
    bytes_max: int
    oldest_age_s: float | None = Field(description="None: nothing is remembered")
    up_s: float = Field(description="since the picker started")


class ExplainAnswer(_Message):
    answer_to: int
    explanations: tuple[Explanation, ...] = ()
    reach: Reach | None = Field(default=None, description="None: there is no answer")
    error: str = Field(default="", description="why there is none")


# A message of the link says what it is by how it begins: see control_link.py and link_server.py.
QUERY_BEGINS = b'{"question":'
ANSWER_BEGINS = b'{"answer_to":'
