"""Namespace: labels for a namespace, which listeners may select by. Cluster-scoped.

A namespace needs no Namespace object to exist; without one it carries only the label
`kubernetes.io/metadata.name`, which every namespace has.
"""

import re
from typing import Literal, Self

from pydantic import model_validator

from .meta import ClusterObject, Model
from .scalars import DNS_LABEL_PATTERN, PATTERN_MEANING
from .violations import Violation, reject

NAMESPACE_NAME_LENGTH_MAX = 63
_NAME = re.compile(DNS_LABEL_PATTERN)


class NamespaceSpec(Model):
    """What the API server writes; it has no effect here."""

    finalizers: tuple[str, ...] = ()


class Namespace(ClusterObject):
    api_version: Literal["v1"] = "v1"
    kind: Literal["Namespace"] = "Namespace"
    spec: NamespaceSpec = NamespaceSpec()

    @model_validator(mode="after")
    def _name_is_a_label(self) -> Self:
        name = self.metadata.name
        if len(name) > NAMESPACE_NAME_LENGTH_MAX or not _NAME.fullmatch(name):
            message = (
                f"must be at most {NAMESPACE_NAME_LENGTH_MAX} "
                f"{PATTERN_MEANING[DNS_LABEL_PATTERN]}: {name}"
            )
            reject([Violation(message, ("metadata", "name"))])
        return self
