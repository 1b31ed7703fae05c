"""References from objectives, models and rewrites to the pool that they are about.

The pool is always in the namespace of the referring object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.resources.references import INFERENCE_GROUP
from inferway.routing.status import Refusal

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from inferway.resources.inference_objective import PoolReference


def pool_refusal(
    reference: PoolReference, field: str, namespace: str, known: AbstractSet[str]
) -> Refusal | None:
    """Why the reference leads to none of the `known` pools (namespace/name); None when it does."""
    if reference.group != INFERENCE_GROUP or reference.kind != "InferencePool":
        return Refusal(
            "InvalidKind",
            f"{field}: {reference.group}/{reference.kind} is not supported; "
            f"supported: {INFERENCE_GROUP}/InferencePool",
        )
    name = f"{namespace}/{reference.name}"
    if name not in known:
        return Refusal("PoolNotFound", f"InferencePool {name} does not exist")
    return None
