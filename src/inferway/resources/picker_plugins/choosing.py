"""Pickers of the reference, and our costs, named after the policies of docs/policies.md."""

from typing import Annotated, Final, Literal

from pydantic import Field

from inferway.resources.meta import Model
from inferway.resources.scalars import (
    Between,
    PositiveCount,
    Within,
)

from .plugin_type import PluginType, Role, plugin


class MaxEndpoints(Model):
    """The three pickers."""

    max_num_of_endpoints: PositiveCount | None = Field(
        default=None,
        description="how many endpoints an answer names, fallbacks included; unset, and at most: 4",
    )


class PowerOfTwo(Model):
    """`power-of-two`"""

    choices: Annotated[int, Between(2, 16)] = Field(
        default=2, description="endpoints that are drawn and compared"
    )


class ConsistentHash(Model):
    """`consistent-hash`"""

    key: Literal["session", "user", "prefix"] = Field(
        default="session", description="what is hashed; a request without it goes by load"
    )
    load_factor: Annotated[float, Within(1, 100)] = Field(
        default=1.25, description="an endpoint takes no more than so many times the mean load"
    )
    prefix_blocks: Annotated[int, Between(1, 1024)] = Field(
        default=4, description="leading blocks of the prompt that make up the key `prefix`"
    )


PICKERS: Final[tuple[PluginType, ...]] = (
    plugin("max-score-picker", Role.PICKER, "the best; ties are broken at random", MaxEndpoints),
    plugin("random-picker", Role.PICKER, "any candidate", MaxEndpoints),
    plugin(
        "weighted-random-picker", Role.PICKER, "by chance in proportion to the score", MaxEndpoints
    ),
)

COSTS: Final[tuple[PluginType, ...]] = (
    plugin("marginal-cost", Role.COST, "expected marginal latency, in seconds"),
    plugin("expected-ttft", Role.COST, "expected time to the first token, in seconds"),
    plugin("lmetric", Role.COST, "uncached tokens ahead times requests in flight"),
    plugin("least-request", Role.COST, "requests in flight"),
    plugin("power-of-two", Role.COST, "requests in flight of a few drawn at random", PowerOfTwo),
    plugin("consistent-hash", Role.COST, "place on a hash ring, loads bounded", ConsistentHash),
    plugin("round-robin", Role.COST, "turns away from the next"),
    plugin("random", Role.COST, "chance"),
)
