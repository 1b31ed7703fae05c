"""What to tell a server so that its adapters are those that are wanted. Pure.

Wanted adapters that are not there are loaded, unwanted ones that are there are unloaded, and
whatever the configuration does not name is left alone: somebody else may have loaded it. An adapter
in both lists is left alone with a warning. Loads come first, so that a new version is there before
the old one goes. Applying a plan and planning again gives nothing to do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from inferway.adapters.config import SyncConfig


@dataclass(frozen=True, slots=True)
class Load:
    adapter: str
    source: str
    base_model: str | None = None

    def __str__(self) -> str:
        return f"load {self.adapter} from {self.source}"


@dataclass(frozen=True, slots=True)
class Unload:
    adapter: str

    def __str__(self) -> str:
        return f"unload {self.adapter}"


Call = Load | Unload


@dataclass(frozen=True, slots=True)
class Present:
    """What a server lists: its adapters with their sources (empty: not told), and its models."""

    adapters: Mapping[str, str] = field(default_factory=dict)
    models: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """`satisfied`: of every adapter that the configuration names, whether the server is as wanted;
    those that are left alone for being in both lists are not in it.
    """

    calls: tuple[Call, ...] = ()
    warnings: tuple[str, ...] = ()
    satisfied: Mapping[str, bool] = field(default_factory=dict)


def conflicts(config: SyncConfig) -> tuple[str, ...]:
    """Adapters that must be there and must not, in order."""
    unwanted = {model.id for model in config.ensure_not_exist.models}
    return tuple(model.id for model in config.ensure_exist.models if model.id in unwanted)


def plan(config: SyncConfig, present: Present) -> Plan:
    """The calls in the order in which to make them, loads first."""
    skipped = dict.fromkeys(conflicts(config))
    warnings = [f"{name} is in ensureExist and in ensureNotExist; left alone" for name in skipped]
    satisfied: dict[str, bool] = {}
    loads: list[Call] = []
    for model in config.ensure_exist.models:
        if model.id in skipped:
            continue
        if model.id in present.models:
            warnings.append(f"{model.id} is the name of a model of the server; not loaded")
            satisfied[model.id] = False
            continue
        satisfied[model.id] = model.id in present.adapters
        if model.id not in present.adapters:
            loads.append(
                Load(model.id, model.source, model.base_model or config.default_base_model)
            )
        elif present.adapters[model.id] not in ("", model.source):
            loaded = present.adapters[model.id]
            warnings.append(
                f"{model.id} is loaded from {loaded}, not from {model.source}; "
                "give a new version a new id"
            )
    unloads: list[Call] = []
    for unwanted in config.ensure_not_exist.models:
        if unwanted.id in skipped:
            continue
        satisfied[unwanted.id] = unwanted.id not in present.adapters
        if unwanted.id in present.adapters:
            unloads.append(Unload(unwanted.id))
    return Plan((*loads, *unloads), tuple(warnings), satisfied)
