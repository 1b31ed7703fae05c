"""GCPBackendPolicy: settings of one backend. The shape is GKE's.

Here it sets the backend's timeout; what concerns Google's load balancers is accepted and has no
effect, which the policy's status says field by field.
"""

from typing import Annotated, Literal

from pydantic import Field

from .health_check_policy import GKE_NETWORKING, PolicyTarget
from .meta import Model, Object
from .scalars import Between, Boolean, Count, PositiveCount

_NO_EFFECT = "no effect"


class BackendLogging(Model):
    enabled: Boolean = False
    sample_rate: Annotated[int, Between(0, 1_000_000)] | None = None


class SessionAffinity(Model):
    type: str
    cookie_ttl_sec: Count | None = None


class ConnectionDraining(Model):
    draining_timeout_sec: Annotated[int, Between(0, 3600)]


class OauthSecret(Model):
    name: str


class IdentityAwareProxy(Model):
    enabled: Boolean = False
    client_id: str | None = Field(default=None, alias="clientID")
    oauth2_client_secret: OauthSecret | None = Field(default=None, alias="oauth2ClientSecret")


class CustomMetric(Model):
    name: str
    max_utilization_percent: Annotated[int, Between(0, 100)] | None = None
    dry_run: Boolean = False


class BackendSettings(Model):
    timeout_sec: PositiveCount | None = Field(
        default=None, description="of one try, on routes that say neither timeout themselves"
    )
    logging: BackendLogging | None = Field(default=None, description=_NO_EFFECT)
    session_affinity: SessionAffinity | None = Field(
        default=None, description=f"{_NO_EFFECT}; use sessionPersistence of the route"
    )
    connection_draining: ConnectionDraining | None = Field(
        default=None, description=f"{_NO_EFFECT}; running requests always go on to their end"
    )
    security_policy: str | None = Field(default=None, description=_NO_EFFECT)
    iap: IdentityAwareProxy | None = Field(default=None, description=_NO_EFFECT)
    max_rate_per_endpoint: PositiveCount | None = Field(default=None, description=_NO_EFFECT)
    balancing_mode: str | None = Field(default=None, description=_NO_EFFECT)
    traffic_duration: str | None = Field(default=None, description=_NO_EFFECT)
    custom_metrics: tuple[CustomMetric, ...] = Field(default=(), description=_NO_EFFECT)
    max_in_flight_requests_per_endpoint: PositiveCount | None = Field(
        default=None, description=_NO_EFFECT
    )
    scopes: tuple[str, ...] = Field(default=(), description=_NO_EFFECT)


class GCPBackendPolicySpec(Model):
    target_ref: PolicyTarget
    default: BackendSettings = BackendSettings()


class GCPBackendPolicy(Object):
    api_version: Literal["networking.gke.io/v1"] = GKE_NETWORKING
    kind: Literal["GCPBackendPolicy"] = "GCPBackendPolicy"
    spec: GCPBackendPolicySpec
