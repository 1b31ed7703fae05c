"""Certificates in PEM form, read strictly: what passes here, Envoy takes.

Problem: Envoy refuses a whole update for one text that it cannot read, and the library reports what
it cannot read by exceptions of several families.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm


def read_certificates(text: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a text in its order, at least one; whatever else is in it is left out.
    Raises ValueError when one of them is damaged, or there is none.
    """
    try:
        found = tuple(x509.load_pem_x509_certificates(text))
        for one in found:
            one.public_key()  # read only when it is asked for
    except (x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    return found
