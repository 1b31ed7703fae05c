"""The labels of namespaces, which listeners may select by.

A namespace exists as soon as something is in it. Its labels are those of its Namespace object, if
there is one, and always the one that Kubernetes gives to every namespace: its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from inferway.resources import Namespace

NAME_LABEL = "kubernetes.io/metadata.name"


class NamespaceLabels:
    def __init__(self, namespaces: Iterable[Namespace]) -> None:
        self._labels = {one.name: one.metadata.labels for one in namespaces}

    def of(self, namespace: str) -> Mapping[str, str]:
        return {**self._labels.get(namespace, {}), NAME_LABEL: namespace}
