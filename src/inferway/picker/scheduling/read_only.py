"""What others' plugins see: the same memory, but writing to it raises."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from inferway.picker.scheduling.engine_constants import EngineColumns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from inferway.picker.scheduling.contracts import Endpoints, Request

_Number = TypeVar("_Number", np.float64, np.bool_)


def read_only(column: NDArray[_Number]) -> NDArray[_Number]:
    view = column.view()
    view.flags.writeable = False
    return view


def read_only_endpoints(endpoints: Endpoints) -> Endpoints:
    columns = {
        one.name: read_only(value)
        for one in fields(endpoints)
        if isinstance(value := getattr(endpoints, one.name), np.ndarray)
    }
    attributes = {name: read_only(value) for name, value in endpoints.attributes.items()}
    if endpoints.constants is not None:
        constants = EngineColumns(read_only(endpoints.constants.rows))
        endpoints = replace(endpoints, constants=constants)
    return replace(endpoints, attributes=attributes, **columns)  # type: ignore[arg-type]


def read_only_request(request: Request) -> Request:
    tier, candidates = request.adapter_tier, request.candidates
    return request._replace(
        matched_tokens=read_only(request.matched_tokens),
        adapter_tier=None if tier is None else read_only(tier),
        candidates=None if candidates is None else read_only(candidates),
    )
