"""`conduct` of an EndpointPickerConfig: how a pool treats requests and their clients."""

from pydantic import Field

from .meta import Model
from .scalars import Boolean, CookieName, GoDuration, Int64Count, Percent


class RetryBudget(Model):
    """Retries under way at once, so that a pool in trouble is not asked twice for everything."""

    percent: Percent = Field(default="50%", description="of the pool's requests under way")
    concurrency_min: Int64Count = Field(
        default=32, description="so many are always allowed, for pools with few requests"
    )


class Conduct(Model):
    """How requests are treated besides the choice of an endpoint. Needs `inferway.dev/v1alpha1`."""

    response_headers: Boolean = Field(
        default=False,
        description=(
            "responses say how they came about: x-inferway-endpoint, -queue-ms, -overhead-ms,"
            " -attempts, -reason"
        ),
    )
    include_usage: Boolean = Field(
        default=False,
        description=(
            "servers are asked for the token usage of every stream; a client that did not ask for"
            " it does not see it"
        ),
    )
    session_cookie: CookieName | None = Field(
        default=None,
        description=(
            "a cookie of this name is the session of requests without a session header; a client"
            " without one gets it"
        ),
    )
    first_token_deadline: GoDuration | None = Field(
        default=None,
        description=(
            "a stream whose server has not sent a byte of it for so long starts anew on another"
            " one, twice at most. Not when the server runs tools for it. Unset: never"
        ),
    )
    retry_budget: RetryBudget = RetryBudget()
