"""Every plugin type by name, and those of others.

A type of others is the name of an entry point, which has a dot or a slash to tell it from those of
the reference (`example.com/my-scorer`), or `FILE.py:NAME`. Whether it can be loaded, and which
parameters it takes, is known to the picker alone.
"""

import re
from typing import Final

from pydantic import ConfigDict

from .choosing import COSTS, PICKERS
from .data import DATA_PLUGINS
from .filters import FILTERS
from .flow_control import FLOW_CONTROL_PLUGINS
from .not_served import NOT_SERVED
from .plugin_type import SCHEDULING, PluginType, ReadsHeaders
from .scorers import SCORERS

PLUGIN_TYPES: Final[dict[str, PluginType]] = {
    one.name: one
    for one in (
        *SCORERS,
        *FILTERS,
        *PICKERS,
        *COSTS,
        *NOT_SERVED,
        *FLOW_CONTROL_PLUGINS,
        *DATA_PLUGINS,
    )
}
FILE_TYPE: Final = re.compile(r"(?P<file>[\w./-]+\.py):(?P<name>[A-Za-z_]\w*)")
_MARKS: Final = frozenset("./:")


class AnyParameters(ReadsHeaders):
    """Those of a plugin of others. Its `header` or `headers` are names of request headers."""

    model_config = ConfigDict(extra="allow")

    def request_headers(self) -> tuple[str, ...]:
        given = self.model_extra or {}
        one, several = given.get("header"), given.get("headers")
        named = [one, *several] if isinstance(several, list) else [one]
        return tuple(name.lower() for name in named if isinstance(name, str))


def plugin_type(name: str) -> PluginType:
    """KeyError when there is no such type."""
    if not _MARKS.isdisjoint(name):
        return PluginType(name, SCHEDULING, "a plugin of others", AnyParameters)
    return PLUGIN_TYPES[name]


def is_file_type(name: str) -> bool:
    """Whether the type names a file."""
    return FILE_TYPE.fullmatch(name) is not None


def is_known(name: str) -> bool:
    return name in PLUGIN_TYPES or not _MARKS.isdisjoint(name)
