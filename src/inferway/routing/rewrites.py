"""InferenceModels and InferenceModelRewrites: under which names a pool's models can be asked for.

Problem: two kinds in four spellings say the same thing, several objects may claim one name, and
their authors must see who got it. Model: every object is read as claims, each about one name in one
pool; claims are ordered, and the first about a name counts. What counts becomes `Rewrite`s: equal
meaning gives equal rewrites, whatever the spelling. Order: the oldest object (one without a
timestamp, as in a directory, counts as youngest), then namespace/name, then kind; inside an object
the first in the list. A rule without matches is about every name that nobody claims.

Weights: none given means equal shares; where some targets of an InferenceModelRewrite have none,
those are never chosen, as the reference picker does it. Shares are kept in lowest terms.

A `criticality` is the objective of the name (Critical 10, Standard 0, Sheddable -10), and in the
`versions[]` form of each version's own name too; the name that is split has the highest of them. An
InferenceObjective of the same name for the same pool comes first.

`versions[]` that name several pools are refused: a name is split inside one pool, and traffic
between pools is an HTTPRoute's.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Final

from inferway.resources.references import NEWER_GROUP
from inferway.routing.model import Rewrite, RewriteTarget, Sticky
from inferway.routing.pool_references import pool_refusal
from inferway.routing.precedence import YOUNGEST
from inferway.routing.status import ObjectStatus, Refusal, RoutingWarning, verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from collections.abc import Set as AbstractSet
    from datetime import datetime

    from inferway.resources import InferenceModel, InferenceModelRewrite, InferencePool
    from inferway.resources.inference_model_rewrite import RewriteRule
    from inferway.resources.meta import ResourceKey

    _Object = InferenceModel | InferenceModelRewrite

STICKY_ANNOTATION = "inferway.dev/sticky"
PRIORITIES: Final = {"Critical": 10, "Standard": 0, "Sheddable": -10}
_STICKY_FIELD = f"metadata.annotations[{STICKY_ANNOTATION}]"


@dataclass(frozen=True, slots=True)
class JudgedRewrites:
    """By pool, namespace/name: rewrites by name, and priorities of names by name."""

    by_pool: dict[str, tuple[Rewrite, ...]]
    priorities: dict[str, dict[str, int]]
    statuses: tuple[ObjectStatus, ...]
    warnings: tuple[RoutingWarning, ...]


@dataclass(frozen=True, slots=True)
class _Claim:
    rank: tuple[datetime, str, str, str, int]
    owner: _Object
    pool: str
    rewrite: Rewrite


def judge_rewrites(
    models: Iterable[InferenceModel],
    rewrites: Sequence[InferenceModelRewrite],
    pools: Iterable[InferencePool],
) -> JudgedRewrites:
    """Who may use which name in which pool, and what became of every object."""
    known = {pool.qualified_name for pool in pools}
    newer = {one.qualified_name for one in rewrites if one.group == NEWER_GROUP}
    refused: dict[ResourceKey, Refusal] = {}
    claims: list[_Claim] = []
    warnings: list[RoutingWarning] = []
    objects: list[_Object] = [*models, *rewrites]
    for one in sorted(objects, key=lambda one: one.key):
        refusal = _refusal(one, known, newer)
        if refusal is not None:
            refused[one.key] = refusal
        else:
            claims += _claims(one, warnings)
    claims.sort(key=lambda claim: claim.rank)
    won: dict[tuple[str, str], _Claim] = {}
    lost: defaultdict[ResourceKey, list[str]] = defaultdict(list)
    for claim in claims:
        winner = won.setdefault((claim.pool, claim.rewrite.model), claim)
        if winner is not claim:
            lost[claim.owner.key].append(_taken(claim, winner))
    winners = {claim.owner.key for claim in won.values()}
    by_pool: defaultdict[str, list[Rewrite]] = defaultdict(list)
    for (pool, _), claim in sorted(won.items(), key=lambda item: item[0]):
        by_pool[pool].append(claim.rewrite)
    statuses = []
    for one in objects:
        words = "; ".join(lost[one.key])
        refusal = refused.get(one.key)
        if refusal is None and words and one.key not in winners:
            refusal = Refusal("ModelNameInUse", words)
        elif words:
            warnings.append(RoutingWarning(words, one.key, "spec.rules"))
        condition = verdict("Accepted", refusal, generation=one.metadata.generation, message=words)
        statuses.append(ObjectStatus(one.key, (condition,)))
    return JudgedRewrites(
        by_pool={pool: tuple(found) for pool, found in by_pool.items()},
        priorities=_priorities(won.values()),
        statuses=tuple(statuses),
        warnings=tuple(warnings),
    )


def _refusal(one: _Object, known: AbstractSet[str], newer: AbstractSet[str]) -> Refusal | None:
    if one.kind == "InferenceModelRewrite":
        if one.group != NEWER_GROUP and one.qualified_name in newer:
            return Refusal("Superseded", f"group {NEWER_GROUP} has a rewrite of the same name")
        return pool_refusal(one.spec.pool_ref, "poolRef", one.namespace, known)
    references = one.pool_refs
    if len({reference.name for reference in references}) > 1:
        named = ", ".join(reference.name for reference in references)
        return Refusal(
            "PoolRefsDiffer",
            f"versions name several pools ({named}): a name is split inside one pool; write one "
            "InferenceModel per pool, and split traffic between pools in an HTTPRoute",
        )
    return pool_refusal(references[0], "poolRef", one.namespace, known)


def _claims(one: _Object, warnings: list[RoutingWarning]) -> list[_Claim]:
    """What the object says, in its order. Of a name that it mentions twice the first counts."""
    sticky = _sticky(one, warnings)
    if one.kind == "InferenceModel":
        pool = one.pool_refs[0].name
        found = [Rewrite(one.alias, _model_targets(one), sticky)]
    else:
        pool = one.spec.pool_ref.name
        found = []
        for index, rule in enumerate(one.spec.rules):
            targets = _rule_targets(one, index, warnings)
            found += [Rewrite(name, targets, sticky) for name in _names(rule)]
    return [
        _Claim(
            rank=(
                one.metadata.creation_timestamp or YOUNGEST,
                one.qualified_name,
                one.kind,
                one.group,
                position,
            ),
            owner=one,
            pool=f"{one.namespace}/{pool}",
            rewrite=rewrite,
        )
        for position, rewrite in enumerate(found)
    ]


def _names(rule: RewriteRule) -> list[str]:
    """The names that a rule is about; empty text stands for every other name."""
    return [match.model.value for match in rule.matches] or [""]


def _model_targets(model: InferenceModel) -> tuple[RewriteTarget, ...]:
    spec = model.spec
    if spec.versions:
        return _shares([(one.model_name, one.weight) for one in spec.versions])
    if spec.target_models:
        return _shares([(one.name, one.weight) for one in spec.target_models])
    return _shares([(model.alias, None)])


def _rule_targets(
    rewrite: InferenceModelRewrite, index: int, warnings: list[RoutingWarning]
) -> tuple[RewriteTarget, ...]:
    targets = rewrite.spec.rules[index].targets
    unweighted = [one.model_rewrite for one in targets if one.weight is None]
    if unweighted and len(unweighted) < len(targets):
        words = (
            f"never chosen, because they have no weight and others have: {', '.join(unweighted)}"
        )
        warnings.append(RoutingWarning(words, rewrite.key, f"spec.rules[{index}].targets"))
    return _shares([(one.model_rewrite, one.weight) for one in targets])


def _shares(targets: Sequence[tuple[str, int | None]]) -> tuple[RewriteTarget, ...]:
    """Targets that can be chosen, each once, with their weights in lowest terms."""
    equal = all(weight is None for _, weight in targets)
    shares: dict[str, int] = {}
    for model, weight in targets:
        share = 1 if equal else (weight or 0)
        if share:
            shares[model] = shares.get(model, 0) + share
    divisor = gcd(*shares.values())
    return tuple(RewriteTarget(model, share // divisor) for model, share in shares.items())


def _sticky(one: _Object, warnings: list[RoutingWarning]) -> Sticky:
    asked = one.metadata.annotations.get(STICKY_ANNOTATION, Sticky.NO.value)
    if asked in tuple(Sticky):
        return Sticky(asked)
    known = ", ".join(Sticky)
    words = f"unknown kind of stickiness: {asked}; every request is drawn anew; known: {known}"
    warnings.append(RoutingWarning(words, one.key, _STICKY_FIELD))
    return Sticky.NO


def _taken(claim: _Claim, winner: _Claim) -> str:
    name = claim.rewrite.model
    what = f"model name {name}" if name else "a rule for every other name"
    return (
        f"{what} of pool {claim.pool} is defined first by "
        f"{winner.owner.kind} {winner.owner.qualified_name}"
    )


def _priorities(winners: Iterable[_Claim]) -> dict[str, dict[str, int]]:
    """The priorities that criticalities give to names, by pool; in order of precedence."""
    found: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for claim in sorted(winners, key=lambda claim: claim.rank):
        model = claim.owner
        if model.kind == "InferenceModelRewrite":
            continue
        default = model.spec.criticality
        named = [(one.model_name, one.criticality or default) for one in model.spec.versions]
        given = [(name, PRIORITIES[one]) for name, one in named if one is not None]
        if not model.spec.versions and default is not None:
            given = [(model.alias, PRIORITIES[default])]
        if not given:
            continue
        of_pool = found[claim.pool]
        of_pool.setdefault(model.alias, max(priority for _, priority in given))
        for name, priority in given:
            of_pool.setdefault(name, priority)
    return dict(found)
