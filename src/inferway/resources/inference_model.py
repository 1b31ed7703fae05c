"""InferenceModel: a model name that clients ask for, split by weight over the models that serve it.

Two spellings of one thing. The released one (to v0.5 of the extension) has `modelName` and
`targetModels[]`. The one printed in the product's documentation never was in a released CRD: it has
`versions[]`, each with a model name, a criticality, a weight and a pool of its own; there
`metadata.name` is what clients ask for, unless `modelName` says otherwise. `poolRef` and
`criticality` beside `versions[]` are what a version without its own gets.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from .inference_objective import PoolReference
from .meta import Model, Object, ResourceKey
from .scalars import Between
from .violations import Violation, reject

WEIGHT_MAX = 1_000_000
TARGETS_MAX = 10

Criticality = Literal["Critical", "Standard", "Sheddable"]
TargetName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
TargetWeight = Annotated[int, Between(1, WEIGHT_MAX)]


class TargetModel(Model):
    """`weight` unset in all of them: equal shares."""

    name: TargetName
    weight: TargetWeight | None = None


class ModelVersion(Model):
    """One served model with its share; weight 0 keeps it ready for a way back. `pool_ref` and
    `criticality` unset: those of the spec.
    """

    model_name: TargetName
    criticality: Criticality | None = None
    weight: Annotated[int, Between(0, WEIGHT_MAX)] | None = None
    pool_ref: PoolReference | None = None


class InferenceModelSpec(Model):
    """Either `target_models` (none: the model is served under its own name) or `versions`.
    `criticality` unset is Standard.
    """

    model_name: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    criticality: Criticality | None = None
    target_models: Annotated[tuple[TargetModel, ...], Field(max_length=TARGETS_MAX)] = ()
    versions: Annotated[tuple[ModelVersion, ...], Field(max_length=TARGETS_MAX)] = ()
    pool_ref: PoolReference | None = None

    @model_validator(mode="after")
    def _one_spelling(self) -> Self:
        found = _weight_violations(self.target_models, "targetModels")
        found += _weight_violations(self.versions, "versions")
        if self.versions:
            found += self._version_violations()
        else:
            if self.model_name is None:
                hint = "set modelName to the name that clients send"
                found.append(Violation("required field is missing", ("modelName",), hint))
            if self.pool_ref is None:
                hint = "set poolRef: {name: ...}"
                found.append(Violation("required field is missing", ("poolRef",), hint))
        reject(found)
        return self

    def _version_violations(self) -> list[Violation]:
        found = []
        if self.target_models:
            hint = "keep one of the two"
            found.append(Violation("excluded by versions", ("targetModels",), hint))
        if self.pool_ref is None:
            found += [
                Violation("required field is missing", ("versions", index, "poolRef"))
                for index, one in enumerate(self.versions)
                if one.pool_ref is None
            ]
        weights = [one.weight for one in self.versions]
        if all(weight == 0 for weight in weights):
            found.append(Violation("at least one weight must be above 0", ("versions",)))
        return found


class InferenceModel(Object):
    api_version: Literal[
        "inference.networking.x-k8s.io/v1alpha2", "inference.networking.x-k8s.io/v1alpha1"
    ] = "inference.networking.x-k8s.io/v1alpha2"
    kind: Literal["InferenceModel"] = "InferenceModel"
    spec: InferenceModelSpec

    @property
    def alias(self) -> str:
        """The name that clients ask for."""
        return self.spec.model_name or self.name

    @property
    def pool_refs(self) -> tuple[PoolReference, ...]:
        """The pools it names, each once; more than one only through `versions`."""
        default = self.spec.pool_ref
        named = [one.pool_ref or default for one in self.spec.versions] or [default]
        return tuple(dict.fromkeys(one for one in named if one is not None))

    @property
    def key(self) -> ResourceKey:
        """Includes the pool: one name may be given per pool."""
        pools = ",".join(dict.fromkeys(one.name for one in self.pool_refs))
        return ResourceKey(self.group, self.kind, self.namespace, self.name, pools)


def _weight_violations(
    targets: Sequence[TargetModel | ModelVersion], field: str
) -> list[Violation]:
    """All targets carry a weight or none does."""
    without = [index for index, one in enumerate(targets) if one.weight is None]
    if not without or len(without) == len(targets):
        return []
    message = "weight is missing: either all targets have one or none has"
    return [Violation(message, (field, index, "weight")) for index in without]
