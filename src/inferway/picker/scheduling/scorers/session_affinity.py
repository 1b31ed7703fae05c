"""Session affinity: the endpoint that the session's last request went to.

    score = 1 for that endpoint, 0 for the others; 0 for all when there is no session

Source: session-affinity-scorer of the reference picker. `session_id` remembers by a header (or what
the filter takes for the session) for `evictionTtlSeconds` after the last use, by address.
`encoded_endpoint_header` believes a token of the client, the base64 form of `ip:port`, which is
what `sessionPersistence` of an HTTPRoute sends in its header.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferway.picker.scheduling.sessions import Encoded, Ids, SessionPlace, Strategy

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class SessionAffinity:
    name = "session-affinity-scorer"

    def __init__(
        self,
        strategy: Strategy = "encoded_endpoint_header",
        encoded_endpoint_header_config: Encoded = None,
        session_id_config: Ids = None,
    ) -> None:
        self._place = SessionPlace(strategy, encoded_endpoint_header_config, session_id_config)
        self.placed = self._place.placed

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        scores = np.zeros(len(endpoints))
        row = self._place.row(request, endpoints)
        if row is not None:
            scores[row] = 1.0
        return scores
