"""Filters of HTTPRoutes, from the manifest to what a client and a server see of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from .manifests import route, server, to_server, translated

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.hermetic


async def serve(gateway, model_server, *rules: str) -> int:
    """One server called `a` behind these rules; the listener's port."""
    one = await model_server("a")
    model = translated(server("a", one.port), route(*rules)).model
    await gateway.serve(model)
    return model.listeners[0].port


async def seen(gateway, path: str, **headers: str) -> dict[str, Any]:
    """What the server saw of a request."""
    async with gateway.client.get(gateway.url + path, headers=headers) as answer:
        assert answer.status == 200, await answer.text()
        found = json.loads(await answer.text())
    found["headers"] = {name.lower(): value for name, value in found["headers"].items()}
    return dict(found)


BACKEND = f"backendRefs: [{to_server('a')}]"


async def test_header_modifiers_of_rule_and_backend(gateway, model_server) -> None:
    change = """
    set: [{name: X-Set, value: '100% ours'}, {name: X-Both, value: rule}],
    add: [{name: x-add, value: rule}], remove: [X-Gone]"""
    own = "set: [{name: x-both, value: backend}], add: [{name: X-Add, value: backend}]"
    back = "set: [{name: Server, value: inferway}], remove: [content-type]"
    await serve(
        gateway,
        model_server,
        f"""{{filters: [
          {{type: RequestHeaderModifier, requestHeaderModifier: {{{change}}}}},
          {{type: ResponseHeaderModifier, responseHeaderModifier: {{{back}}}}}],
        backendRefs: [{
            to_server(
                "a",
                f''', filters: [
          {{type: RequestHeaderModifier, requestHeaderModifier: {{{own}}}}}]''',
            )
        }]}}""",
    )
    sent = {"x-set": "client", "x-both": "client", "x-gone": "client", "x-add": "client"}
    found = (await seen(gateway, "/", **sent))["headers"]
    assert found["x-set"] == "100% ours"
    assert found["x-both"] == "backend"
    assert "x-gone" not in found
    async with gateway.client.get(gateway.url + "/", headers=sent) as answer:
        assert answer.headers["server"] == "inferway"
        assert "content-type" not in answer.headers
        lines = json.loads(await answer.text())["lines"]
    assert [value for name, value in lines if name.lower() == "x-add"] == [
        "client",
        "rule",
        "backend",
    ]


REPLACED_PREFIX = [
    ("/foo", "/xyz", "/foo/bar", "/xyz/bar"),
    ("/foo", "/xyz/", "/foo/bar", "/xyz/bar"),
    ("/foo/", "/xyz", "/foo/bar", "/xyz/bar"),
    ("/foo/", "/xyz/", "/foo/bar", "/xyz/bar"),
    ("/foo", "/xyz", "/foo", "/xyz"),
    ("/foo", "/xyz", "/foo/", "/xyz/"),
    ("/foo", "", "/foo/bar", "/bar"),
    ("/foo", "", "/foo/", "/"),
    ("/foo", "", "/foo", "/"),
    ("/foo", "/", "/foo/bar?q=/foo", "/bar?q=/foo"),
    ("/foo", "/", "/foo/", "/"),
    ("/foo", "/", "/foo", "/"),
    ("/", "/xyz", "/bar", "/xyz/bar"),
    ("/", "/", "/bar", "/bar"),
    ("/a.b", "/x", "/a.b/c%2Fd?e", "/x/c%2Fd?e"),
]
"""Prefix, its replacement, path, result: the Gateway API's table and a few of ours."""


