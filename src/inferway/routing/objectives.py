"""InferenceObjectives: the priorities that a pool knows by name.

Problem: an objective belongs to the pool it references, in its own namespace; one that references
nothing useful must say so. Model: priorities per pool, ordered by name; an unset priority is 0. Two
API groups hold the same kind, and where both define one objective for one pool the newer group
counts, as the reference picker reads only that one when both are there. Below both stand the
criticalities of InferenceModels (rewrites.py).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.resources.references import NEWER_GROUP
from inferway.routing.pool_references import pool_refusal
from inferway.routing.status import ObjectStatus, Refusal, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inferway.resources import InferenceObjective, InferencePool


@dataclass(frozen=True, slots=True)
class JudgedObjectives:
    by_pool: dict[str, tuple[tuple[str, int], ...]]  # pool to (objective name, priority), by name
    statuses: tuple[ObjectStatus, ...]


def judge_objectives(
    objectives: Iterable[InferenceObjective],
    pools: Iterable[InferencePool],
    criticalities: Mapping[str, Mapping[str, int]],
) -> JudgedObjectives:
    """Objectives by the pool they reference. The newer API group wins when both define one;
    `criticalities` (pool to name to priority) fill in what no objective says.
    """
    known = {pool.qualified_name for pool in pools}
    priorities: defaultdict[str, dict[str, int]] = defaultdict(dict)
    statuses = []
    for one in sorted(objectives, key=lambda one: (one.group != NEWER_GROUP, one.qualified_name)):
        pool = f"{one.namespace}/{one.spec.pool_ref.name}"
        refusal = pool_refusal(one.spec.pool_ref, "poolRef", one.namespace, known)
        if refusal is None and one.name in priorities[pool]:
            refusal = Refusal(
                "Superseded", f"group {NEWER_GROUP} has the same objective for pool {pool}"
            )
        if refusal is None:
            priorities[pool][one.name] = one.priority
        condition = verdict("Accepted", refusal, generation=one.metadata.generation)
        statuses.append(ObjectStatus(one.key, (condition,)))
    for pool, given in criticalities.items():
        for name, priority in given.items():
            priorities[pool].setdefault(name, priority)
    by_pool = {pool: tuple(sorted(of_pool.items())) for pool, of_pool in priorities.items()}
    return JudgedObjectives(by_pool, tuple(statuses))
