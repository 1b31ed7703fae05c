"""Which EndpointPickerConfig each pool has.

Problem: a pool names its configuration, and the name may lead nowhere; people must see which pools
an object is for. Model: a pool's annotation names an object of its own namespace; a pool without
one has that of the file which the gateway was started with, if there is one. Invariant: a pool with
a bad name is served as if it had named none, and its status says so.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from inferway.resources.problems import field_path
from inferway.routing.status import ObjectStatus, Refusal, RoutingWarning, verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from inferway.resources import EndpointPickerConfig, InferencePool, ResourceSet

CONFIG_ANNOTATION = "inferway.dev/picker-config"
_UNUSED = Refusal("NoMatchingPool", f"no InferencePool names it in {CONFIG_ANNOTATION}")


class PickerConfigs:
    """The objects, and who has asked for them."""

    def __init__(self, resources: ResourceSet, default_file: str) -> None:
        """`default_file`: where the one for pools that name none was read; empty: there is none."""
        self._objects = resources.picker_configs
        self._by_name = {one.qualified_name: one for one in self._objects}
        self._default = next(
            (one for one in self._objects if resources.origin(one).file == default_file), None
        )
        self._used_by: defaultdict[str, list[str]] = defaultdict(list)

    def of(self, pool: InferencePool) -> tuple[EndpointPickerConfig | None, str]:
        """The pool's configuration, and a remark when the one that it asks for does not exist."""
        asked = pool.metadata.annotations.get(CONFIG_ANNOTATION)
        if asked is None:
            return self._taken(self._default, pool), ""
        found = self._by_name.get(f"{pool.namespace}/{asked}")
        if found is not None:
            return self._taken(found, pool), ""
        known = [one.name for one in self._objects if one.namespace == pool.namespace]
        there = f"known: {', '.join(known)}" if known else f"{pool.namespace} has none"
        remark = f"no such EndpointPickerConfig: {asked}; the default is used; {there}"
        return self._taken(self._default, pool), remark

    def _taken(
        self, config: EndpointPickerConfig | None, pool: InferencePool
    ) -> EndpointPickerConfig | None:
        if config is not None:
            self._used_by[config.qualified_name].append(pool.qualified_name)
        return config

    def statuses(self) -> Iterator[ObjectStatus]:
        """Accepted (an object is valid by itself), and Selected with the pools that have it."""
        for one in self._objects:
            generation = one.metadata.generation
            pools = self._used_by[one.qualified_name]
            refusal = None if pools else _UNUSED
            by = f"by {', '.join(sorted(pools))}"
            conditions = (
                verdict("Accepted", None, generation=generation),
                verdict("Selected", refusal, generation=generation, message=by),
            )
            yield ObjectStatus(one.key, conditions)

    def warnings(self) -> Iterator[RoutingWarning]:
        """What is written in them and has no effect."""
        for one in self._objects:
            for path, text in one.remarks():
                yield RoutingWarning(text, one.key, field_path(path))
