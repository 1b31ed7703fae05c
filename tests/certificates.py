"""Certificates for tests: made in memory, signed by themselves, so that clients can trust them."""

from __future__ import annotations

import base64
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes


@dataclass(frozen=True)
class Issued:
    chain: str  # PEM
    key: str  # PEM

    @property
    def serial(self) -> int:
        return x509.load_pem_x509_certificate(self.chain.encode()).serial_number

    def secret(self, name: str, *, namespace: str = "default", plain: bool = False) -> str:
        """The manifest of a Secret with this pair."""
        if plain:
            content = "stringData:\n" + "".join(
                f"  {field}: |\n" + "".join(f"    {line}\n" for line in text.splitlines())
                for field, text in (("tls.crt", self.chain), ("tls.key", self.key))
            )
        else:
            encoded = [base64.b64encode(one.encode()).decode() for one in (self.chain, self.key)]
            content = f"data: {{tls.crt: {encoded[0]}, tls.key: {encoded[1]}}}\n"
        return (
            f"apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\n"
            f"type: kubernetes.io/tls\n{content}---\n"
        )

    def trusted(self) -> ssl.SSLContext:
        """A client's side that trusts this certificate only."""
        return ssl.create_default_context(cadata=self.chain)


def new_key(kind: str) -> CertificateIssuerPrivateKeyTypes:
    match kind:
        case "rsa-1024":
            return rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505
        case "rsa-2048":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case _:
            return ec.generate_private_key(ec.SECP384R1())


def issue(
    *names: str,
    kind: str = "p256",
    starts: datetime | None = None,
    life: timedelta = timedelta(days=90),
    password: bytes | None = None,
) -> Issued:
    """A certificate for these DNS names or IP addresses, valid from `starts` (an hour ago)."""
    key = new_key(kind)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    begins = starts or datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + life)
        .add_extension(x509.SubjectAlternativeName([_name(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, None if kind == "ed25519" else hashes.SHA256())
    )
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    return Issued(certificate.public_bytes(Encoding.PEM).decode(), pem.decode())


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        return x509.DNSName(text)
