"""From an EndpointPickerConfig to what the picker is told of a pool, section by section.

Pure. A function per section takes the object (None: the pool has none) and answers in the words of
`inferway.picker.config`; `pool_config` of the reconciler puts the answers together. What a section
does not say is left to the defaults of those words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.picker.config import PluginConfig, ProfileConfig

if TYPE_CHECKING:
    from pydantic import JsonValue

    from inferway.resources import EndpointPickerConfig


def profile_config(config: EndpointPickerConfig | None) -> ProfileConfig | None:
    """The scheduling profile; None leaves it to the pool's policy."""
    if config is None or not config.profile:
        return None
    plugins = []
    for part in config.profile:
        plugin = config.plugin(part.plugin_ref)
        told: dict[str, JsonValue] = {
            name: value
            for name, value in plugin.parameters.items()
            if value is not None and name not in plugin.plugin_type.ignored
        }
        plugins.append(
            PluginConfig(
                type=plugin.type, name=plugin.reference, weight=part.weight, parameters=told
            )
        )
    return ProfileConfig(plugins=tuple(plugins))
