"""Header and label: endpoints whose label has the value of a request header.

    score = 1 when the label `labelKey` equals the header `headerName`, else 0

Source: header-label-affinity-scorer of the reference picker. Labels are those of the ModelServer.
A request without the header scores 0 everywhere: no preference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


class HeaderLabel:
    name = "header-label-affinity-scorer"

    def __init__(self, header_name: str, label_key: str) -> None:
        self._header, self._label = header_name.lower(), label_key

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        wanted = request.pick.headers.get(self._header, "")
        if not wanted:
            return np.zeros(len(endpoints))
        label = self._label
        return np.array([float(labels.get(label) == wanted) for labels in endpoints.labels])
