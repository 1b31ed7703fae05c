"""What an operator may tune in the data plane.

Problem: Envoy has hundreds of knobs whose defaults suit short web requests, not prompts of
megabytes and answers that stream for minutes. Model: the few that matter to us, as one frozen value
with our defaults; everything else is fixed where it is used. It reads nothing by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class EnvoySettings:
    """Defaults are those of `inferway run`."""

    # Largest request body, in bytes: a million-token prompt has some 5 MB, the rest is for images.
    # Larger ones are answered 413.
    body_bytes_max: int = 32 * MEBIBYTE
    # How long a FailClose request waits for a picker that went away, in ms, before it is answered
    # 503.
    hold_ms: int = 1000
    # A stream on which no byte moves in either direction for so long is ended (504, or cut when it
    # has begun). Long, because a queued or prefilling request is silent.
    idle_timeout_s: float = 600.0
    # Time a client has to send its request headers; longer is an attack or a broken network.
    headers_timeout_s: float = 10.0
    # A model server accepts within milliseconds, or its host is gone.
    connect_timeout_s: float = 2.0
    # Idle connections to model servers are closed after this. Below 5 s, at which uvicorn (vLLM,
    # SGLang) closes them itself: the other way round a request meets a connection being closed.
    upstream_idle_timeout_s: float = 4.0
    # Attempts after the first, each on the next endpoint of the picker's list.
    retries_max: int = 2
    # Bytes that Envoy holds per connection and direction before it stops reading.
    connection_buffer_bytes: int = MEBIBYTE
    # Requests at once on one HTTP/2 client connection.
    streams_per_connection_max: int = 1000
    # Client connections in all; above it new ones are refused. Also bounds memory.
    connections_max: int = 50_000
    # Connections, queued requests and requests per pool. Envoy's own limit of 1024 would refuse
    # requests that the picker means to queue.
    requests_per_pool_max: int = 1_000_000
    # Copies of requests under way at once per mirrored backend; more are dropped. Bounds what a
    # mirror that hangs can hold.
    mirrored_requests_max: int = 1024
    # After a listener changed, streams on the old one may run so long before they are cut.
    listener_drain_s: int = 3600
