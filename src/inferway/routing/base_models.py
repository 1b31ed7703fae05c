"""Base models of adapters, as ConfigMaps say it.

Names are unique over the gateway. Of two ConfigMaps that claim one name the older counts (without a
timestamp: the younger), then the first by namespace and name; the other is told in a warning,
because a ConfigMap has no status.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.resources.config_map import ADAPTERS_FIELD
from inferway.routing.precedence import YOUNGEST
from inferway.routing.status import RoutingWarning

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.resources.config_map import ConfigMap


def judge_base_models(
    maps: Iterable[ConfigMap],
) -> tuple[tuple[tuple[str, str], ...], tuple[RoutingWarning, ...]]:
    """(model, base model) by name; a base model is its own."""
    found: dict[str, tuple[str, ConfigMap]] = {}
    warnings = []
    managed = [one for one in maps if one.is_managed]
    for one in sorted(
        managed, key=lambda one: (one.metadata.creation_timestamp or YOUNGEST, one.qualified_name)
    ):
        for name in (one.base_model, *one.adapters):
            base, first = found.setdefault(name, (one.base_model, one))
            if base != one.base_model:
                words = f"{name} belongs to {base}, as ConfigMap {first.qualified_name} says"
                warnings.append(RoutingWarning(words, one.key, f"data.{ADAPTERS_FIELD}"))
    return tuple((name, found[name][0]) for name in sorted(found)), tuple(warnings)
