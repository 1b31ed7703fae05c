"""InferenceModelRewrite: which model serves a request for another, by weight, in one pool."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from .inference_model import WEIGHT_MAX
from .inference_objective import PoolReference
from .meta import Model, Object, ResourceKey
from .scalars import Between

_ITEMS_MAX = 1024  # ours: upstream sets no limit


class ModelNameMatch(Model):
    type: Literal["Exact"] = "Exact"
    value: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class RewriteMatch(Model):
    model: ModelNameMatch


class RewriteTarget(Model):
    """`weight` unset in all targets of a rule: equal shares; in some: these are never chosen."""

    model_rewrite: Annotated[str, StringConstraints(min_length=1, max_length=1024)]
    weight: Annotated[int, Between(1, WEIGHT_MAX)] | None = None


class RewriteRule(Model):
    """Applies when any of `matches` does; without any, to every model that no other rule names."""

    matches: Annotated[tuple[RewriteMatch, ...], Field(max_length=_ITEMS_MAX)] = ()
    targets: Annotated[tuple[RewriteTarget, ...], Field(min_length=1, max_length=_ITEMS_MAX)]


class InferenceModelRewriteSpec(Model):
    """The first rule that fits counts."""

    pool_ref: PoolReference
    rules: Annotated[tuple[RewriteRule, ...], Field(min_length=1, max_length=_ITEMS_MAX)]


class InferenceModelRewrite(Object):
    api_version: Literal["inference.networking.x-k8s.io/v1alpha2", "llm-d.ai/v1alpha2"] = (
        "inference.networking.x-k8s.io/v1alpha2"
    )
    kind: Literal["InferenceModelRewrite"] = "InferenceModelRewrite"
    spec: InferenceModelRewriteSpec

    @property
    def key(self) -> ResourceKey:
        """Includes the pool: one name may be given per pool."""
        pool = self.spec.pool_ref.name
        return ResourceKey(self.group, self.kind, self.namespace, self.name, pool)
