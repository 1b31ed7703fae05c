"""The section `health` of an EndpointPickerConfig: when an endpoint is left alone, and how long.

What the words mean stands in docs/failure-modes.md. Unset fields keep the picker's defaults, which
the descriptions name.
"""

from typing import Annotated

from pydantic import AfterValidator, Field

from .meta import Model
from .scalars import Boolean, GoDuration, PositiveCount, Ratio, go_duration_s
from .violations import Violation, reject


def _not_nothing(value: str) -> str:
    if go_duration_s(value) <= 0.0:
        reject([Violation(f"must be longer than nothing: {value}")])
    return value


def _not_zero(value: float) -> float:
    if value == 0.0:
        reject([Violation("must be above 0: 0")])
    return value


Time = Annotated[GoDuration, AfterValidator(_not_nothing)]
Part = Annotated[Ratio, AfterValidator(_not_zero)]


class PickerHealth(Model):
    """Only server and transport faults eject; client errors and busy answers never do."""

    ejection: Boolean | None = Field(
        default=None, description="true; false: faults are counted, and nobody is ejected for them"
    )
    consecutive_faults: PositiveCount | None = Field(
        default=None, description="5: faults in a row that eject"
    )
    window: Time | None = Field(
        default=None, description="30s: how long requests are counted from a first fault on"
    )
    min_requests: PositiveCount | None = Field(
        default=None, description="20: requests of a window below which their faults do not eject"
    )
    fault_ratio: Part | None = Field(
        default=None, description="0.5: part of a window's requests that, at fault, ejects"
    )
    ejection_time: Time | None = Field(
        default=None, description="5s: of the first ejection; each further one lasts twice as long"
    )
    max_ejection_time: Time | None = Field(
        default=None,
        description="60s: longest ejection; after so long without another one they start over",
    )
    probe_timeout: Time | None = Field(
        default=None, description="30s: without a first byte for so long the next probe may go"
    )
    panic_ratio: Ratio | None = Field(
        default=None,
        description="0.5: when more than this part of the pool is ejected, all of it is used",
    )
    max_retry_after: GoDuration | None = Field(
        default=None, description="30s: longest Retry-After of a server that is obeyed"
    )
    back_pressure_factor: Part | None = Field(
        default=None, description="0.5: what a busy answer leaves of an endpoint's share"
    )
    back_pressure_recovery: Time | None = Field(
        default=None, description="1.5s: for a share to grow from nothing to whole again"
    )
    min_share: Part | None = Field(
        default=None, description="0.05: share that is left to a busy endpoint at least"
    )