async def test_rewritten_paths_and_hosts(gateway, model_server) -> None:
    def rule(number: int, prefix: str, replacement: str) -> str:
        change = f"{{type: ReplacePrefixMatch, replacePrefixMatch: '{replacement}'}}"
        return f"""{{matches: [{{path: {{value: '{prefix}'}},
            headers: [{{name: row, value: '{number}'}}]}}],
          filters: [{{type: URLRewrite, urlRewrite: {{path: {change}}}}}], {BACKEND}}}"""

    full = "{type: ReplaceFullPath, replaceFullPath: '/v1/\\1'}"
    rules = [rule(number, *row[:2]) for number, row in enumerate(REPLACED_PREFIX)]
    await serve(
        gateway,
        model_server,
        *rules,
        f"""{{matches: [{{path: {{value: /full}}}}], filters: [{{type: URLRewrite, urlRewrite:
          {{hostname: inner.example.com, path: {full}}}}}], {BACKEND}}}""",
    )
    for number, (_prefix, _replacement, path, result) in enumerate(REPLACED_PREFIX):
        assert (await seen(gateway, path, row=str(number)))["path"] == result, number
    found = await seen(gateway, "/full/of/it?a=b")
    assert found["path"] == "/v1/\\1?a=b"
    assert found["headers"]["host"] == "inner.example.com"


async def location(gateway, path: str, host: str) -> tuple[int, str]:
    headers = {"host": host}
    async with gateway.client.get(
        gateway.url + path, headers=headers, allow_redirects=False
    ) as answer:
        return answer.status, answer.headers["location"]


async def test_redirects(gateway, model_server) -> None:
    cases: Sequence[tuple[str, str, str, int, str]] = (
        ("{}", "/p?q=1", "e.com", 302, "http://e.com:PORT/p?q=1"),
        ("{}", "/p", "e.com:9", 302, "http://e.com:PORT/p"),
        ("{scheme: https}", "/p", "e.com", 302, "https://e.com/p"),
        ("{scheme: https}", "/p", "e.com:99", 302, "https://e.com:443/p"),
        ("{scheme: http}", "/p", "e.com", 302, "http://e.com/p"),
        ("{scheme: https, port: 8443}", "/p", "e.com:1", 302, "https://e.com:8443/p"),
        ("{port: 80}", "/p", "e.com", 302, "http://e.com/p"),
        ("{hostname: o.com, statusCode: 301}", "/p", "e.com", 301, "http://o.com:PORT/p"),
        ("{hostname: o.com, scheme: https}", "/p", "e.com:7", 302, "https://o.com/p"),
        ("{scheme: https, statusCode: 303}", "/p", "e.com", 303, "https://e.com/p"),
        ("{scheme: https, statusCode: 307}", "/p", "e.com", 307, "https://e.com/p"),
        ("{scheme: https, statusCode: 308}", "/p", "e.com", 308, "https://e.com/p"),
        (
            "{scheme: https, path: {type: ReplaceFullPath, replaceFullPath: /new}}",
            "/p/q?r",
            "e.com",
            302,
            "https://e.com/new?r",
        ),
        (
            "{scheme: https, path: {type: ReplacePrefixMatch, replacePrefixMatch: /new}}",
            "/p/q?r",
            "e.com",
            302,
            "https://e.com/new/q?r",
        ),
        (
            "{scheme: https, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}",
            "/p/q",
            "e.com",
            302,
            "https://e.com/q",
        ),
    )
    rules = [
        f"""{{matches: [{{path: {{value: /{number}/p}}}}],
          filters: [{{type: RequestRedirect, requestRedirect: {redirect}}},
            {{type: ResponseHeaderModifier,
              responseHeaderModifier: {{set: [{{name: x-why, value: moved}}]}}}}]}}"""
        for number, (redirect, *_rest) in enumerate(cases)
    ]
    port = await serve(gateway, model_server, *rules)
    for number, (redirect, path, host, status, wanted) in enumerate(cases):
        expected = wanted.replace("PORT", str(port))
        if "path:" not in redirect:
            expected = expected.replace("/p", f"/{number}/p")
        assert await location(gateway, f"/{number}{path}", host) == (status, expected), redirect


