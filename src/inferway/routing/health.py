"""How the endpoints of a backend are checked.

Problem: a server that hangs, loads its model or lost its GPU accepts connections and answers
nobody. Model: every backend has a health check; without a HealthCheckPolicy it asks `/health`,
where vLLM, SGLang and TensorRT-LLM all answer. A server that has no such path still answers (404,
401): unless a policy says what to ask for, whatever is below 500 counts as alive, so that no server
becomes unreachable because nobody told us its path. A few failures in a row make an endpoint
unhealthy, one success makes it healthy again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class CheckKind(StrEnum):
    HTTP = "http"
    TCP = "tcp"  # the port accepts
    GRPC = "grpc"  # grpc.health.v1


@dataclass(frozen=True, slots=True)
class HealthCheck:
    kind: CheckKind = CheckKind.HTTP
    path: str = "/health"
    host: str = ""  # of an HTTP check; empty: the backend's name
    service: str = ""  # of a gRPC check
    port: int | None = None  # None: the endpoint's own
    # A check costs the gateway some 100 µs; 100 servers every 2 s are 0.5 % of a core.
    interval_s: float = 2.0
    # Long, because a server that tokenizes a large prompt may answer late.
    timeout_s: float = 3.0
    healthy_threshold: int = 1
    unhealthy_threshold: int = 3
    # An HTTP check passes below this status.
    status_max: int = 499
    http2: bool | None = None  # None: as the backend speaks


DEFAULT_HEALTH_CHECK = HealthCheck()
"""Of a backend without a policy."""
