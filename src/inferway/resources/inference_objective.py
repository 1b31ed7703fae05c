"""InferenceObjective: the priority of requests that name it, for one pool."""

from typing import Literal

from .meta import Model, Object, ResourceKey
from .references import INFERENCE_GROUP
from .scalars import Group, Int32, Kind, ObjectName


class PoolReference(Model):
    """A pool in the namespace of the referring object."""

    group: Group = INFERENCE_GROUP
    kind: Kind = "InferencePool"
    name: ObjectName


class InferenceObjectiveSpec(Model):
    """`priority` None means 0; higher wins; negative is shed first under pressure."""

    priority: Int32 | None = None
    pool_ref: PoolReference


class InferenceObjective(Object):
    api_version: Literal["inference.networking.x-k8s.io/v1alpha2", "llm-d.ai/v1alpha2"] = (
        "inference.networking.x-k8s.io/v1alpha2"
    )
    kind: Literal["InferenceObjective"] = "InferenceObjective"
    spec: InferenceObjectiveSpec

    @property
    def priority(self) -> int:
        return self.spec.priority or 0

    @property
    def key(self) -> ResourceKey:
        """Includes the pool: the same objective may be given per pool."""
        return ResourceKey(
            self.group, self.kind, self.namespace, self.name, self.spec.pool_ref.name
        )
