"""The only place that touches Envoy's generated protobuf classes.

Problem: those classes have no type information, so every use of them is unchecked. Model: the rest
of the room writes resources as plain JSON mappings in the shape of Envoy's documentation; here they
are parsed into messages, which rejects unknown fields and wrong types, and become bytes. Invariant:
equal content gives equal bytes, so that a hash of them is a version.

Cost: parsing takes some 200 µs per route or cluster, and a change of manifests touches few of
hundreds. So what was parsed lately is remembered by its JSON text, routes one by one; the same
again costs 10 µs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

# The imports register the message types that "@type" names in our resources refer to.
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import extension_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.bootstrap.internal_listener.v3 import internal_listener_pb2
from envoy.extensions.filters.http.cors.v3 import cors_pb2
from envoy.extensions.filters.http.dynamic_modules.v3 import dynamic_modules_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2
from envoy.extensions.filters.http.header_to_metadata.v3 import header_to_metadata_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.http.stateful_session.v3 import stateful_session_pb2
from envoy.extensions.filters.listener.tls_inspector.v3 import tls_inspector_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.http.early_header_mutation.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.http.stateful_session.cookie.v3 import cookie_pb2
from envoy.extensions.http.stateful_session.header.v3 import header_pb2
from envoy.extensions.load_balancing_policies.least_request.v3 import least_request_pb2
from envoy.extensions.load_balancing_policies.override_host.v3 import override_host_pb2
from envoy.extensions.resource_monitors.downstream_connections.v3 import downstream_connections_pb2
from envoy.extensions.retry.host.previous_hosts.v3 import previous_hosts_pb2
from envoy.extensions.transport_sockets.tls.v3 import secret_pb2, tls_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf import any_pb2, json_format, wrappers_pb2
from xds.type.v3 import typed_struct_pb2

if TYPE_CHECKING:
    from google.protobuf.message import Message

JsonValue: TypeAlias = (
    "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
)
Json: TypeAlias = Mapping[str, JsonValue]

REGISTERED = (
    cel_pb2,
    internal_listener_pb2,
    cors_pb2,
    ext_proc_pb2,
    header_to_metadata_pb2,
    stateful_session_pb2,
    cookie_pb2,
    header_pb2,
    dynamic_modules_pb2,
    router_pb2,
    http_connection_manager_pb2,
    header_mutation_pb2,
    least_request_pb2,
    override_host_pb2,
    downstream_connections_pb2,
    previous_hosts_pb2,
    tls_inspector_pb2,
    tls_pb2,
    http_protocol_options_pb2,
    wrappers_pb2,
    typed_struct_pb2,
)

_TYPE_PREFIX = "type.googleapis.com/"
# Messages that are remembered, of some kilobytes each: about twice what 5,000 routes need.
_ENCODED_MAX = 16_384


class ResourceType(StrEnum):
    """The xDS resource types we serve; the value is the type URL."""

    CLUSTER = _TYPE_PREFIX + "envoy.config.cluster.v3.Cluster"
    ENDPOINTS = _TYPE_PREFIX + "envoy.config.endpoint.v3.ClusterLoadAssignment"
    LISTENER = _TYPE_PREFIX + "envoy.config.listener.v3.Listener"
    ROUTES = _TYPE_PREFIX + "envoy.config.route.v3.RouteConfiguration"
    SECRET = _TYPE_PREFIX + "envoy.extensions.transport_sockets.tls.v3.Secret"
    EXTENSION = _TYPE_PREFIX + "envoy.config.core.v3.TypedExtensionConfig"


@dataclass(frozen=True, slots=True)
class Resource:
    """One xDS resource: its name and its message as deterministic bytes, which may hold a private
    key and are never shown.
    """

    type: ResourceType
    name: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DiscoveryRequest:
    """What Envoy says: it wants these resources, or it took or refused the reply `nonce`."""

    type: ResourceType | None  # None: a type that we do not serve
    nonce: str = ""  # of the reply it answers; empty in a first request
    names: frozenset[str] = frozenset()
    error: str | None = None  # why it refused the reply


@dataclass(frozen=True, slots=True)
class DiscoveryReply:
    """Resources of one type, sent to Envoy."""

    type: ResourceType
    version: str
    nonce: str
    resources: tuple[Resource, ...]


class InvalidResourceError(ValueError):
    """A mapping that is no legal message of its type. The text says which field."""


def typed(message: str, **fields: JsonValue) -> Json:
    """An `Any` field: the message's full name and its fields."""
    return {"@type": _TYPE_PREFIX + message, **fields}


