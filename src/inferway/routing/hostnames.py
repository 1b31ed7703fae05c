"""Which host names a listener and a route share, and which of several patterns comes first.

Problem: a listener and a route each name hosts, exactly (`a.example.com`) or by suffix
(`*.example.com`, any number of labels in front, never `example.com` itself); traffic reaches the
route only under names that both allow, and the more specific pattern wins. Model: a pattern is a
lower-case string, and `"*"` stands for "no host name given: any". Invariant: the patterns that
cover a given one form a single chain (`covering`), so looking up everything that applies to a host
costs one dictionary access per label, however many patterns exist. Not done here: ports in the Host
header, which Envoy is told to ignore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ANY = "*"


def pattern(hostname: str | None) -> str:
    """The canonical pattern of a `hostname` field; absent and empty both mean any host."""
    return hostname.lower() if hostname else ANY


def covering(host: str) -> Iterator[str]:
    """`host` and every pattern that matches all that `host` matches, most specific first."""
    yield host
    if host == ANY:
        return
    rest = host.removeprefix("*.")
    while "." in rest:
        rest = rest.partition(".")[2]
        yield f"*.{rest}"
    yield ANY


def covers(wide: str, narrow: str) -> bool:
    """Whether every host that `narrow` matches is matched by `wide`."""
    if wide in (ANY, narrow):
        return True
    return wide.startswith("*.") and narrow != ANY and narrow.endswith(wide[1:])


def intersection(first: str, second: str) -> str | None:
    """The hosts that both match, or None: two patterns nest or are disjoint."""
    if covers(first, second):
        return second
    if covers(second, first):
        return first
    return None


def intersections(listener: str, route: Sequence[str]) -> tuple[str, ...]:
    """The hosts under which a route with these patterns (none: any) serves on a listener."""
    if not route:
        return (listener,)
    common = (intersection(listener, one) for one in route)
    return tuple(dict.fromkeys(one for one in common if one is not None))


def specificity(host: str) -> tuple[bool, int]:
    """Sort key, most specific first: exact names before wildcards, then by length, then any."""
    if host == ANY:
        return (True, 0)
    return (host.startswith("*."), -len(host))
