"""Certificates of HTTPS listeners, read out of the Secrets that they refer to.

Problem: a listener names Secrets, perhaps of other namespaces; what is in them may be missing,
damaged, or a key that belongs to another certificate, and Envoy would refuse a whole update for
one such pair. Model: `Certificates.resolve` gives a checked certificate or the reason why not, and
never looks into a Secret that the Gateway may not refer to. What is read here is what Envoy can
serve: RSA keys from 2,048 bits, ECDSA keys on the NIST curves. Whether a certificate is in date is
not a reason to refuse it (certificate_dates.py). Invariant: no text that is made here holds
anything of a key.

Cost: reading a pair takes some 100 µs, checking an RSA key tens of ms, so pairs are remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from pydantic import SecretBytes

from inferway.resources.secret import CERTIFICATE_KEY, PRIVATE_KEY_KEY, TLS_TYPE
from inferway.routing.grants import Grants, Referent, gateway_in
from inferway.routing.model import Certificate
from inferway.routing.pem import read_certificates
from inferway.routing.status import Refusal, combined

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

    from inferway.resources import Secret
    from inferway.resources.gateway import Listener
    from inferway.resources.references import SecretObjectReference

_RSA_BITS_MIN = 2048
_CURVES = ("secp256r1", "secp384r1", "secp521r1")
_SERVED = f"RSA from {_RSA_BITS_MIN} bits, ECDSA on P-256, P-384 or P-521"
_REMEMBERED_MAX = 1024


class Certificates:
    """Every Secret that a Gateway may name. Built once per translation."""

    def __init__(self, secrets: Iterable[Secret], grants: Grants) -> None:
        self._secrets = {secret.qualified_name: secret for secret in secrets}
        self._grants = grants

    def resolve(self, reference: SecretObjectReference, *, namespace: str) -> Certificate | Refusal:
        """What a reference of a Gateway in `namespace` leads to."""
        within = reference.namespace or namespace
        name = f"{within}/{reference.name}"
        if (reference.group, reference.kind) != ("", "Secret"):
            shown = f"{reference.group}/{reference.kind}".removeprefix("/")
            return _invalid(f"kind {shown} is not supported; supported: Secret")
        referent = Referent("", "Secret", within, reference.name)
        if not self._grants.permit(gateway_in(namespace), referent):
            words = f"Secret {name} is in another namespace, and no ReferenceGrant allows it"
            return Refusal("RefNotPermitted", words)
        secret = self._secrets.get(name)
        if secret is None:
            return _invalid(f"Secret {name} does not exist")
        if secret.type != TLS_TYPE:
            return _invalid(f"Secret {name} is of type {secret.type}; supported: {TLS_TYPE}")
        chain, key = secret.value(CERTIFICATE_KEY), secret.value(PRIVATE_KEY_KEY)
        found = _read(name, chain or b"", key or b"")
        if isinstance(found, str):
            return _invalid(f"Secret {name}: {found}")
        return found


@dataclass(frozen=True, slots=True)
class ListenerCertificates:
    """What a listener can show, and why not all that it should."""

    certificates: tuple[Certificate, ...] = ()
    refusal: Refusal | None = None


def listener_certificates(
    listener: Listener, namespace: str, certificates: Certificates
) -> ListenerCertificates:
    """The certificates of an HTTPS listener; of any other protocol it has none."""
    if listener.protocol_upper != "HTTPS":
        return ListenerCertificates()
    references = listener.tls.certificate_refs if listener.tls else ()
    if not references:
        return ListenerCertificates(refusal=_invalid(_without_references(listener)))
    found: dict[str, Certificate] = {}
    refusals = []
    for index, reference in enumerate(references):
        one = certificates.resolve(reference, namespace=namespace)
        if isinstance(one, Refusal):
            words = f"tls.certificateRefs[{index}]: {one.message}"
            refusals.append(Refusal(one.reason, words))
        else:
            found[one.name] = one
    return ListenerCertificates(tuple(found.values()), combined(refusals))


def _without_references(listener: Listener) -> str:
    options = ", ".join(listener.tls.options) if listener.tls else ""
    hint = f"protocol HTTPS needs tls.certificateRefs to a Secret of type {TLS_TYPE}"
    if not options:
        return hint
    return f"tls.options {options} means nothing to this gateway: {hint}"


def _invalid(words: str) -> Refusal:
    return Refusal("InvalidCertificateRef", words)


@lru_cache(maxsize=_REMEMBERED_MAX)
def _read(name: str, chain: bytes, key: bytes) -> Certificate | str:
    """The certificate of a chain and a private key in PEM form, or what is wrong with them."""
    try:
        first = read_certificates(chain)[0]
    except ValueError:
        return f"{CERTIFICATE_KEY} is not a certificate in PEM form"
    try:
        private = load_pem_private_key(key, password=None)
    except TypeError:
        return f"{PRIVATE_KEY_KEY} is encrypted; store it without a password"
    except (ValueError, UnsupportedAlgorithm):
        return f"{PRIVATE_KEY_KEY} is not a private key in PEM form"
    public = first.public_key()
    if _bytes_of(private.public_key()) != _bytes_of(public):
        return f"{PRIVATE_KEY_KEY} does not belong to the certificate in {CERTIFICATE_KEY}"
    if not _is_served(public):
        return f"this kind of key is not supported; supported: {_SERVED}"
    return Certificate(
        name=name,
        chain=chain,
        key=SecretBytes(key),
        starts=first.not_valid_before_utc,
        expires=first.not_valid_after_utc,
    )


def _bytes_of(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _is_served(key: PublicKeyTypes) -> bool:
    if isinstance(key, RSAPublicKey):
        return key.key_size >= _RSA_BITS_MIN
    return isinstance(key, EllipticCurvePublicKey) and key.curve.name in _CURVES
