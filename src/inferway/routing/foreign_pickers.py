"""Pools that bring their own endpoint picker.

Problem: `endpointPickerRef` may name a Service that speaks the Endpoint Picker Protocol, and the
gateway must reach it the way it is served: the reference picker has TLS with a certificate that it
signs itself. Model: the Service's endpoints, and how to reach them from the pool's annotations:
`inferway.dev/picker-tls` (`skip-verify`, the default; `verify`; `off`), for `verify` the name in
the certificate and the ConfigMap with the authorities, and how long a pick may take. Invariants:
what Envoy would refuse is refused here, for this pool alone; a mistake in what makes TLS safe never
makes it less safe. A Service that the manifests do not define is no mistake in a directory: the
built-in picker takes its place.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from inferway.resources.scalars import (
    DNS_SUBDOMAIN_PATTERN,
    DURATION_PATTERN,
    PATTERN_MEANING,
    duration_s,
)
from inferway.routing.authorities import MissingAuthoritiesError
from inferway.routing.status import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferway.resources import InferencePool
    from inferway.resources.inference_pool import EndpointPickerRef
    from inferway.routing.authorities import Authorities
    from inferway.routing.model import Endpoint
    from inferway.routing.services import Services

TLS_ANNOTATION: Final = "inferway.dev/picker-tls"
SERVER_NAME_ANNOTATION: Final = "inferway.dev/picker-server-name"
AUTHORITIES_ANNOTATION: Final = "inferway.dev/picker-ca"
TIMEOUT_ANNOTATION: Final = "inferway.dev/picker-timeout"
TIMEOUT_DEFAULT_S: Final = 5.0
_DURATION: Final = re.compile(DURATION_PATTERN)
_DNS_NAME: Final = re.compile(DNS_SUBDOMAIN_PATTERN)
_DNS_NAME_BYTES_MAX: Final = 253


class PickerTls(StrEnum):
    SKIP_VERIFY = "skip-verify"
    VERIFY = "verify"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class ForeignPicker:
    """`server_name` counts unless TLS is off, `authorities` (PEM) when certificates are verified;
    without them the file does. `timeout_s` is how long it may be silent before it has picked.
    """

    endpoints: tuple[Endpoint, ...]
    tls: PickerTls = PickerTls.SKIP_VERIFY
    server_name: str = ""
    authorities: str = ""
    authorities_file: str = ""
    timeout_s: float = TIMEOUT_DEFAULT_S


@dataclass(frozen=True, slots=True)
class WhoPicks:
    """`foreign` None: the built-in picker, or nobody when there is a refusal."""

    foreign: ForeignPicker | None = None
    refusal: Refusal | None = None
    remarks: tuple[tuple[str, str], ...] = ()  # what a person should know, and the field


@dataclass(frozen=True, slots=True)
class Pickers:
    """Everything that may stand behind an `endpointPickerRef`. `system_ca_file`: see settings."""

    services: Services
    authorities: Authorities
    system_ca_file: str

    def who_picks(self, pool: InferencePool) -> WhoPicks:
        """Whose choice a pool follows."""
        reference = pool.spec.endpoint_picker_ref
        if reference is None or pool.picker_is_built_in:
            return WhoPicks()
        if (reference.group, reference.kind) != ("", "Service"):
            kind = f"{reference.group}/{reference.kind}".removeprefix("/")
            return _refused(f"endpointPickerRef: kind {kind} is not supported; supported: Service")
        name = f"{pool.namespace}/{reference.name}"
        if name not in self.services:
            words = f"Service {name} is not in the manifests: the built-in picker is used"
            return WhoPicks(remarks=((words, "spec.endpointPickerRef"),))
        # Decoding demands a port of a reference to a Service.
        port = reference.port.number if reference.port else 0
        found = self.services.find(name, port, any_protocol=True)
        if isinstance(found, Refusal):
            return _refused(f"endpointPickerRef: {found.message}")
        time = pool.metadata.annotations.get(TIMEOUT_ANNOTATION, "")
        plain = ForeignPicker(found.endpoints, timeout_s=_time_s(time) or TIMEOUT_DEFAULT_S)
        try:
            foreign = self._secured(plain, pool, reference)
        except _UnsafeError as error:
            return _refused(str(error))
        return WhoPicks(foreign, remarks=tuple(_remarks(pool, foreign.tls)))

    def _secured(
        self, plain: ForeignPicker, pool: InferencePool, reference: EndpointPickerRef
    ) -> ForeignPicker:
        """Raises _UnsafeError."""
        annotations = pool.metadata.annotations
        written = annotations.get(TLS_ANNOTATION, PickerTls.SKIP_VERIFY.value)
        if written not in set(PickerTls):
            known = ", ".join(PickerTls)
            raise _UnsafeError(f"{TLS_ANNOTATION}: unknown: {written}; known: {known}")
        tls = PickerTls(written)
        if tls is PickerTls.OFF:
            return replace(plain, tls=tls)
        default = f"{reference.name}.{pool.namespace}.svc"
        name = annotations.get(SERVER_NAME_ANNOTATION, default)
        if len(name) > _DNS_NAME_BYTES_MAX or not _DNS_NAME.fullmatch(name):
            meaning = PATTERN_MEANING[DNS_SUBDOMAIN_PATTERN]
            words = f"must be a DNS name of at most {_DNS_NAME_BYTES_MAX} bytes ({meaning}): {name}"
            raise _UnsafeError(f"{SERVER_NAME_ANNOTATION}: {words}")
        named = replace(plain, tls=tls, server_name=name)
        return self._verified(named, pool) if tls is PickerTls.VERIFY else named

    def _verified(self, named: ForeignPicker, pool: InferencePool) -> ForeignPicker:
        """Raises _UnsafeError when there is nobody whose signature counts."""
        name = pool.metadata.annotations.get(AUTHORITIES_ANNOTATION)
        if name is not None:
            try:
                found = self.authorities.find(f"{pool.namespace}/{name}")
            except MissingAuthoritiesError as error:
                raise _UnsafeError(f"{AUTHORITIES_ANNOTATION}: {error}") from error
            return replace(named, authorities=found)
        if not self.system_ca_file:
            words = "this machine has no authorities of its own to verify certificates with"
            hint = f"name a ConfigMap with yours in the annotation {AUTHORITIES_ANNOTATION}"
            raise _UnsafeError(f"{TLS_ANNOTATION}: {words}; {hint}")
        return replace(named, authorities_file=self.system_ca_file)


class _UnsafeError(Exception):
    """The pool's annotations say no safe way to reach its picker. The text is for people."""


def _refused(words: str) -> WhoPicks:
    return WhoPicks(refusal=Refusal("InvalidExtensionRef", words))


def _time_s(written: str) -> float:
    """0 when it is no duration."""
    return duration_s(written) if _DURATION.fullmatch(written) else 0.0


def _remarks(pool: InferencePool, tls: PickerTls) -> Iterator[tuple[str, str]]:
    annotations = pool.metadata.annotations
    if AUTHORITIES_ANNOTATION in annotations and tls is not PickerTls.VERIFY:
        words = f"no effect: certificates are verified when {TLS_ANNOTATION} is verify"
        yield words, f"metadata.annotations[{AUTHORITIES_ANNOTATION}]"
    time = annotations.get(TIMEOUT_ANNOTATION, "")
    if time and not _time_s(time):
        words = f"not a duration above zero such as 5s: {time}; {TIMEOUT_DEFAULT_S:g}s is used"
        yield words, f"metadata.annotations[{TIMEOUT_ANNOTATION}]"
