"""Listeners that share an address and port become virtual hosts of one model listener.

Problem: the data plane picks one virtual host by the Host header, the most specific one, and looks
no further; the Gateway API speaks of two levels, listeners and routes, each with its own host
patterns. Model: every pattern under which something serves gets a virtual host with the complete
ordered list of route entries for it. Two rules decide what is in that list:

- Listener isolation: a host belongs to the most specific listener that covers it; routes of other
  listeners do not serve it. A listener's own pattern therefore always has a virtual host, even an
  empty one (which answers 404).
- Inside a listener, routes whose own pattern is more specific for that host come first, as written
  in the route and not as cut by the listener; only then path, method, headers and so on
  (precedence.py). Less specific routes follow: they still match.

Cost: sorting is O(M log M) for M (entry, pattern) pairs; assembling is linear in the entries of the
result plus one look-up per host label. The result is larger than the input only where patterns
overlap.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from inferway.routing.hostnames import ANY, covering, intersections, specificity
from inferway.routing.model import Route, VirtualHost

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inferway.routing.precedence import RankedRoute


@dataclass(frozen=True, slots=True)
class AttachedRoute:
    """An HTTPRoute on a listener."""

    name: str  # namespace/name
    hostnames: tuple[str, ...]  # canonical patterns as the route has them; empty: any
    entries: tuple[RankedRoute, ...]


@dataclass(frozen=True, slots=True)
class HostListener:
    """One listener of a Gateway, seen as an owner of hosts."""

    hostname: str  # canonical pattern
    routes: tuple[AttachedRoute, ...]


def virtual_hosts(
    listeners: Sequence[HostListener], *, elsewhere: Iterable[str] = ()
) -> tuple[VirtualHost, ...]:
    """The virtual hosts of distinct listeners on one port, most specific host first. `elsewhere`
    are the patterns of listeners on that port whose hosts are not wanted here.
    """
    owned = {*elsewhere, *(listener.hostname for listener in listeners)}
    by_entries: dict[tuple[str, ...], list[str]] = {}
    entries_of: dict[tuple[str, ...], tuple[Route, ...]] = {}
    for listener in sorted(listeners, key=lambda one: specificity(one.hostname)):
        by_pattern = _by_pattern(listener.routes)
        for host in _hosts(listener):
            if _owner(host, owned) != listener.hostname:
                continue
            routes = _entries(host, by_pattern)
            names = tuple(route.name for route in routes)
            by_entries.setdefault(names, []).append(host)
            entries_of[names] = routes
    merged = [
        VirtualHost(hostnames=tuple(sorted(hosts, key=_host_order)), routes=entries_of[names])
        for names, hosts in by_entries.items()
    ]
    return tuple(sorted(merged, key=lambda one: _host_order(one.hostnames[0])))


def _host_order(host: str) -> tuple[bool, int, str]:
    return (*specificity(host), host)


def _hosts(listener: HostListener) -> Iterable[str]:
    hosts = {listener.hostname: None}
    for route in listener.routes:
        hosts.update(dict.fromkeys(intersections(listener.hostname, route.hostnames)))
    return hosts


def _owner(host: str, owned: set[str]) -> str | None:
    return next((one for one in covering(host) if one in owned), None)


def _by_pattern(routes: Sequence[AttachedRoute]) -> dict[str, list[RankedRoute]]:
    """Route entries under each pattern that a route names, in precedence order."""
    by_pattern: dict[str, list[RankedRoute]] = {}
    for route in routes:
        for one in route.hostnames or (ANY,):
            by_pattern.setdefault(one, []).extend(route.entries)
    for entries in by_pattern.values():
        entries.sort(key=attrgetter("key"))
    return by_pattern


def _entries(host: str, by_pattern: dict[str, list[RankedRoute]]) -> tuple[Route, ...]:
    """What serves `host`, each entry once: a route may name a host exactly and by wildcard."""
    found: dict[str, Route] = {}
    for one in covering(host):
        for ranked in by_pattern.get(one, ()):
            found.setdefault(ranked.route.name, ranked.route)
    return tuple(found.values())
