"""When an endpoint is left alone because of what came of its requests, and for how long.

The states and words are those of datalayer/health.py.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class HealthConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    ejection: bool = Field(
        default=True, description="false: faults are counted, and no endpoint is ejected for them"
    )
    consecutive_faults: int = Field(
        default=5, ge=1, description="server or transport faults in a row that eject"
    )
    window_s: float = Field(
        default=30.0, gt=0, description="how long requests are counted from a first fault on"
    )
    window_requests_min: int = Field(
        default=20, ge=1, description="requests of a window below which their faults do not eject"
    )
    window_fault_ratio: float = Field(
        default=0.5, gt=0, le=1, description="part of a window's requests that, at fault, ejects"
    )
    ejection_s: float = Field(
        default=5.0, gt=0, description="of the first ejection; each further one lasts twice as long"
    )
    ejection_max_s: float = Field(
        default=60.0,
        gt=0,
        description="longest ejection; after so long without another one they start over",
    )
    probe_timeout_s: float = Field(
        default=30.0, gt=0, description="without a first byte for so long the next probe may go"
    )
    panic_ratio: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="when more than this part of the pool is ejected, all of it is used",
    )
    retry_after_max_s: float = Field(
        default=30.0, ge=0, description="longest Retry-After of a server that is obeyed"
    )
    back_pressure_factor: float = Field(
        default=0.5, gt=0, le=1, description="what a busy answer leaves of an endpoint's share"
    )
    back_pressure_recovery_s: float = Field(
        default=1.5, gt=0, description="for a share to grow from nothing to whole again"
    )
    share_min: float = Field(
        default=0.05, gt=0, le=1, description="share that is left to a busy endpoint at least"
    )
