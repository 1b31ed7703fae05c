"""Which engine a server runs.

Problem: Pods that come from the reference's set-ups say it by a label, ModelServers by a field.
Model: the field when it is written, else the label (the reference's, or its older name), else the
field's default. A label with a name that is not known is a warning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from inferway.resources.model_server import Engine
from inferway.routing.status import RoutingWarning

if TYPE_CHECKING:
    from inferway.resources import ModelServer

ENGINE_LABELS = ("llm-d.ai/engine-type", "inference.networking.k8s.io/engine-type")
ENGINES: tuple[str, ...] = get_args(Engine)


def engine_of(server: ModelServer) -> tuple[str, RoutingWarning | None]:
    spec, labels = server.spec, server.metadata.labels
    label = next((one for one in ENGINE_LABELS if one in labels), None)
    if label is None or "engine" in spec.model_fields_set:
        return spec.engine, None
    if labels[label] in ENGINES:
        return labels[label], None
    words = (
        f"unknown engine: {labels[label]}; {spec.engine} is assumed; known: {', '.join(ENGINES)}"
    )
    return spec.engine, RoutingWarning(words, server.key, f"metadata.labels[{label}]")
