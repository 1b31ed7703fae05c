"""What a route does besides forwarding: values of the routing model.

Problem: filters, retries and sessions of the Gateway API are written in shapes that serve people;
the data plane needs them checked, defaulted and merged. Model: frozen values without references to
manifests. `filters.py` and `sessions.py` make them; what they mean is the Gateway API's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from inferway.routing.header_changes import HeaderChanges, composed

if TYPE_CHECKING:
    from inferway.routing.model import TargetKind

MILLION = 1_000_000


class PathChangeKind(StrEnum):
    FULL = "full"
    PREFIX = "prefix"  # of the route's own match, which is then of kind prefix


@dataclass(frozen=True, slots=True)
class PathChange:
    kind: PathChangeKind
    value: str  # starts with / ; of kind prefix it does not end in / unless it is all there is


@dataclass(frozen=True, slots=True)
class Redirect:
    """None: as in the request, except that an unset port follows from scheme or listener."""

    scheme: str | None
    hostname: str | None
    port: int | None
    path: PathChange | None
    status: int


@dataclass(frozen=True, slots=True)
class Rewrite:
    hostname: str | None
    path: PathChange | None


@dataclass(frozen=True, slots=True)
class Cors:
    origins: tuple[str, ...]  # "*", or scheme://host[:port] where host may start with "*."
    credentials: bool
    methods: tuple[str, ...]
    headers: tuple[str, ...]  # ("*",): any
    expose: tuple[str, ...]
    max_age_s: int


@dataclass(frozen=True, slots=True)
class Mirror:
    """A copy of so many of a million requests goes to a pool or server group."""

    kind: TargetKind
    name: str
    millionths: int


@dataclass(frozen=True, slots=True)
class Filters:
    request: HeaderChanges = ()
    response: HeaderChanges = ()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    cors: Cors | None = None
    mirrors: tuple[Mirror, ...] = ()
    # A filter that nobody knows: requests are answered 500 and not forwarded without it.
    unknown: str = ""

    def then(self, other: Filters) -> Filters:
        """Both in sequence; of what can only be done once, the later wins."""
        return Filters(
            request=composed(self.request, other.request),
            response=composed(self.response, other.response),
            redirect=other.redirect or self.redirect,
            rewrite=_rewritten(self.rewrite, other.rewrite),
            cors=other.cors or self.cors,
            mirrors=self.mirrors + other.mirrors,
            unknown=self.unknown or other.unknown,
        )


NO_FILTERS = Filters()


def _rewritten(first: Rewrite | None, then: Rewrite | None) -> Rewrite | None:
    if first is None or then is None:
        return first or then
    return Rewrite(hostname=then.hostname or first.hostname, path=then.path or first.path)


@dataclass(frozen=True, slots=True)
class Retry:
    """None and (): the gateway's own default."""

    codes: tuple[int, ...]
    attempts: int | None  # after the first; 0: none
    backoff_s: float | None


class CarrierKind(StrEnum):
    """Where a request carries what it is recognised by."""

    COOKIE = "cookie"
    HEADER = "header"


@dataclass(frozen=True, slots=True)
class Session:
    """Requests that carry what an earlier answer gave them go to the server that gave it."""

    carrier: CarrierKind
    name: str
    lifetime_s: int | None  # of a cookie; None: as long as the client keeps it open


@dataclass(frozen=True, slots=True)
class Stickiness:
    """Requests with one value here keep their side of a weighted split."""

    carrier: CarrierKind
    name: str