def resource(kind: ResourceType, content: Json) -> Resource:
    """Raises InvalidResourceError. The name is taken from the content."""
    name = content.get("name", content.get("cluster_name"))
    if not isinstance(name, str) or not name:
        raise InvalidResourceError(f"{kind.name.lower()} without a name")
    if kind is ResourceType.ROUTES:
        return Resource(kind, name, _routes_bytes(content))
    return Resource(kind, name, _resource_bytes(kind, json.dumps(content)))


def resource_json(one: Resource) -> str:
    """Canonical JSON text of a resource, for people and golden files; without private keys."""
    message = _new(one.type)
    message.ParseFromString(one.body)
    if isinstance(message, secret_pb2.Secret) and message.HasField("tls_certificate"):
        message.tls_certificate.ClearField("private_key")
    return _json_text(message)


def bootstrap_json(content: Json) -> str:
    """Envoy's start-up configuration as checked JSON text. Raises InvalidResourceError."""
    empty: Message = bootstrap_pb2.Bootstrap()
    return _json_text(_parse(empty, content))


def read_request(data: bytes) -> DiscoveryRequest:
    """A discovery request from its wire form."""
    message = discovery_pb2.DiscoveryRequest.FromString(data)
    known = {kind.value: kind for kind in ResourceType}
    return DiscoveryRequest(
        type=known.get(str(message.type_url)),
        nonce=str(message.response_nonce),
        names=frozenset(str(name) for name in message.resource_names),
        error=str(message.error_detail.message) if message.HasField("error_detail") else None,
    )


def write_reply(reply: DiscoveryReply) -> bytes:
    """The wire form of a discovery response."""
    message: Message = discovery_pb2.DiscoveryResponse(
        version_info=reply.version,
        nonce=reply.nonce,
        type_url=reply.type.value,
        resources=[any_pb2.Any(type_url=one.type.value, value=one.body) for one in reply.resources],
    )
    return message.SerializeToString(deterministic=True)


def _routes_bytes(content: Json) -> bytes:
    """A RouteConfiguration, put together from routes that are remembered one by one."""
    hosts = _mappings(content, "virtual_hosts")
    bare = [{name: value for name, value in host.items() if name != "routes"} for host in hosts]
    message: Any = _parse(_new(ResourceType.ROUTES), {**content, "virtual_hosts": bare})
    for host, written in zip(message.virtual_hosts, hosts, strict=True):
        for route in _mappings(written, "routes"):
            host.routes.add().MergeFromString(_route_bytes(json.dumps(route)))
    return bytes(message.SerializeToString(deterministic=True))


def _mappings(content: Json, field: str) -> list[Json]:
    """The entries of a list of mappings. Raises InvalidResourceError when it is something else."""
    found = content.get(field, [])
    if not isinstance(found, list) or not all(isinstance(one, Mapping) for one in found):
        raise InvalidResourceError(f"{field}: not a list of mappings")
    return found


@lru_cache(maxsize=_ENCODED_MAX)
def _route_bytes(text: str) -> bytes:
    route: Message = route_components_pb2.Route()
    return _parse(route, json.loads(text)).SerializeToString(deterministic=True)


@lru_cache(maxsize=_ENCODED_MAX)
def _resource_bytes(kind: ResourceType, text: str) -> bytes:
    return _parse(_new(kind), json.loads(text)).SerializeToString(deterministic=True)


def _json_text(message: Message) -> str:
    plain = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _new(kind: ResourceType) -> Message:
    message: Message
    match kind:
        case ResourceType.CLUSTER:
            message = cluster_pb2.Cluster()
        case ResourceType.ENDPOINTS:
            message = endpoint_pb2.ClusterLoadAssignment()
        case ResourceType.LISTENER:
            message = listener_pb2.Listener()
        case ResourceType.ROUTES:
            message = route_pb2.RouteConfiguration()
        case ResourceType.SECRET:
            message = secret_pb2.Secret()
        case ResourceType.EXTENSION:
            message = extension_pb2.TypedExtensionConfig()
    return message


def _parse(message: Message, content: Json) -> Message:
    try:
        json_format.ParseDict(dict(content), message)
    except json_format.ParseError as error:
        raise InvalidResourceError(str(error)) from error
    return message


def seconds(value: float) -> str:
    """A duration as protobuf's JSON form has it."""
    return f"{value:.9f}".rstrip("0").rstrip(".") + "s"
