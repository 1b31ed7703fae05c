"""Pools that bring their own endpoint picker.

Problem: `endpointPickerRef` may name a Service that speaks the Endpoint Picker Protocol, and the
gateway must reach it the way it is served: the reference picker has TLS with a certificate that it
signs itself. Model: the Service's endpoints, and how to reach them from the pool's annotations:
`inferway.dev/picker-tls` (`skip-verify`, the default; `verify`; `off`), for `verify` the name in
the certificate and the file with the authorities, and how long a pick may take. A Service that the
manifests do not define is no mistake in a directory: the built-in picker takes its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from inferway.resources.scalars import DURATION_PATTERN, duration_s
from inferway.routing.status import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferway.resources import InferencePool
    from inferway.routing.model import Endpoint
    from inferway.routing.services import Services

TLS_ANNOTATION: Final = "inferway.dev/picker-tls"
SERVER_NAME_ANNOTATION: Final = "inferway.dev/picker-server-name"
CA_FILE_ANNOTATION: Final = "inferway.dev/picker-ca-file"
TIMEOUT_ANNOTATION: Final = "inferway.dev/picker-timeout"
CA_FILE_DEFAULT: Final = "/etc/ssl/certs/ca-certificates.crt"
TIMEOUT_DEFAULT_S: Final = 5.0
_DURATION: Final = re.compile(DURATION_PATTERN)


class PickerTls(StrEnum):
    SKIP_VERIFY = "skip-verify"
    VERIFY = "verify"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ForeignPicker:
    """`server_name` and `ca_file` count when certificates are verified. `timeout_s` is how long it
    may be silent before it has picked.
    """

    endpoints: tuple[Endpoint, ...]
    tls: PickerTls = PickerTls.SKIP_VERIFY
    server_name: str = ""
    ca_file: str = CA_FILE_DEFAULT
    timeout_s: float = TIMEOUT_DEFAULT_S


@dataclass(frozen=True, slots=True)
class WhoPicks:
    """`foreign` None: the built-in picker, or nobody when there is a refusal."""

    foreign: ForeignPicker | None = None
    refusal: Refusal | None = None
    remarks: tuple[tuple[str, str], ...] = ()  # what a person should know, and the field


def who_picks(pool: InferencePool, services: Services) -> WhoPicks:
    """Whose choice a pool follows."""
    reference = pool.spec.endpoint_picker_ref
    if reference is None or pool.picker_is_built_in:
        return WhoPicks()
    if (reference.group, reference.kind) != ("", "Service"):
        kind = f"{reference.group}/{reference.kind}".removeprefix("/")
        return WhoPicks(
            refusal=Refusal(
                "InvalidExtensionRef",
                f"endpointPickerRef: kind {kind} is not supported; supported: Service",
            )
        )
    name = f"{pool.namespace}/{reference.name}"
    if name not in services:
        words = f"Service {name} is not in the manifests: the built-in picker is used"
        return WhoPicks(remarks=((words, "spec.endpointPickerRef"),))
    # Decoding demands a port of a reference to a Service.
    found = services.find(name, reference.port.number if reference.port else 0, any_protocol=True)
    if isinstance(found, Refusal):
        words = f"endpointPickerRef: {found.message}"
        return WhoPicks(refusal=Refusal("InvalidExtensionRef", words))
    annotations = pool.metadata.annotations
    tls = annotations.get(TLS_ANNOTATION, PickerTls.SKIP_VERIFY.value)
    time = annotations.get(TIMEOUT_ANNOTATION, "")
    foreign = ForeignPicker(
        endpoints=found.endpoints,
        tls=PickerTls(tls) if tls in set(PickerTls) else PickerTls.SKIP_VERIFY,
        server_name=annotations.get(
            SERVER_NAME_ANNOTATION, f"{reference.name}.{pool.namespace}.svc"
        ),
        ca_file=annotations.get(CA_FILE_ANNOTATION, CA_FILE_DEFAULT),
        timeout_s=_time_s(time) or TIMEOUT_DEFAULT_S,
    )
    return WhoPicks(foreign, remarks=tuple(_remarks(tls, time)))


def _time_s(written: str) -> float:
    """0 when it is no duration."""
    return duration_s(written) if _DURATION.fullmatch(written) else 0.0


def _remarks(tls: str, time: str) -> Iterator[tuple[str, str]]:
    if tls not in set(PickerTls):
        words = f"unknown: {tls}; skip-verify is used; known: {', '.join(PickerTls)}"
        yield words, f"metadata.annotations[{TLS_ANNOTATION}]"
    if time and not _time_s(time):
        words = f"not a duration above zero such as 5s: {time}; {TIMEOUT_DEFAULT_S:g}s is used"
        yield words, f"metadata.annotations[{TIMEOUT_ANNOTATION}]"
