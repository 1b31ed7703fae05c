"""The section `flowControl` of an EndpointPickerConfig: who waits, where, how long, in what order.

The fields of the reference are as there; `mode`, `requestTTL` of a band and those after
`saturationDetector` are ours. Unset fields keep the picker's defaults, which the descriptions name;
docs/flow-control.md explains them.
"""

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from .meta import Model
from .scalars import Bytes, GoDuration, HeaderName, Int32, Int64Count, ObjectName, go_duration_s
from .violations import Violation, reject


def _a_second_to_an_hour(value: str) -> str:
    if not 1.0 <= go_duration_s(value) <= 3_600.0:
        reject([Violation(f"must be 1s to 1h: {value}")])
    return value


Pause = Annotated[GoDuration, AfterValidator(_a_second_to_an_hour)]


# Fields of `flowControl` that the reference does not know, as attributes and as they are written.
OURS: Final = {
    "mode": "mode",
    "max_sheddable_wait": "maxSheddableWait",
    "max_retry_after": "maxRetryAfter",
    "keep_alive": "keepAlive",
    "identity_header": "identityHeader",
}


class PluginReference(Model):
    plugin_ref: ObjectName


class DefaultBand(Model):
    """A band of priorities that no other entry names."""

    max_bytes: Bytes | None = Field(default=None, description="1G; 0 is the default too")
    max_requests: Int64Count | None = Field(default=None, description="5000; 0 is the default too")
    fairness_policy_ref: ObjectName | None = Field(
        default=None,
        description="between flows; by tokens served, or with mode gate one queue for all",
    )
    ordering_policy_ref: ObjectName | None = Field(
        default=None, description="inside a flow; first come, first served"
    )
    request_ttl: GoDuration | None = Field(
        default=None, alias="requestTTL", description="instead of `defaultRequestTTL`"
    )


class PriorityBand(DefaultBand):
    """The band of one priority."""

    priority: Int32


class FlowControl(Model):
    """How requests wait."""

    mode: Literal["lateBinding", "gate", "legacy"] | None = Field(
        default=None,
        description="lateBinding; gate where the feature gate `flowControl` is on, legacy where it"
        " is off in words",
    )
    max_bytes: Bytes | None = Field(
        default=None, description="2G of bodies that wait; 0 is any, as is the default of mode gate"
    )
    max_requests: Int64Count | None = Field(
        default=None, description="10000 that wait; 0 is any, as is the default of mode gate"
    )
    default_request_ttl: GoDuration | None = Field(
        default=None, alias="defaultRequestTTL", description="60s: longest wait; 0s is for ever"
    )
    no_endpoint_request_ttl: GoDuration | None = Field(
        default=None,
        alias="noEndpointRequestTTL",
        description="0s: longest wait while no endpoint is ready; mode gate: `defaultRequestTTL`",
    )
    default_priority_band: DefaultBand | None = None
    default_negative_priority_band: DefaultBand | None = None
    priority_bands: Annotated[tuple[PriorityBand, ...], Field(max_length=256)] = ()
    usage_limit_policy_plugin_ref: ObjectName | None = Field(
        default=None, description="how far each priority may fill an endpoint"
    )
    saturation_detector: PluginReference | None = Field(
        default=None,
        description="what is full; `engine-queue-detector`, or with the other modes"
        " `utilization-detector`",
    )
    max_sheddable_wait: GoDuration | None = Field(
        default=None,
        description="1s: a negative priority that would have to wait longer is refused at once",
    )
    max_retry_after: Pause | None = Field(
        default=None, description="60s: the longest Retry-After that is promised; 1s to 1h"
    )
    keep_alive: Pause | None = Field(
        default=None,
        description="10s: a stream that waits longer gets a comment at this pace; 1s to 1h",
    )
    identity_header: HeaderName | None = Field(
        default=None, description="whose value is the flow of a request without a fairness id"
    )
