"""Which base model a model name stands for: what `X-Gateway-Base-Model-Name` will say.

A ConfigMap's word comes first. For other names it is what `/v1/models` of the gateway shows: an
adapter's parent as its servers report it, an alias's as that of its heaviest target, and a base
model stands for itself. Where listeners show a name differently, the first listener counts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from inferway.envoy.routes import Models
    from inferway.routing.model import RoutingModel


def base_models(model: RoutingModel, models: Models) -> dict[str, str]:
    """Model name to base model, by name."""
    found = dict(model.base_models)
    for listener in sorted(models):
        for info in models[listener]:
            base = info.parent or info.root or info.id
            if _is_header_value(base):
                found.setdefault(info.id, base)
    return dict(sorted(found.items()))


def _is_header_value(name: str) -> bool:
    """Servers report what they like; a name with control characters cannot be sent on."""
    return all(character >= " " and character != "\x7f" for character in name)
