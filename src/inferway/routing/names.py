"""Everything that goes by a model's name: objectives, aliases, base models.

They are judged together, because an alias may bring a priority with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.resources import ConfigMap
from inferway.routing.base_models import judge_base_models
from inferway.routing.objectives import judge_objectives
from inferway.routing.rewrites import judge_rewrites

if TYPE_CHECKING:
    from inferway.resources import ResourceSet
    from inferway.routing.model import Rewrite
    from inferway.routing.status import ObjectStatus, RoutingWarning


@dataclass(frozen=True, slots=True)
class JudgedNames:
    """By pool, namespace/name: objectives (name, priority) and rewrites, both by name."""

    objectives: dict[str, tuple[tuple[str, int], ...]]
    rewrites: dict[str, tuple[Rewrite, ...]]
    base_models: tuple[tuple[str, str], ...]  # (model, base model)
    statuses: tuple[ObjectStatus, ...]
    warnings: tuple[RoutingWarning, ...]


def judge_names(resources: ResourceSet) -> JudgedNames:
    """What every name means, and what became of the objects that say it."""
    rewrites = judge_rewrites(resources.models, resources.model_rewrites, resources.pools)
    objectives = judge_objectives(resources.objectives, resources.pools, rewrites.priorities)
    base_models, warnings = judge_base_models(resources.of_kind(ConfigMap))
    return JudgedNames(
        objectives=objectives.by_pool,
        rewrites=rewrites.by_pool,
        base_models=base_models,
        statuses=(*objectives.statuses, *rewrites.statuses),
        warnings=(*rewrites.warnings, *warnings),
    )
