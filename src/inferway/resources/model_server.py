"""ModelServer: one model server outside Kubernetes, where no Pod stands for it.

An InferencePool selects ModelServers by the labels in their metadata, in its own namespace, exactly
as it would select Pods.
"""

import ipaddress
import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from .meta import Model, Object
from .scalars import DNS_SUBDOMAIN_PATTERN, URL_PATH_PATTERN, Between, Boolean, PortNumber
from .violations import Violation, reject

ADDRESSES_MAX = 64
RANKS_MAX = 64

Engine = Literal["vllm", "sglang", "trtllm-serve", "triton-tensorrt-llm", "triton"]

_DNS_NAME = re.compile(DNS_SUBDOMAIN_PATTERN)
_DNS_LABEL_LENGTH_MAX = 63
_HOST_AND_PORT = re.compile(r"^[^:]+:[0-9]+$|^\[.*\]:[0-9]+$")


def normalise_host(host: str) -> str:
    """An IP literal in its shortest form without brackets, or a lower-case DNS name without the
    final dot.
    """
    hint = "an IPv4 or IPv6 address, or a DNS name"
    if _HOST_AND_PORT.fullmatch(host):
        reject([Violation(f"host must not contain a port: {host}", (), "use the port field")])
    if "://" in host:
        reject([Violation(f"host must not be a URL: {host}", (), "use the host name only")])
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" in bare:
        try:
            address = ipaddress.IPv6Address(bare)
        except ValueError:
            reject([Violation(f"not an IPv6 address: {host}", (), hint)])
        else:
            if address.scope_id is not None:
                reject([Violation(f"a zone is not supported in an IPv6 address: {host}")])
            return address.compressed
    name = host.lower().removesuffix(".")
    labels = name.split(".")
    if labels[-1].isdigit():
        try:
            return ipaddress.IPv4Address(name).compressed
        except ValueError:
            reject([Violation(f"not an IPv4 address: {host}", (), hint)])
    if not _DNS_NAME.fullmatch(name) or max(map(len, labels)) > _DNS_LABEL_LENGTH_MAX:
        reject([Violation(f"not an IP address or DNS name: {host}", (), hint)])
    return name


class ServerAddress(Model):
    """One place where the server listens."""

    host: Annotated[
        str,
        StringConstraints(min_length=1, max_length=253),
        AfterValidator(normalise_host),
        Field(description="IPv4 address, IPv6 address (with or without brackets) or DNS name"),
    ]
    port: PortNumber | None = Field(
        default=None,
        description="unset: every targetPort of the selecting pool, each an endpoint of its own",
    )


class KvEvents(Model):
    """Where engines publish what their KV caches hold, over ZeroMQ: vLLM's and SGLang's
    `--kv-events-config`.
    """

    port: PortNumber = Field(
        default=5557,
        description="of the first rank; each further one, and each further address of the server "
        "on the same host, publishes on the next",
    )
    replay_port: PortNumber | None = Field(
        default=None, description="counts up like port; unset: missed events cannot be asked for"
    )
    ranks: Annotated[int, Between(1, RANKS_MAX)] = Field(
        default=1, description="data-parallel ranks behind each address"
    )
    topic: Annotated[str, StringConstraints(max_length=512)] = Field(
        default="", description="only events of topics that begin so"
    )


class ModelServerSpec(Model):
    addresses: Annotated[
        tuple[ServerAddress, ...],
        Field(
            min_length=1,
            max_length=ADDRESSES_MAX,
            description="where the server listens; each address is an endpoint",
        ),
    ]
    engine: Engine = Field(
        default="vllm",
        description="which metric names and admin routes the server has; unset: as the label"
        " llm-d.ai/engine-type or the pool's EndpointPickerConfig says",
    )
    metrics_path: Annotated[str, StringConstraints(max_length=1024, pattern=URL_PATH_PATTERN)] = (
        Field(default="/metrics", description="where the server exposes Prometheus metrics")
    )
    draining: Boolean = Field(
        default=False,
        description="true: it gets no new requests; those that run there go on to their end",
    )
    kv_events: KvEvents | None = Field(
        default=None,
        description="where it publishes what its KV cache holds; unset: as the pool's "
        "EndpointPickerConfig says",
    )

    @model_validator(mode="after")
    def _addresses_are_unique(self) -> Self:
        seen: set[tuple[str, int | None]] = set()
        found = []
        for index, address in enumerate(self.addresses):
            if (address.host, address.port) in seen:
                message = f"address must be unique: {address.host}"
                found.append(Violation(message, ("addresses", index, "host")))
            seen.add((address.host, address.port))
        reject(found)
        return self


class ModelServer(Object):
    api_version: Literal["inferway.dev/v1alpha1"] = "inferway.dev/v1alpha1"
    kind: Literal["ModelServer"] = "ModelServer"
    spec: ModelServerSpec
