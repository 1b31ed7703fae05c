"""Every plugin type by name."""

from typing import Final

from .data import DATA_PLUGINS
from .flow_control import FLOW_CONTROL_PLUGINS
from .plugin_type import PluginType
from .scheduling import SCHEDULING_PLUGINS

PLUGIN_TYPES: Final[dict[str, PluginType]] = {
    one.name: one for one in (*SCHEDULING_PLUGINS, *FLOW_CONTROL_PLUGINS, *DATA_PLUGINS)
}
