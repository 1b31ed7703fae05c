"""A client's `x-request-id` leads to the decision, and `top` shows the pool: whole gateway,
official client, the commands.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import openai
import pytest
import pytest_asyncio

from .running import command, running_gateway, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inferway.simulator.server import SimServer

    from .running import RunningGateway

pytestmark = [pytest.mark.hermetic, pytest.mark.asyncio(loop_scope="module")]

PROMPT = [{"role": "user", "content": "Once upon a time there was a gateway. " * 40}]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def backends() -> AsyncIterator[list[SimServer]]:
    async with servers(3, model="llama", engine="instant") as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(
    backends: list[SimServer], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[RunningGateway]:
    urls = [part for one in backends for part in ("--backend", f"http://{one.address}")]
    folder = tmp_path_factory.mktemp("gateway")
    told = folder / "picker.yaml"
    told.write_text(
        "apiVersion: inferway.dev/v1alpha1\nkind: EndpointPickerConfig\n"
        "conduct: {responseHeaders: true}\n"
    )
    urls += ["--picker-config", str(told)]
    async with running_gateway(folder, *urls, models=("llama",)) as running:
        yield running


async def asked(gateway: RunningGateway, **options: Any) -> str:
    """The request id of one answered chat completion."""
    reply = await gateway.openai.chat.completions.with_raw_response.create(
        model="llama", messages=PROMPT, max_tokens=6, **options
    )
    return str(reply.headers["x-request-id"])


async def explained(gateway: RunningGateway, request_id: str) -> dict[str, Any]:
    """What the admin API tells of the request once its answer has ended."""
    url = f"{gateway.admin}/admin/explain/{request_id}"
    found: list[dict[str, Any]] = []

    async def ended() -> bool:
        async with gateway.session.get(url) as reply:
            assert reply.status == 200, await reply.text()
            found[:] = (await reply.json())["items"]
        return len(found) == 1 and found[0]["ended"] is not None

    await gateway.until(f"the end of {request_id} is told", ended)
    return found[0]


async def test_the_id_of_a_response_leads_to_its_decision(
    gateway: RunningGateway, backends: list[SimServer]
) -> None:
    first = await explained(gateway, await asked(gateway))
    second = await explained(gateway, await asked(gateway))
    addresses = {one.address for one in backends}
    for one in (first, second):
        assert (one["pool"], one["outcome"], one["model"]) == (
            "default/backends",
            "picked",
            "llama",
        )
        assert {candidate["address"] for candidate in one["candidates"]} == addresses
        assert one["ended"]["endpoint"] == one["winner"]
        assert (one["ended"]["status"], one["ended"]["how"]) == (200, "complete")
        assert one["ended"]["completion_tokens"] == 6
        ages = [candidate["metrics_age_s"] for candidate in one["candidates"]]
        assert all(age is not None and age < 30 for age in ages)
    # The prompt went there before.
    assert second["winner"] == first["winner"]
    assert second["reason"].startswith("prefix 9")
    cached = {one["address"]: one["matched_tokens"] for one in second["candidates"]}
    assert cached.pop(second["winner"]) > 300
    assert set(cached.values()) == {0}


async def test_a_response_says_why_where_the_pool_lets_it(gateway: RunningGateway) -> None:
    body = {"model": "llama", "messages": PROMPT, "max_tokens": 2}
    status, headers, _reply = await gateway.post(body)
    assert status == 200
    told = await explained(gateway, headers["x-request-id"])
    assert headers["x-inferway-reason"] == told["reason"]
    assert headers["x-inferway-endpoint"] == told["winner"]


async def test_the_command_tells_it_to_people(gateway: RunningGateway) -> None:
    request_id = await asked(gateway)
    told = await explained(gateway, request_id)
    code, out, err = await command("explain", request_id, "--admin", gateway.admin)
    assert (code, err) == (0, "")
    assert f"request {request_id}, " in out
    assert f"sent to {told['winner']}: {told['reason']}" in out
    for candidate in told["candidates"]:
        assert candidate["address"] in out
    code, out, _err = await command("explain", "--last", "--json", "--admin", gateway.admin)
    assert code == 0
    assert json.loads(out)["items"][0]["request_id"] == request_id
    code, out, err = await command("explain", "never-seen", "--admin", gateway.admin)
    assert (code, out) == (1, "")
    assert "no decision about request never-seen is remembered: " in err
    assert "reach back" in err


async def test_refused_requests_are_remembered_as_well(gateway: RunningGateway) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await gateway.openai.chat.completions.create(model="nobody", messages=PROMPT)
    request_id = refused.value.response.headers["x-request-id"]
    url = f"{gateway.admin}/admin/explain?outcome=model_not_found"
    async with gateway.session.get(url) as reply:
        items = (await reply.json())["items"]
    assert [one["request_id"] for one in items] == [request_id]
    assert (items[0]["model"], items[0]["winner"]) == ("nobody", "")


async def test_top_shows_pool_and_endpoints(
    gateway: RunningGateway, backends: list[SimServer]
) -> None:
    await asked(gateway)
    code, out, err = await command("top", "--once", "--admin", gateway.admin)
    assert (code, err) == (0, "")
    titles, pool, _, name, _, *endpoints = out.splitlines()
    assert titles.split()[:2] == ["POOL", "READY"]
    assert pool.split()[:2] == ["default/backends", "3/3"]
    assert name.strip() == "default/backends"
    assert {line.split()[0] for line in endpoints} == {one.address for one in backends}
    assert {line.split()[1] for line in endpoints} == {"ready"}
