"""Certificates of clients: whose signature an HTTPS listener believes.

Problem: a Gateway says for all its HTTPS ports, or for one, that clients must show a certificate;
what it names may be missing, damaged or of another namespace that does not allow it. Model:
`ClientValidations.judge` gives a listener the authorities that can be read and the reasons why the
others cannot. Invariant: a listener that is to validate and has no authority at all is not served,
so what was meant to be closed is never open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.routing.authorities import MissingAuthoritiesError
from inferway.routing.grants import Grants, Referent, gateway_in
from inferway.routing.model import ClientValidation
from inferway.routing.status import Refusal, combined

if TYPE_CHECKING:
    from inferway.resources import Gateway
    from inferway.resources.gateway import Listener
    from inferway.resources.references import ObjectReference
    from inferway.routing.authorities import Authorities

_ALL = "spec.tls.frontend: none of caCertificateRefs can be used, so no client could be validated"


@dataclass(frozen=True, slots=True)
class JudgedValidation:
    """`validation` None: clients need no certificate, unless there is a refusal."""

    validation: ClientValidation | None = None
    unresolved: Refusal | None = None  # references that cannot be used
    refusal: Refusal | None = None  # none can: the listener is not served


@dataclass(frozen=True, slots=True)
class ClientValidations:
    """Everything that `caCertificateRefs` may lead to."""

    authorities: Authorities
    grants: Grants

    def judge(self, gateway: Gateway, listener: Listener) -> JudgedValidation:
        """What a listener asks of its clients; only HTTPS ones ask."""
        wanted = gateway.spec.validation_at(listener.port)
        if listener.protocol_upper != "HTTPS" or wanted is None:
            return JudgedValidation()
        texts, refusals = [], []
        for index, reference in enumerate(wanted.ca_certificate_refs):
            found = self._resolve(reference, gateway.namespace)
            if isinstance(found, Refusal):
                words = f"spec.tls.frontend: caCertificateRefs[{index}]: {found.message}"
                refusals.append(Refusal(found.reason, words))
            else:
                texts.append(found)
        unresolved = combined(refusals)
        if not texts:
            refusal = Refusal("NoValidCACertificate", _ALL)
            return JudgedValidation(unresolved=unresolved, refusal=refusal)
        validation = ClientValidation(
            name=f"clients/{gateway.qualified_name}:{listener.port}",
            authorities="".join(texts),
            required=wanted.mode == "AllowValidOnly",
        )
        return JudgedValidation(validation, unresolved)

    def _resolve(self, reference: ObjectReference, namespace: str) -> str | Refusal:
        within = reference.namespace or namespace
        if (reference.group, reference.kind) != ("", "ConfigMap"):
            shown = f"{reference.group}/{reference.kind}".removeprefix("/")
            words = f"kind {shown} is not supported; supported: ConfigMap"
            return Refusal("InvalidCACertificateKind", words)
        name = f"{within}/{reference.name}"
        referent = Referent("", "ConfigMap", within, reference.name)
        if not self.grants.permit(gateway_in(namespace), referent):
            words = f"ConfigMap {name} is in another namespace, and no ReferenceGrant allows it"
            return Refusal("RefNotPermitted", words)
        try:
            return self.authorities.find(name)
        except MissingAuthoritiesError as error:
            return Refusal("InvalidCACertificateRef", str(error))
