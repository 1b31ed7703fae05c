"""Authorities: whose signature under a certificate counts, read out of ConfigMaps.

Problem: the text may be missing or damaged, and Envoy would refuse a whole update for one such
text. Model: `Authorities.find` gives a checked text in PEM form or the reason why not. Invariant:
the text holds certificates and nothing else, so a private key that someone left in a ConfigMap goes
nowhere. Whether an authority is in date is for the handshake to find.

Cost: reading one takes some 10 µs, so texts are remembered.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from inferway.resources.config_map import AUTHORITIES_KEY
from inferway.routing.pem import read_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.resources import ConfigMap

_REMEMBERED_MAX = 256


class MissingAuthoritiesError(Exception):
    """A ConfigMap gives none. The text is for people."""


class Authorities:
    """Every ConfigMap that may hold some. Built once per translation."""

    def __init__(self, maps: Iterable[ConfigMap]) -> None:
        self._maps = {one.qualified_name: one for one in maps}

    def find(self, name: str) -> str:
        """The certificates, in PEM form, of the ConfigMap namespace/name. Raises
        MissingAuthoritiesError.
        """
        found = self._maps.get(name)
        if found is None:
            raise MissingAuthoritiesError(f"ConfigMap {name} does not exist")
        text = found.data.get(AUTHORITIES_KEY)
        if text is None:
            raise MissingAuthoritiesError(f"ConfigMap {name} has no data.{AUTHORITIES_KEY}")
        try:
            return _read(text)
        except ValueError as error:
            words = f"ConfigMap {name}: {AUTHORITIES_KEY} is no list of certificates in PEM form"
            raise MissingAuthoritiesError(words) from error


@lru_cache(maxsize=_REMEMBERED_MAX)
def _read(text: str) -> str:
    """The text with nothing but its certificates. Raises ValueError."""
    found = read_certificates(text.encode())
    return "".join(one.public_bytes(Encoding.PEM).decode() for one in found)