async def test_a_backend_that_redirects_or_is_unknown_takes_its_share(
    gateway, model_server
) -> None:
    redirect = ", filters: [{type: RequestRedirect, requestRedirect: {hostname: o.com}}]"
    unknown = "{type: ExtensionRef, extensionRef: {group: e.com, kind: Magic, name: m}}"
    await serve(
        gateway,
        model_server,
        f"{{backendRefs: [{to_server('a')}, {to_server('a', redirect)}]}}",
        f"{{matches: [{{path: {{value: /x}}}}], filters: [{unknown}], {BACKEND}}}",
    )
    seen_statuses = set()
    for _request in range(64):
        async with gateway.client.get(gateway.url + "/", allow_redirects=False) as answer:
            seen_statuses.add(answer.status)
    assert seen_statuses == {200, 302}
    status, error = await gateway.error("/x")
    assert (status, error["code"]) == (500, "backend_not_resolved")
    assert "e.com/Magic m" in error["message"]


async def test_cors(gateway, model_server) -> None:
    cors = """{allowOrigins: ['https://*.example.com', 'http://exact.org:8080'],
      allowCredentials: true, allowMethods: ['*'], allowHeaders: [authorization, x-mine],
      exposeHeaders: [x-request-id], maxAge: 60}"""
    await serve(
        gateway,
        model_server,
        f"{{filters: [{{type: CORS, cors: {cors}}}], {BACKEND}}}",
        f"{{matches: [{{path: {{value: /none}}}}], {BACKEND}}}",
    )

    async def preflight(path: str, origin: str) -> Any:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        async with gateway.client.options(gateway.url + path, headers=headers) as answer:
            return {
                name.lower().removeprefix("access-control-"): value
                for name, value in answer.headers.items()
                if name.lower().startswith("access-control-")
            }

    assert await preflight("/", "https://a.b.example.com") == {
        "allow-origin": "https://a.b.example.com",
        "allow-credentials": "true",
        "allow-methods": "GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH",
        "allow-headers": "authorization, x-mine",
        "expose-headers": "x-request-id",
        "max-age": "60",
    }
    assert (await preflight("/", "http://exact.org:8080"))["allow-origin"]
    for stranger in (
        "https://example.com",
        "http://a.example.com",
        "https://evil.com/.example.com",
    ):
        assert await preflight("/", stranger) == {}, stranger
    assert await preflight("/none", "https://a.example.com") == {}
    headers = {"origin": "https://a.example.com"}
    async with gateway.client.get(gateway.url + "/", headers=headers) as answer:
        assert answer.headers["access-control-allow-origin"] == "https://a.example.com"
        assert (await answer.json())["server"] == "a"


async def test_long_names_are_no_problem(gateway, model_server) -> None:
    """Where we make expressions of our own, Envoy takes the longest that a manifest may hold."""
    prefix = "/" + "/".join(["p" * 50] * 19)
    host = ".".join(["h" * 50] * 4)
    rewrite = "{type: ReplacePrefixMatch, replacePrefixMatch: /}"
    session = f"{{sessionName: {'s' * 128}}}"
    cors = f"{{allowOrigins: ['https://*.{host}']}}"
    await serve(
        gateway,
        model_server,
        f"""{{matches: [{{path: {{value: {prefix}}}}}], sessionPersistence: {session},
          filters: [{{type: URLRewrite, urlRewrite: {{path: {rewrite}}}}},
            {{type: CORS, cors: {cors}}}],
          backendRefs: [{to_server("a")}, {to_server("a")}]}}""",
    )
    assert (await seen(gateway, f"{prefix}/x"))["path"] == "/x"
    headers = {"origin": f"https://www.{host}"}
    async with gateway.client.get(gateway.url + prefix, headers=headers) as answer:
        assert answer.headers["access-control-allow-origin"] == headers["origin"]


async def test_the_largest_expressions_that_we_accept_are_accepted_by_envoy(
    gateway, model_server
) -> None:
    large = "(?:abcdefgh){1,1000}x{500}"
    condition = f"{{type: RegularExpression, name: x-long, value: '{large}'}}"
    await serve(gateway, model_server, f"{{matches: [{{headers: [{condition}]}}], {BACKEND}}}")
    assert (await seen(gateway, "/", **{"x-long": "abcdefgh" * 3 + "x" * 500}))["path"] == "/"
    assert (await gateway.get("/", **{"x-long": "x" * 500}))[0] == 404
