"""Pools that share one rule's traffic share the names that clients use.

Problem: during a roll-out of nodes or of a base model one HTTPRoute rule splits requests between an
old and a new pool, while InferenceModels, rewrites and objectives name one pool only, and are to be
kept unchanged. Model: whatever is known by a name in a pool also holds in the pools that stand with
it in one rule (with whatever weight, 0 too), unless those know that name themselves. Only names are
shared: a rewrite for every other name stays where it was written. Where several neighbours know a
name, the first pool in alphabetical order counts.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inferway.routing.model import Pool


def shared_names(pools: Mapping[str, Pool], splits: Iterable[tuple[str, ...]]) -> dict[str, Pool]:
    """The pools, completed with what their neighbours know. `splits` are the pools of one rule."""
    neighbours: defaultdict[str, set[str]] = defaultdict(set)
    for names in splits:
        for name in names:
            neighbours[name].update(names)
    return {
        name: _completed(pool, [pools[one] for one in sorted(neighbours[name] - {name})])
        if len(neighbours.get(name, ())) > 1
        else pool
        for name, pool in pools.items()
    }


def _completed(pool: Pool, others: list[Pool]) -> Pool:
    rewrites = {one.model: one for one in pool.rewrites}
    objectives = dict(pool.objectives)
    for other in others:
        for rewrite in other.rewrites:
            if rewrite.model:
                rewrites.setdefault(rewrite.model, rewrite)
        for name, priority in other.objectives:
            objectives.setdefault(name, priority)
    return replace(
        pool,
        rewrites=tuple(rewrites[name] for name in sorted(rewrites)),
        objectives=tuple(sorted(objectives.items())),
    )
