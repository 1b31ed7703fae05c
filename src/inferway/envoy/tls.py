"""TLS listeners and their certificates, which come by a discovery of their own (SDS).

Problem: a certificate is replaced every few weeks, and no connection may notice. Model: a filter
chain only names its certificates; the pairs are resources of their own, and a new one is used for
new connections from then on. Envoy reads the name that a client asks for before TLS begins and
takes the filter chain that fits it best; a client that asks for none of them finds its connection
closed. HTTP/2 is preferred to HTTP/1.1 (ALPN). Chains have names, so that one that comes or goes
leaves the connections of the others alone. Authorities by which clients are validated come the same
way; a change of them counts for new connections.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from inferway.envoy.messages import Json, Resource, ResourceType, resource, typed
from inferway.envoy.model_list import fixed_reply
from inferway.envoy.replies import error_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.routing.model import Certificate, ClientValidation, ListenerTls, RoutingModel

_TLS = "envoy.extensions.transport_sockets.tls.v3"
_MISDIRECTED = 421

TLS_INSPECTOR: Json = {
    "name": "envoy.filters.listener.tls_inspector",
    "typed_config": typed("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"),
}
"""Listener filter that reads the name a client asks for."""


def secrets(model: RoutingModel) -> tuple[Resource, ...]:
    """One per certificate and one per set of authorities, each under its own name."""
    clients = {
        one.tls.clients.name: one.tls.clients
        for one in model.listeners
        if one.tls and one.tls.clients
    }
    return (
        *(_secret(one) for one in model.certificates.values()),
        *(_authorities(one) for one in clients.values()),
    )


def tls_chain(name: str, tls: ListenerTls) -> Json:
    """What the filter chain of a listener of that name has in addition when it ends TLS."""
    required: Json = {}
    if tls.clients is not None and tls.clients.required:
        required = {"require_client_certificate": True}
    context = typed(
        f"{_TLS}.DownstreamTlsContext",
        **required,
        common_tls_context={
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [
                _by_discovery(name) for name in tls.certificates
            ],
            **_validation(tls),
        },
    )
    match: Json = {"server_names": list(tls.server_names)} if tls.server_names else {}
    return {
        "name": name,
        "filter_chain_match": match,
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": context},
    }


def _validation(tls: ListenerTls) -> Json:
    if tls.clients is None:
        return {}
    authorities = _by_discovery(tls.clients.name)
    if tls.clients.required:
        return {"validation_context_sds_secret_config": authorities}
    return {
        "combined_validation_context": {
            "default_validation_context": {"trust_chain_verification": "ACCEPT_UNTRUSTED"},
            "validation_context_sds_secret_config": authorities,
        }
    }


def _by_discovery(name: str) -> Json:
    return {"name": name, "sds_config": {"ads": {}, "resource_api_version": "V3"}}


def misdirected(hostnames: Sequence[str]) -> list[Json]:
    """The virtual host of what other listeners on the port serve; none when there are none."""
    if not hostnames:
        return []
    body = error_text(
        "This host is served on a connection of its own: connect again, asking for it.",
        kind="invalid_request_error",
        code="misdirected_request",
    )
    return [
        {
            "name": "misdirected",
            "domains": list(hostnames),
            "routes": [fixed_reply({"prefix": "/"}, _MISDIRECTED, body)],
        }
    ]


def _secret(certificate: Certificate) -> Resource:
    return resource(
        ResourceType.SECRET,
        {
            "name": certificate.name,
            "tls_certificate": {
                "certificate_chain": {"inline_bytes": _base64(certificate.chain)},
                "private_key": {"inline_bytes": _base64(certificate.key.get_secret_value())},
            },
        },
    )


def _authorities(clients: ClientValidation) -> Resource:
    return resource(
        ResourceType.SECRET,
        {
            "name": clients.name,
            "validation_context": {"trusted_ca": {"inline_string": clients.authorities}},
        },
    )


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
