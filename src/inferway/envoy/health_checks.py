"""Health checks of the model → Envoy's active health checks.

Problem: Envoy's defaults suit neither a model server that is slow to answer nor a pool that nobody
has used yet: a wrong status would take an endpoint out at once, and a cluster without traffic would
be checked once a minute. Model: one check per cluster; every failure counts to the threshold,
whatever it was, and the pace is the same with and without traffic. Cost: one kept connection and
one request per endpoint and interval, on Envoy's main thread, not on its workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.envoy.messages import Json, JsonValue, seconds
from inferway.routing.health import CheckKind

if TYPE_CHECKING:
    from inferway.routing.health import HealthCheck

# A host that is down is asked more often: it should serve as soon as it can.
_UNHEALTHY_INTERVAL_MAX_S = 1.0
_JITTER_PERCENT = 10


def health_check(check: HealthCheck, backend: str, *, h2c: bool) -> Json:
    """An entry of a cluster's `health_checks`. `backend` names the cluster to the servers."""
    interval = seconds(check.interval_s)
    unhealthy = seconds(min(check.interval_s, _UNHEALTHY_INTERVAL_MAX_S))
    return {
        "timeout": seconds(check.timeout_s),
        "interval": interval,
        "no_traffic_interval": interval,
        "unhealthy_interval": unhealthy,
        "interval_jitter_percent": _JITTER_PERCENT,
        "healthy_threshold": check.healthy_threshold,
        "unhealthy_threshold": check.unhealthy_threshold,
        **_kind(check, backend, h2c=h2c),
    }


def endpoint_check(check: HealthCheck) -> Json:
    """What an endpoint has to say when it is checked on another port than it serves on."""
    if check.port is None:
        return {}
    return {"health_check_config": {"port_value": check.port}}


def _kind(check: HealthCheck, backend: str, *, h2c: bool) -> Json:
    match check.kind:
        case CheckKind.TCP:
            return {"tcp_health_check": {}}
        case CheckKind.GRPC:
            return {"grpc_health_check": {"service_name": check.service} if check.service else {}}
        case CheckKind.HTTP:
            http2 = h2c if check.http2 is None else check.http2
            fields: dict[str, JsonValue] = {
                "host": check.host or backend.replace("/", ".").replace(":", "."),
                "path": check.path,
                "expected_statuses": [{"start": 200, "end": check.status_max + 1}],
                # Any other answer counts to the threshold instead of deciding at once.
                "retriable_statuses": [{"start": 100, "end": 600}],
                "codec_client_type": "HTTP2" if http2 else "HTTP1",
            }
            return {"http_health_check": fields}
