"""Which routes serve a host, in which order, when listeners and routes overlap."""

from __future__ import annotations

from inferway.routing.hostnames import ANY
from inferway.routing.model import MatchKind, Route, RouteMatch, VirtualHost
from inferway.routing.precedence import Origin, RankedRoute, precedence
from inferway.routing.virtual_hosts import AttachedRoute, HostListener, virtual_hosts


def attached(name: str, *hostnames: str, paths: tuple[str, ...] = ("/",)) -> AttachedRoute:
    entries = []
    for index, path in enumerate(paths):
        match = RouteMatch(path_kind=MatchKind.PREFIX, path=path)
        route = Route(name=f"ns/{name}/{index}/0", match=match, targets=())
        origin = Origin(route=f"ns/{name}", created=None, rule=index, match=0)
        entries.append(RankedRoute(key=precedence(match, origin), route=route))
    return AttachedRoute(name=f"ns/{name}", hostnames=hostnames, entries=tuple(entries))


def summary(hosts: tuple[VirtualHost, ...]) -> dict[str, list[str]]:
    """Host to the routes tried, as `route/rule`."""
    return {
        name: [route.name.removeprefix("ns/").removesuffix("/0") for route in host.routes]
        for host in hosts
        for name in host.hostnames
    }


def test_one_listener_without_hostname_and_one_route() -> None:
    hosts = virtual_hosts([HostListener(ANY, (attached("a"),))])
    assert summary(hosts) == {ANY: ["a/0"]}


def test_listener_without_routes_still_owns_its_hosts() -> None:
    hosts = virtual_hosts(
        [HostListener(ANY, (attached("wide"),)), HostListener("a.org", routes=())]
    )
    assert summary(hosts) == {"a.org": [], ANY: ["wide/0"]}


def test_routes_of_one_host_are_merged_and_sorted() -> None:
    hosts = virtual_hosts(
        [
            HostListener(
                ANY,
                (
                    attached("b", "x.org", paths=("/", "/v1/chat")),
                    attached("a", "x.org", paths=("/v1",)),
                ),
            )
        ]
    )
    assert summary(hosts) == {"x.org": ["b/1", "a/0", "b/0"], ANY: []}


def test_more_specific_hostname_of_a_route_comes_before_longer_paths() -> None:
    wide = attached("wide", "*.x.org", paths=("/v1/chat/completions",))
    exact = attached("exact", "a.x.org", paths=("/",))
    anywhere = attached("anywhere", paths=("/v1",))
    hosts = virtual_hosts([HostListener(ANY, (wide, anywhere, exact))])
    assert summary(hosts) == {
        "a.x.org": ["exact/0", "wide/0", "anywhere/0"],
        "*.x.org": ["wide/0", "anywhere/0"],
        ANY: ["anywhere/0"],
    }


def test_original_hostname_decides_when_the_listener_cuts_both_to_the_same() -> None:
    wide = attached("wide", "*.org", paths=("/v1/chat/completions",))
    exact = attached("exact", "a.x.org", paths=("/",))
    hosts = virtual_hosts([HostListener("a.x.org", (wide, exact))])
    assert summary(hosts) == {"a.x.org": ["exact/0", "wide/0"]}


def test_host_belongs_to_the_most_specific_listener_only() -> None:
    hosts = virtual_hosts(
        [
            HostListener(ANY, (attached("any", "a.x.org", "b.org"),)),
            HostListener("*.x.org", (attached("wild"),)),
            HostListener("a.x.org", (attached("exact"),)),
        ]
    )
    assert summary(hosts) == {
        "a.x.org": ["exact/0"],
        "*.x.org": ["wild/0"],
        "b.org": ["any/0"],
        ANY: [],
    }


def test_route_naming_a_host_twice_over_appears_once() -> None:
    hosts = virtual_hosts([HostListener(ANY, (attached("a", "a.x.org", "*.x.org"),))])
    assert summary(hosts)["a.x.org"] == ["a/0"]


def test_hosts_with_the_same_routes_share_a_virtual_host_most_specific_first() -> None:
    hosts = virtual_hosts([HostListener(ANY, (attached("a", "*.x.org", "b.org", "a.org"),))])
    assert [host.hostnames for host in hosts] == [("a.org", "b.org", "*.x.org"), (ANY,)]


def test_order_of_listeners_and_routes_does_not_matter() -> None:
    routes = (attached("a", "x.org"), attached("b", "*.org"), attached("c"))
    listeners = [HostListener(ANY, routes), HostListener("*.com", routes)]
    mirrored = [HostListener("*.com", routes[::-1]), HostListener(ANY, routes[::-1])]
    assert virtual_hosts(listeners) == virtual_hosts(mirrored)
