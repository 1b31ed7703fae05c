"""Session affinity: only the endpoint of the session, while it is there.

Source: session-affinity-filter of the reference picker. What a session is, and how long it is
remembered, is as in session-affinity-scorer. Without a session, or when its endpoint is gone or may
not be chosen, everyone is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from inferway.picker.scheduling.sessions import Encoded, Ids, SessionPlace, Strategy

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Bools, Endpoints, Request


class SessionAffinity:
    name = "session-affinity-filter"

    def __init__(
        self,
        strategy: Strategy = "encoded_endpoint_header",
        encoded_endpoint_header_config: Encoded = None,
        session_id_config: Ids = None,
    ) -> None:
        self._place = SessionPlace(strategy, encoded_endpoint_header_config, session_id_config)
        self.placed = self._place.placed

    def keep(self, request: Request, endpoints: Endpoints) -> Bools:
        row = self._place.row(request, endpoints)
        if row is None or (request.candidates is not None and not request.candidates[row]):
            return np.ones(len(endpoints), dtype=np.bool_)
        kept = np.zeros(len(endpoints), dtype=np.bool_)
        kept[row] = True
        return kept
