"""Where the requests of a session went: what session affinity rests on.

Problem: a client's requests should go where its last one went, for as long as the session lives.
Model: a table from session to address, oldest use first; a session that was not used for `ttl_s` is
unknown. Time is when the filter received the request, so the same requests give the same answers.
Bounded: the longest unused goes first.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Final, Literal

from inferway.picker.scheduling.compare import Rows
from inferway.resources.picker_plugins.sessions import (
    SESSION_HEADER,
    EncodedEndpointHeader,
    SessionIdConfig,
)

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, PickRequest, Request

SESSIONS_MAX: Final = 65_536
_NS_PER_S: Final = 1_000_000_000
_TOKEN_LENGTH_MAX: Final = 256  # characters

Strategy = Literal["encoded_endpoint_header", "session_id"]
Encoded = EncodedEndpointHeader | None
Ids = SessionIdConfig | None


class SessionMemory:
    """Session to address."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_ns = int(ttl_s * _NS_PER_S)
        self._places: dict[str, tuple[str, int]] = {}  # address and last use, longest unused first

    def __len__(self) -> int:
        return len(self._places)

    def recall(self, session: str, now_ns: int) -> str | None:
        """The address, while the session lives."""
        address, used_ns = self._places.get(session, (None, 0))
        return address if now_ns - used_ns <= self._ttl_ns else None

    def remember(self, session: str, address: str, now_ns: int) -> None:
        places = self._places
        places.pop(session, None)
        places[session] = (address, now_ns)
        oldest = next(iter(places))
        while len(places) > SESSIONS_MAX or now_ns - places[oldest][1] > self._ttl_ns:
            del places[oldest]
            oldest = next(iter(places))


class SessionPlace:
    """Which row the session of a request belongs to, by either strategy of the reference."""

    def __init__(self, strategy: Strategy, encoded: Encoded, ids: Ids) -> None:
        """None: as the reference has it by default."""
        encoded, ids = encoded or EncodedEndpointHeader(), ids or SessionIdConfig()
        self._header = encoded.header.lower() if strategy == "encoded_endpoint_header" else None
        names = [one.header.lower() if one.header else SESSION_HEADER for one in ids.sources]
        self._sources = list(dict.fromkeys(names))  # an attribute is what the filter has found
        self._memory = SessionMemory(ids.eviction_ttl_s)
        self._rows = Rows()

    def row(self, request: Request, endpoints: Endpoints) -> int | None:
        """None: no session, a new one, or its endpoint is gone."""
        pick = request.pick
        if self._header is not None:
            address = decoded(pick.headers.get(self._header, ""))
        else:
            session = self._session(pick)
            address = self._memory.recall(session, pick.received_ns) if session else None
        return self._rows.of(endpoints).get(address) if address is not None else None

    def placed(self, request: Request, endpoints: Endpoints, row: int) -> None:
        pick = request.pick
        session = self._session(pick) if self._header is None else ""
        if session:
            self._memory.remember(session, endpoints.addresses[row], pick.received_ns)

    def _session(self, pick: PickRequest) -> str:
        """From the first source that has one."""
        for name in self._sources:
            found = pick.session if name == SESSION_HEADER else pick.headers.get(name, "")
            if found:
                return found
        return ""


def decoded(token: str) -> str | None:
    """The address in a session token, which is its base64 form; None when it is none."""
    if not 0 < len(token) <= _TOKEN_LENGTH_MAX:
        return None
    try:
        return b64decode(token, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        return None
