"""Which endpoints a list of addresses means.

Problem: hints name endpoints in whatever spelling their writer has: an IP alone (every port of it)
or with a port, IPv6 with or without brackets. Model: `rows` reads a comma-separated list against
the addresses of one pool and remembers the answer, because the same lists come again and again.
What is no address names nobody.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.picker.scheduling.contracts import Bools

_REMEMBERED_MAX: Final = 1_024
_LENGTH_REMEMBERED_MAX: Final = 4_096  # longer lists are read each time


class AddressHints:
    """For one pool. `addresses` are in the usual spelling: ip:port or [ip6]:port, shortest form."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._count = len(addresses)
        self._rows: dict[str, list[int]] = {}
        for row, address in enumerate(addresses):
            self._rows[address] = [row]
            self._rows.setdefault(address.rpartition(":")[0], []).append(row)
        self._remembered: dict[str, Bools] = {}

    def rows(self, hint: str) -> Bools:
        """Shape (N,): who is meant. Not to be changed."""
        found = self._remembered.get(hint)
        if found is None:
            found = np.zeros(self._count, dtype=np.bool_)
            for one in hint.split(","):
                found[self._rows.get(_usual(one.strip()), [])] = True
            if len(hint) <= _LENGTH_REMEMBERED_MAX:
                if len(self._remembered) >= _REMEMBERED_MAX:
                    self._remembered.clear()
                self._remembered[hint] = found
        return found


def _usual(address: str) -> str:
    """The usual spelling of `ip` or `ip:port`; anything else as it is."""
    host, _, port = address.rpartition(":")
    return _host(address) or (f"{usual}:{port}" if (usual := _host(host)) else address)


def _host(text: str) -> str:
    """The usual spelling of an IP address; empty when it is none."""
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        parsed = ip_address(bare)
    except ValueError:
        return ""
    return f"[{parsed.compressed}]" if isinstance(parsed, IPv6Address) else parsed.compressed
