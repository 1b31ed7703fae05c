"""Where plugins of others come from, as far as decisions know."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from inferway.picker.scheduling.plugins import Factory


class Found(NamedTuple):
    """The newest version of a plugin that could be loaded."""

    factory: Factory | None  # None: none could
    source: str  # for people: the file, or the distribution and its version
    version: str  # differs when the plugin may behave differently
    error: str = ""  # why a newer version, or any, could not be loaded


class PluginSource(Protocol):
    def find(self, type_: str) -> Found | None:
        """None: no plugin of others has this type."""
        ...

    def names(self) -> Iterable[str]:
        """Types that can be listed, for messages."""
        ...


class NoPlugins:
    """Nothing but what we bring."""

    def find(self, type_: str) -> Found | None:
        return None

    def names(self) -> Iterable[str]:
        return ()
