"""What is known of one plugin type of an EndpointPickerConfig."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from inferway.resources.meta import Model


class Role(StrEnum):
    """Where a plugin can be referred to."""

    FILTER = "filter"
    SCORER = "scorer"
    COST = "cost"  # rates like a scorer, lower is better, in a unit of its own
    PICKER = "picker"
    PROFILE_HANDLER = "profile handler"
    PARSER = "parser"
    DATA_SOURCE = "data source"
    EXTRACTOR = "extractor"
    DISCOVERY = "discovery"
    FAIRNESS = "fairness policy"
    ORDERING = "ordering policy"
    USAGE_LIMIT = "usage limit policy"
    DETECTOR = "saturation detector"
    OTHER = "plugin"  # works by being listed


SCHEDULING = frozenset({Role.FILTER, Role.SCORER, Role.COST, Role.PICKER})


class NoParameters(Model):
    """A plugin without parameters."""


class ReadsHeaders(Model):
    """Parameters of a plugin that looks at request headers."""

    def request_headers(self) -> tuple[str, ...]:
        """Their names in lower case: what the gateway has to tell the picker of each request."""
        return ()


@dataclass(frozen=True, slots=True)
class PluginType:
    """A plugin is served, built in (accepted, and nothing happens, because the gateway does it
    anyway) or refused.
    """

    name: str
    roles: frozenset[Role]
    meaning: str  # for the table of the documentation
    parameters: type[Model] = NoParameters
    built_in: str = ""  # how the gateway does it; empty: served, or refused
    refused: str = ""  # why; empty: served, or built in
    instead: str = ""  # what to do about a refusal
    # Parameters that are accepted and say nothing to us, with the reason.
    ignored: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_served(self) -> bool:
        return not self.built_in and not self.refused


def plugin(
    name: str,
    role: Role | tuple[Role, ...],
    meaning: str,
    parameters: type[Model] = NoParameters,
    *,
    ignored: Mapping[str, str] | None = None,
) -> PluginType:
    """One that is served."""
    return PluginType(name, _roles(role), meaning, parameters, ignored=ignored or {})


def built_in(
    name: str,
    role: Role | tuple[Role, ...],
    how: str,
    parameters: type[Model] = NoParameters,
    *,
    ignored: Mapping[str, str] | None = None,
) -> PluginType:
    """One that need not be listed, because the gateway always does it. `ignored` None: every
    parameter is.
    """
    names = [item.alias or name for name, item in parameters.model_fields.items()]
    ignored = dict.fromkeys(names, how) if ignored is None else ignored
    return PluginType(name, _roles(role), how, parameters, built_in=how, ignored=ignored)


def refused(name: str, role: Role | tuple[Role, ...], why: str, instead: str) -> PluginType:
    """One that the reference has and this gateway does not. Its parameters are not looked at."""
    return PluginType(name, _roles(role), why, refused=why, instead=instead)


def _roles(role: Role | tuple[Role, ...]) -> frozenset[Role]:
    return frozenset({role} if isinstance(role, Role) else role)
