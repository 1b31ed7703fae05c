"""HealthCheckPolicy: how the endpoints of one backend are checked. The shape is GKE's.

What is not set keeps the gateway's own default, not Google's.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from .meta import Model, Object
from .references import INFERENCE_GROUP
from .scalars import URL_PATH_PATTERN, Between, Boolean, Group, Kind, ObjectName, PortNumber

GKE_NETWORKING: Final = "networking.gke.io/v1"
_NO_EFFECT = "no effect"

Seconds = Annotated[int, Between(1, 300)]
Threshold = Annotated[int, Between(1, 10)]
PortSpecification = Literal["USE_FIXED_PORT", "USE_NAMED_PORT", "USE_SERVING_PORT"]
Host = Annotated[str, StringConstraints(min_length=1, max_length=253)]
UrlPath = Annotated[str, StringConstraints(max_length=2048, pattern=URL_PATH_PATTERN)]
Bytes = Annotated[str, StringConstraints(max_length=1024)]


class PolicyTarget(Model):
    """The backend that a policy is about, in the policy's own namespace."""

    group: Group = INFERENCE_GROUP
    kind: Kind = "InferencePool"
    name: ObjectName


class CheckedPort(Model):
    """`port` counts unless the specification says serving port."""

    port_specification: PortSpecification | None = None
    port: PortNumber | None = Field(
        default=None, description="unset: the port on which the endpoint serves"
    )
    port_name: str | None = Field(default=None, description=_NO_EFFECT)
    proxy_header: Literal["NONE", "PROXY_V1"] | None = Field(default=None, description=_NO_EFFECT)


class TcpCheck(CheckedPort):
    request: Bytes | None = Field(default=None, description=_NO_EFFECT)
    response: Bytes | None = Field(default=None, description=_NO_EFFECT)


class HttpCheck(CheckedPort):
    request_path: UrlPath | None = Field(
        default=None,
        description="only 2xx passes; unset: `/health`, and any answer below 500 passes",
    )
    host: Host | None = None
    response: Bytes | None = Field(default=None, description=_NO_EFFECT)


class GrpcCheck(CheckedPort):
    grpc_service_name: Annotated[str, StringConstraints(max_length=1024)] = ""


class LogConfig(Model):
    enabled: Boolean = False


class CheckConfig(Model):
    """`type` says which of the others counts."""

    type: Literal["TCP", "HTTP", "HTTPS", "HTTP2", "GRPC"]
    tcp_health_check: TcpCheck | None = None
    http_health_check: HttpCheck | None = None
    https_health_check: HttpCheck | None = Field(
        default=None, description="endpoints serve without TLS: such a policy is not accepted"
    )
    http2_health_check: HttpCheck | None = Field(default=None, alias="http2HealthCheck")
    grpc_health_check: GrpcCheck | None = None


class HealthCheckSettings(Model):
    check_interval_sec: Seconds | None = None
    timeout_sec: Seconds | None = None
    healthy_threshold: Threshold | None = None
    unhealthy_threshold: Threshold | None = None
    log_config: LogConfig | None = Field(
        default=None, description="no effect; changes of an endpoint's health are always logged"
    )
    config: CheckConfig | None = None


class HealthCheckPolicySpec(Model):
    target_ref: PolicyTarget
    default: HealthCheckSettings = HealthCheckSettings()


class HealthCheckPolicy(Object):
    api_version: Literal["networking.gke.io/v1"] = GKE_NETWORKING
    kind: Literal["HealthCheckPolicy"] = "HealthCheckPolicy"
    spec: HealthCheckPolicySpec
