"""Example 1: three models behind https://example.com, with a canary, in two teams' namespaces."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from inferway.picker.scheduling.registry import POLICIES
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate
from inferway.sources.directory import load

from .running_example import EXAMPLES, Example, assert_share, copy_of, serving

if TYPE_CHECKING:
    from pathlib import Path

COUNT = 800


@pytest.fixture
async def example(tmp_path: Path) -> Example:
    """With its certificate."""
    found = copy_of("several-models", tmp_path)
    process = await asyncio.create_subprocess_exec(str(found.folder / "make-certificate"))
    assert await process.wait() == 0
    return found


async def test_the_diagram(example: Example) -> None:
    """What the page's figure shows: names, shares, objectives and where everything stands."""
    resources = load([example.manifests]).resources
    settings = RoutingSettings(policies=tuple(POLICIES))
    translation = translate(resources, settings=settings)
    assert translation.warnings == ()
    model = translation.model
    pools = {"gemma": "chatbot", "gemma-new": "chatbot", "deepseek": "recommender"}
    assert set(model.pools) == {f"genai-inference/{name}" for name in pools}
    for pool in ("gemma", "gemma-new"):
        assert ("chatbot", 10) in model.pools[f"genai-inference/{pool}"].objectives
    (gateway,) = resources.gateways
    assert gateway.namespace == "infra"
    assert {route.namespace for route in resources.http_routes} == {"genai-inference"}
    selectors = {pool.name: dict(pool.spec.selector.match_labels) for pool in resources.pools}
    assert selectors["gemma"] == {"pool": "gemma"}
    assert selectors["gemma-new"] == {"pool": "gemma-new"}


async def test_the_private_key_is_its_owners_and_in_no_repository(example: Example) -> None:
    secret = example.manifests / "secret.yaml"
    assert secret.stat().st_mode & 0o077 == 0
    for name in ("manifests/secret.yaml", "example.com.crt"):
        ignored = await asyncio.create_subprocess_exec(
            *("git", "check-ignore", "-q", name), cwd=EXAMPLES / "several-models"
        )
        assert await ignored.wait() == 0, name


@pytest.mark.hermetic
@pytest.mark.timeout(240)
async def test_requests_land_where_the_page_says(example: Example) -> None:
    models = ("chatbot", "sentiment", "recommender")
    trusted = ssl.create_default_context(cafile=str(example.folder / "example.com.crt"))
    async with serving(example, models=models) as gateway, aiohttp.ClientSession() as session:

        async def ask(model: str, path: str, host: str = "example.com") -> tuple[int, str, Any]:
            """Status, server and body."""
            body = {"model": model, "prompt": "Hello", "max_tokens": 2}
            async with session.post(
                f"https://127.0.0.1:{gateway.port}{path}",
                json=body,
                headers={"host": host},
                ssl=trusted,
                server_hostname="example.com",
            ) as reply:
                server = reply.headers.get("x-inference-pod", "")
                return reply.status, server, await reply.json()

        async def share(path: str) -> Counter[str]:
            servers: Counter[str] = Counter()
            waiting = iter(range(COUNT))

            async def client() -> None:
                for _ in waiting:
                    status, server, reply = await ask("chatbot", path)
                    assert status == 200, reply
                    servers[server] += 1

            async with asyncio.TaskGroup() as clients:
                for _ in range(8):
                    clients.create_task(client())
            return servers

        for path in ("/completions", "/v1/completions"):
            counts = await share(path)
            assert set(counts) == {"gemma-0", "gemma-1", "gemma-new-0"}
            assert_share(counts, {"gemma-new-0"}, 0.1)
            for model, servers in (
                ("sentiment", {"gemma-0", "gemma-1"}),
                ("recommender", {"deepseek-0"}),
            ):
                for _ in range(10):
                    status, server, reply = await ask(model, path)
                    assert (status, reply["model"]) == (200, model)
                    assert server in servers
        status, _, reply = await ask("nobody", "/v1/completions")
        assert (status, reply["error"]["code"]) == (404, "model_not_found")
        status, server, _ = await ask("chatbot", "/completions", f"example.com:{gateway.port}")
        assert (status, bool(server)) == (200, True), "as a client writes the host"
        assert (await gateway.status())["problems"] == []
