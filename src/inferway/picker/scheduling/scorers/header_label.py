"""Header and label: endpoints whose label has the value of a request header.

    score = 1 when the label `labelKey` equals the header `headerName`, else 0

Source: header-label-affinity-scorer of the reference picker. Labels are those of the ModelServer.
A request without the header scores 0 everywhere: no preference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.picker.scheduling.contracts import Endpoints, Floats, Request


_KEPT_MAX: Final = 64  # values; clients choose them


class HeaderLabel:
    name = "header-label-affinity-scorer"

    def __init__(self, header_name: str, label_key: str) -> None:
        self._header, self._label = header_name.lower(), label_key
        self._labels: tuple[Mapping[str, str], ...] | None = None
        self._columns: dict[str, Floats] = {}  # by the value that is wanted

    def score(self, request: Request, endpoints: Endpoints) -> Floats:
        if endpoints.labels is not self._labels or len(self._columns) > _KEPT_MAX:
            self._labels = endpoints.labels
            self._columns = {"": np.zeros(len(endpoints))}
        wanted = request.pick.headers.get(self._header, "")
        column = self._columns.get(wanted)
        if column is None:
            label = self._label
            column = np.array([float(one.get(label) == wanted) for one in endpoints.labels])
            column.flags.writeable = False
            self._columns[wanted] = column
        return column
