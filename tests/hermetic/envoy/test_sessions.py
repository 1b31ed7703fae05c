"""Who keeps which server, and which side of a split."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.binomial import fits_share

from .manifests import pool, route, server, to_pool, to_server, translated
from .picker import FAIL_CLOSE, PATIENT, picker

if TYPE_CHECKING:
    from collections.abc import Mapping

pytestmark = pytest.mark.hermetic

BODY = {"model": "m", "messages": []}
PATH = "/v1/chat/completions"


async def ask(
    gateway, path: str = "/", *, cookies: Mapping[str, str] | None = None, **headers: str
) -> tuple[str, Any]:
    """Who answered, and the answer's headers. No cookie is kept between calls."""
    sent = dict(headers)
    if cookies:
        sent["cookie"] = "a=1; " + "; ".join(f"{name}={value}" for name, value in cookies.items())
    if path == PATH:
        request = gateway.client.post(gateway.url + path, json=BODY, headers=sent)
    else:
        request = gateway.client.get(gateway.url + path, headers=sent)
    async with request as answer:
        assert answer.status == 200, await answer.text()
        gateway.client.cookie_jar.clear()
        return (await answer.json())["server"], answer.headers


def set_cookies(headers: Any) -> dict[str, tuple[str, str]]:
    """Name to value and attributes of every cookie that is set."""
    found = {}
    for line in headers.getall("set-cookie", []):
        pair, _, attributes = line.partition(";")
        name, _, value = pair.partition("=")
        found[name] = value.strip('"'), attributes.strip()
    return found


@pytest.mark.parametrize("settings", [PATIENT])
async def test_a_session_wins_over_the_picker_and_ends_with_its_server(
    gateway, model_server
) -> None:
    a, b, c = [await model_server(name) for name in "abc"]
    names = {"a": a, "b": b, "c": c}
    session = "{sessionName: sid, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}"

    def manifests(*present: str) -> Any:
        servers = [
            server("p", names[name].port).replace("name: p,", f"name: {name},") for name in present
        ]
        rule = f"{{sessionPersistence: {session}, backendRefs: [{to_pool('p')}]}}"
        return translated(*servers, pool("p", annotations=FAIL_CLOSE), route(rule)).model

    await gateway.serve(manifests("a", "b"))
    answer = [f"127.0.0.1:{a.port}"]
    async with picker(gateway.run.pick_socket, lambda _pick: answer[0]) as picks:
        who, headers = await ask(gateway, PATH)
        assert who == "a"
        value, attributes = set_cookies(headers)["sid"]
        assert "HttpOnly" in attributes
        assert "Max-Age=3600" in attributes
        assert "Path=/" in attributes

        answer[0] = f"127.0.0.1:{b.port}"
        for _request in range(5):
            who, headers = await ask(gateway, PATH, cookies={"sid": value})
            assert who == "a", "the session, not the picker"
            assert "sid" not in set_cookies(headers)
        assert (await ask(gateway, PATH))[0] == "b", "no session"
        assert (await ask(gateway, PATH, cookies={"sid": "garbage"}))[0] == "b"
        assert len(picks) == 8, "every request is asked about"

        state = await gateway.offer(gateway.snapshot(manifests("b", "c")))
        assert not state.rejections
        await gateway.locate()
        who, headers = await ask(gateway, PATH, cookies={"sid": value})
        assert who == "b", "a is gone: picked like any other"
        assert set_cookies(headers)["sid"][0] != value


async def test_a_session_in_a_header(gateway, model_server) -> None:
    a, b = await model_server("a"), await model_server("b")
    servers = [
        server("p", one.port).replace("name: p,", f"name: {name},")
        for name, one in (("a", a), ("b", b))
    ]
    rule = f"""{{sessionPersistence: {{type: Header, sessionName: X-Session}},
      backendRefs: [{to_pool("p")}]}}"""
    await gateway.serve(translated(*servers, pool("p"), route(rule)).model)
    who, headers = await ask(gateway)
    value = headers["x-session"]
    for _request in range(10):
        assert (await ask(gateway, **{"x-session": value}))[0] == who


async def test_a_session_keeps_its_backend_until_that_has_no_weight(gateway, model_server) -> None:
    a, b = await model_server("a"), await model_server("b")

    def manifests(weight_a: int, weight_b: int) -> Any:
        backends = ", ".join(
            to_server(name, f", weight: {weight}")
            for name, weight in (("a", weight_a), ("b", weight_b))
        )
        rule = f"{{sessionPersistence: {{sessionName: sid}}, backendRefs: [{backends}]}}"
        return translated(server("a", a.port), server("b", b.port), route(rule)).model

    await gateway.serve(manifests(1, 1))
    clients = []
    for _client in range(30):
        who, headers = await ask(gateway)
        clients.append((who, {name: pair[0] for name, pair in set_cookies(headers).items()}))
    assert {who for who, _cookies in clients} == {"a", "b"}
    assert all(cookies.keys() == {"sid", "sid-backend"} for _who, cookies in clients)
    await gateway.offer(gateway.snapshot(manifests(1, 9)))
    await gateway.locate()
    for who, cookies in clients:
        assert (await ask(gateway, cookies=cookies))[0] == who
    await gateway.offer(gateway.snapshot(manifests(0, 1)))
    await gateway.locate()
    for _who, cookies in clients:
        who, headers = await ask(gateway, cookies=cookies)
        assert who == "b"


@pytest.mark.parametrize("carrier", ["header", "cookie"])
async def test_sticky_weights(gateway, model_server, carrier: str) -> None:
    """0 to 100 % in steps: nobody moves back, everybody moves in the end, shares are kept."""
    old, new = await model_server("old"), await model_server("new")
    users = [f"user-{number}" for number in range(200)]

    def manifests(share: int) -> Any:
        # Sums that differ: what counts is the share.
        backends = ", ".join(
            (
                to_server("old", f", weight: {(100 - share) * (share + 1)}"),
                to_server("new", f", weight: {share * (share + 1)}"),
            )
        )
        note = f"inferway.dev/sticky-weights: '{carrier}:x-user'"
        return translated(
            server("old", old.port),
            server("new", new.port),
            route(f"{{backendRefs: [{backends}]}}", annotations=note),
        ).model

    async def sides() -> list[str]:
        found = []
        for user in users:
            own = {"cookies": {"x-user": user}} if carrier == "cookie" else {"x-user": user}
            found.append((await ask(gateway, **own))[0])
        return found

    await gateway.serve(manifests(0))
    before = await sides()
    assert set(before) == {"old"}
    for share in (10, 50, 90, 100):
        await gateway.offer(gateway.snapshot(manifests(share)))
        await gateway.locate()
        after = await sides()
        assert after == await sides(), "the same user, the same side"
        assert ("new", "old") not in set(zip(before, after, strict=True)), "nobody moves back"
        assert fits_share(after.count("new"), share / 100, of=len(users))
        before = after
    assert set(before) == {"new"}


async def test_without_the_value_a_sticky_split_is_random(gateway, model_server) -> None:
    a, b = await model_server("a"), await model_server("b")
    await gateway.serve(
        translated(
            server("a", a.port),
            server("b", b.port),
            route(
                f"{{backendRefs: [{to_server('a')}, {to_server('b')}]}}",
                annotations="inferway.dev/sticky-weights: 'header:x-user'",
            ),
        ).model
    )
    answers = Counter([(await ask(gateway))[0] for _request in range(60)])
    assert set(answers) == {"a", "b"}
