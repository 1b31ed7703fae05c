"""The routing model: everything the data plane needs, with every reference resolved.

Problem: xDS, the picker and the status page must agree on what a set of manifests means. Model:
`translate` (translate.py) turns resources into one frozen `RoutingModel`; `inferway.envoy` turns
that into xDS and `picker_config` into the picker's snapshot. Invariants: routes stand in the order
in which they are tried; every name a route uses exists in `pools` or `server_groups`, or the
reference is an explicit `error`. The model knows nothing of Envoy.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from pydantic import SecretBytes

    from inferway.resources import EndpointPickerConfig
    from inferway.routing.features import Filters, Retry, Session, Stickiness
    from inferway.routing.foreign_pickers import ForeignPicker

from inferway.routing.health import DEFAULT_HEALTH_CHECK, HealthCheck


class MatchKind(StrEnum):
    EXACT = "exact"
    PREFIX = "prefix"  # by path element: /a matches /a and /a/b, not /ab
    REGEX = "regex"


@dataclass(frozen=True, slots=True)
class KvEvents:
    """Where the first rank of a server publishes its KV events."""

    port: int
    replay_port: int | None
    ranks: int  # behind each of its addresses
    topic: str

    def at(self, place: int) -> KvEvents:
        """Where the server's endpoint of that place among those on its host publishes."""
        shift = place * self.ranks
        replay_port = None if self.replay_port is None else self.replay_port + shift
        return replace(self, port=self.port + shift, replay_port=replay_port)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of one model server. `host` is an IP literal or a DNS name, as written."""

    host: str
    port: int
    server: str  # namespace/name of the ModelServer; empty: an address of an EndpointSlice
    engine: str
    metrics_path: str
    labels: tuple[tuple[str, str], ...] = ()  # of the ModelServer, by name
    draining: bool = False  # it gets no new requests
    kv_events: KvEvents | None = None  # as the server says; None: it does not
    place: int = 0  # among the server's endpoints on the same host


class Sticky(StrEnum):
    """For whom a weighted choice between models stays the same."""

    NO = "none"
    SESSION = "session"
    USER = "user"


@dataclass(frozen=True, slots=True)
class RewriteTarget:
    model: str
    weight: int


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Which models serve a name. `model` empty: every name without a rewrite of its own."""

    model: str
    targets: tuple[RewriteTarget, ...]  # at least one, weights above 0
    sticky: Sticky = Sticky.NO


@dataclass(frozen=True, slots=True)
class Pool:
    name: str  # namespace/name
    endpoints: tuple[Endpoint, ...]
    h2c: bool
    fail_open: bool
    policy: str
    objectives: tuple[tuple[str, int], ...]  # (objective name, priority)
    rewrites: tuple[Rewrite, ...] = ()  # by name
    health: HealthCheck = DEFAULT_HEALTH_CHECK
    picker: ForeignPicker | None = None  # None: the built-in one
    picker_config: EndpointPickerConfig | None = None  # None: every default
    backend_timeout_s: float | None = None  # where the route says none


@dataclass(frozen=True, slots=True)
class ServerGroup:
    """A plain backend: servers balanced by Envoy itself, without the picker."""

    # namespace/name of the ModelServer, with :port when its addresses take theirs from the route;
    # service/namespace/name:port of a Service
    name: str
    endpoints: tuple[Endpoint, ...]
    h2c: bool = False
    health: HealthCheck = DEFAULT_HEALTH_CHECK
    backend_timeout_s: float | None = None  # where the route says none


@dataclass(frozen=True, slots=True)
class ValueMatch:
    """A header or query-parameter condition. Header names are lower case."""

    name: str
    kind: MatchKind  # exact or regex
    value: str


@dataclass(frozen=True, slots=True)
class RouteMatch:
    path_kind: MatchKind = MatchKind.PREFIX
    path: str = "/"
    method: str | None = None
    headers: tuple[ValueMatch, ...] = ()
    query: tuple[ValueMatch, ...] = ()


class TargetKind(StrEnum):
    POOL = "pool"
    SERVERS = "servers"
    # An unresolved reference: its share of the traffic is answered 500, as the Gateway API says.
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Target:
    kind: TargetKind
    name: str  # key in RoutingModel.pools / server_groups; for an error: what could not be resolved
    weight: int
    filters: Filters | None = None  # those of the rule with the backend's own; None: the rule's


@dataclass(frozen=True, slots=True)
class Route:
    """One match of one HTTPRoute rule. Empty `targets` answer 500, unless the filters redirect. A
    timeout of 0 switches it off; None, here and below: the manifest does not say.
    """

    name: str  # namespace/route/rule index/match index
    match: RouteMatch
    targets: tuple[Target, ...]
    request_timeout_s: float | None = None
    backend_timeout_s: float | None = None
    filters: Filters | None = None
    retry: Retry | None = None
    session: Session | None = None
    stickiness: Stickiness | None = None  # of the choice between the targets


@dataclass(frozen=True, slots=True)
class VirtualHost:
    hostnames: tuple[str, ...]  # "*" or "*.example.com" or "example.com"
    routes: tuple[Route, ...]  # in the order in which they are tried


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate chain and its private key, in PEM form."""

    name: str  # namespace/name of the Secret
    chain: bytes
    key: SecretBytes  # never shown
    starts: datetime
    expires: datetime


@dataclass(frozen=True, slots=True)
class ClientValidation:
    """Whose signature under a client's certificate counts. Equal names have equal content."""

    name: str  # clients/namespace/gateway:port
    authorities: str  # PEM
    required: bool  # False: clients without a certificate, or with any other, are served too


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """Whose connections a TLS listener takes, and what it shows them."""

    server_names: tuple[str, ...]  # host patterns that a client may ask for; empty: any, or none
    certificates: tuple[str, ...]  # keys of RoutingModel.certificates
    clients: ClientValidation | None = None  # None: they are not asked for certificates


@dataclass(frozen=True, slots=True)
class Listener:
    """Clear-text listeners of Gateways that share an address and port are one. Listeners with TLS
    stay apart, because a connection belongs to one of them by the name that its client asked for.
    """

    name: str  # namespace/gateway/listener of the first; with @address when it has several
    address: str
    port: int
    hosts: tuple[VirtualHost, ...]
    tls: ListenerTls | None = None
    # Host patterns of other TLS listeners on this port: on a connection to this one they are
    # misdirected.
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RoutingModel:
    listeners: tuple[Listener, ...] = ()
    pools: dict[str, Pool] = field(default_factory=dict)
    server_groups: dict[str, ServerGroup] = field(default_factory=dict)
    certificates: dict[str, Certificate] = field(default_factory=dict)  # that listeners use
    base_models: tuple[tuple[str, str], ...] = ()  # (model, its base model), as ConfigMaps say
