"""Real Envoy sends requests where the routing model says, in the shares that it says."""

from __future__ import annotations

import math

import pytest

from inferway.routing.model import (
    MatchKind,
    Route,
    RouteMatch,
    ValueMatch,
    VirtualHost,
)
from tests.binomial import fits_share

pytestmark = pytest.mark.hermetic


def by_path(kind: MatchKind, path: str) -> RouteMatch:
    return RouteMatch(kind, path)


async def test_paths_methods_headers_and_queries(gateway, build, model_server) -> None:
    names = ("exact", "prefix", "regex", "method", "header", "query", "rest")
    servers = {name: await model_server(name) for name in names}
    matches = {
        "exact": by_path(MatchKind.EXACT, "/exact"),
        "prefix": by_path(MatchKind.PREFIX, "/pre/fix/"),
        "regex": by_path(MatchKind.REGEX, "/v[0-9]+/x"),
        "method": RouteMatch(path="/m", method="DELETE"),
        "header": RouteMatch(headers=(ValueMatch("x-team", MatchKind.REGEX, "red|blue"),)),
        "query": RouteMatch(query=(ValueMatch("debug", MatchKind.EXACT, "1"),)),
        "rest": RouteMatch(),
    }
    await gateway.serve(
        build.model(
            *(
                Route(name, match, (build.to_servers(f"demo/{name}"),))
                for name, match in matches.items()
            ),
            backends=tuple(build.group(f"demo/{name}", servers[name].port) for name in names),
        )
    )

    async def served_by(path: str, method: str = "GET", **headers: str) -> str:
        async with gateway.client.request(method, gateway.url + path, headers=headers) as answer:
            return (await answer.json())["server"]

    assert await served_by("/exact") == "exact"
    assert await served_by("/exact?a=b") == "exact"
    assert await served_by("/exact/more") == "rest"
    assert await served_by("/pre/fix") == "prefix"
    assert await served_by("/pre/fix/more") == "prefix"
    assert await served_by("/pre/fixture") == "rest"
    assert await served_by("/v12/x") == "regex"
    assert await served_by("/v12/xy") == "rest"
    assert await served_by("/m", "DELETE") == "method"
    assert await served_by("/m") == "rest"
    assert await served_by("/", **{"X-Team": "blue"}) == "header"
    assert await served_by("/", **{"X-Team": "blueish"}) == "rest"
    assert await served_by("/?debug=1") == "query"
    assert await served_by("/?debug=12") == "rest"


async def test_hosts_with_and_without_port(gateway, build, model_server) -> None:
    names = ("exact", "wild", "any")
    servers = {name: await model_server(name) for name in names}
    patterns = {"exact": "llm.example.com", "wild": "*.example.com", "any": "*"}
    await gateway.serve(
        build.hosts(
            *(
                VirtualHost(
                    (patterns[name],),
                    (Route(name, RouteMatch(), (build.to_servers(f"d/{name}"),)),),
                )
                for name in names
            ),
            backends=tuple(build.group(f"d/{name}", servers[name].port) for name in names),
        )
    )

    async def served_by(host: str) -> str:
        async with gateway.client.get(gateway.url, headers={"Host": host}) as answer:
            return (await answer.json())["server"]

    assert await served_by("llm.example.com") == "exact"
    assert await served_by("llm.example.com:8080") == "exact"
    assert await served_by("LLM.example.com") == "exact"
    assert await served_by("a.b.example.com:99") == "wild"
    assert await served_by("example.com") == "any"


async def test_weights(gateway, build, model_server) -> None:
    stable, canary = await model_server("stable"), await model_server("canary")
    targets = (build.to_pool("d/stable", 90), build.to_pool("d/canary", 10))
    await gateway.serve(
        build.model(
            Route("r", RouteMatch(), targets),
            backends=(build.pool("d/stable", stable.port), build.pool("d/canary", canary.port)),
        )
    )
    count = 5000
    answers = await gateway.servers("/", count=count)
    assert answers["stable"] + answers["canary"] == count
    assert fits_share(answers["canary"], 0.1, of=count), answers


async def test_unresolved_share_is_answered_500(gateway, build, model_server) -> None:
    red, blue = await model_server("red"), await model_server("blue")
    # Unequal weights in front of and behind the unresolved one: every bound matters.
    targets = (build.to_servers("d/red", 5), build.nowhere(3), build.to_servers("d/blue", 2))
    await gateway.serve(
        build.model(
            Route("mixed", RouteMatch(MatchKind.EXACT, "/mixed"), targets),
            Route("none", RouteMatch(MatchKind.EXACT, "/none"), ()),
            Route("zero", RouteMatch(MatchKind.EXACT, "/zero"), (build.to_servers("d/red", 0),)),
            backends=(build.group("d/red", red.port), build.group("d/blue", blue.port)),
        )
    )
    count = 3000
    answers = await gateway.servers("/mixed", count=count)
    assert set(answers) == {"red", "500", "blue"}
    for name, share in (("red", 0.5), ("500", 0.3), ("blue", 0.2)):
        assert abs(answers[name] - share * count) <= 3.5 * math.sqrt(count * share * (1 - share))
    expected = {"type": "server_error", "param": None, "code": "backend_not_resolved"}
    status, error = await gateway.error("/none")
    assert (status, error) == (500, {**expected, "message": "This route has no backend."})
    assert (await gateway.error("/zero"))[0] == 500


async def test_what_reaches_the_model_server(gateway, build, model_server) -> None:
    server = await model_server("a")
    await gateway.serve(
        build.model(
            Route("r", RouteMatch(), (build.to_servers("d/a"),)),
            backends=(build.group("d/a", server.port),),
        )
    )
    trust = {
        "x-gateway-model-name": "spoofed",
        "x-gateway-base-model-name": "spoofed",
        "x-gateway-destination-endpoint": "10.0.0.1:1",
        "x-gateway-destination-endpoint-served": "10.0.0.1:1",
        "x-gateway-destination-endpoint-subset": "10.0.0.1:1",
        "x-envoy-retry-on": "5xx",
    }
    sent = {**trust, "x-request-id": "client-chosen", "x-mine": "kept"}
    async with gateway.client.get(gateway.url, headers=sent) as answer:
        seen = {name.lower(): value for name, value in (await answer.json())["headers"].items()}
        assert answer.headers["x-request-id"] == "client-chosen"
        assert not [name for name in answer.headers if name.lower().startswith("x-envoy")]
    assert seen["x-request-id"] == "client-chosen"
    assert seen["x-mine"] == "kept"
    assert not trust.keys() & seen.keys()


async def test_spoofed_model_header_does_not_choose_a_route(gateway, build, model_server) -> None:
    secret, public = await model_server("secret"), await model_server("public")
    asks = RouteMatch(headers=(ValueMatch("x-gateway-model-name", MatchKind.EXACT, "secret"),))
    await gateway.serve(
        build.model(
            Route("secret", asks, (build.to_servers("d/secret"),)),
            Route("public", RouteMatch(), (build.to_servers("d/public"),)),
            backends=(build.group("d/secret", secret.port), build.group("d/public", public.port)),
        )
    )
    status, text = await gateway.get("/", **{"X-Gateway-Model-Name": "secret"})
    assert status == 200
    assert '"public"' in text
