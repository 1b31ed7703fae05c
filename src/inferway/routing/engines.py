"""Which engine a server runs.

Problem: Pods that come from the reference's set-ups say it by a label, ModelServers by a field, and
a pool's EndpointPickerConfig may know further engines. Model: the field when it is written, else
the label (the pool's, or the reference's or its older name), else the pool's default, else the
field's. A label with a name that is not known is a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from inferway.resources.picker_plugins.engine_mappings import BUILT_IN_ENGINES
from inferway.routing.status import RoutingWarning

if TYPE_CHECKING:
    from inferway.resources import EndpointPickerConfig, ModelServer


@dataclass(frozen=True, slots=True)
class Engines:
    """Those that servers of a pool can have, and how they say it."""

    names: tuple[str, ...] = BUILT_IN_ENGINES
    labels: tuple[str, ...] = (
        "llm-d.ai/engine-type",
        "inference.networking.k8s.io/engine-type",
    )
    default: str = ""  # empty: the default of the server's field


BUILT_IN: Final = Engines()


def engines_of(config: EndpointPickerConfig | None) -> Engines:
    if config is None:
        return BUILT_IN
    told = config.metrics_extractor
    labels = BUILT_IN.labels if told.engine_label_key is None else (told.engine_label_key,)
    return Engines(told.engine_names, labels, told.default_engine or "")


def engine_of(
    server: ModelServer, engines: Engines = BUILT_IN
) -> tuple[str, RoutingWarning | None]:
    spec, labels = server.spec, server.metadata.labels
    if "engine" in spec.model_fields_set:
        return spec.engine, None
    assumed = engines.default or spec.engine
    label = next((one for one in engines.labels if one in labels), None)
    if label is None:
        return assumed, None
    if labels[label] in engines.names:
        return labels[label], None
    known = ", ".join(engines.names)
    words = f"unknown engine: {labels[label]}; {assumed} is assumed; known: {known}"
    return assumed, RoutingWarning(words, server.key, f"metadata.labels[{label}]")
