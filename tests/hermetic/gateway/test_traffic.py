"""Manifests in force: shares, roll-out by weight under load, broken files, prefix affinity."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from inferway.cli.demo.workload import Ask, chats, document_questions, send_all
from tests.binomial import fits_share

from .running import command, pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.simulator.server import SimServer

pytestmark = pytest.mark.hermetic

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: chat}}
spec:
  parentRefs: [{{name: inferway}}]
  rules:
  - matches: [{{headers: [{{name: X-Gateway-Model-Name, value: llama}}]}}]
    backendRefs:
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: old, weight: {old}}}
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: new, weight: {new}}}
  - matches: [{{headers: [{{name: X-Gateway-Model-Name, value: ghost}}]}}]
    backendRefs:
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: empty}}
"""


def write_split(folder: Path, running: list[SimServer], *, old: int, new: int) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "pools.yaml").write_text(
        pool_manifest("old")
        + pool_manifest("new")
        + pool_manifest("empty")
        + server_manifest(running[0], "old")
        + server_manifest(running[1], "new")
    )
    (folder / "route.yaml").write_text(ROUTE.format(old=old, new=new))


def weights(items: list[dict[str, Any]]) -> list[int]:
    (route,) = [item for item in items if item["kind"] == "HTTPRoute"]
    return [one["weight"] for one in route["spec"]["rules"][0]["backendRefs"]]


async def test_split_and_live_weight_change(tmp_path: Path) -> None:
    """90/10; then to 0/100 and back and again while requests run, streamed and
    not, without one error.
    """
    folder = tmp_path / "manifests"
    async with servers(2, model="llama", engine="instant") as running:
        write_split(folder, running, old=90, new=10)
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            count = 1500
            seen = await send_all(gateway.url, chats(count, model="llama", seed=3), concurrency=16)
            assert {one.status for one in seen} == {200}
            share = Counter(one.server for one in seen)
            assert fits_share(share[running[1].name], 0.1, of=count), share

            changed = asyncio.Event()

            async def streamed() -> list[Any]:
                found: list[Any] = []
                while not changed.is_set():
                    asks = chats(50, model="llama", seed=len(found))
                    found += await send_all(gateway.url, asks, concurrency=8)
                return found

            async def whole() -> Counter[int]:
                found: Counter[int] = Counter()
                body = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}]}
                while not changed.is_set():
                    status, _headers, reply = await gateway.post(body)
                    found[status if reply["choices"] else 0] += 1
                return found

            async with asyncio.TaskGroup() as tasks:
                streams, answers = tasks.create_task(streamed()), tasks.create_task(whole())
                for old in (50, 100, 20, 0, 100, 0):
                    (folder / "route.yaml").write_text(ROUTE.format(old=old, new=100 - old))
                    wanted = [old, 100 - old]
                    await gateway.until_in_effect(lambda items, w=wanted: weights(items) == w)
                    if old in (0, 100):
                        only = running[old == 0].name
                        seen = await send_all(
                            gateway.url, chats(20, model="llama", seed=old), concurrency=4
                        )
                        assert Counter(one.server for one in seen) == {only: 20}
                changed.set()
            assert len(streams.result()) >= 50
            assert all(one.good for one in streams.result())
            assert answers.result().keys() == {200}

            status, headers, reply = await gateway.post(
                {"model": "ghost", "messages": [{"role": "user", "content": "Boo"}]}
            )
            assert (status, reply["error"]["code"]) == (503, "no_endpoint"), "a pool of nobody"
            assert headers["retry-after"]

            status, _headers, reply = await gateway.post(
                {"model": "nobody", "messages": [{"role": "user", "content": "Hi"}]}
            )
            assert (status, reply["error"]["code"]) == (404, "model_not_found"), "no rule matches"

            after = await send_all(gateway.url, chats(100, model="llama", seed=9), concurrency=8)
            assert Counter(one.server for one in after) == {running[1].name: 100}

            async with gateway.session.get(f"{gateway.admin}/metrics") as reply:
                metrics = await reply.text()
            line = next(
                one
                for one in metrics.splitlines()
                if one.startswith("inferway_config_apply_seconds_count")
            )
            assert float(line.split()[-1]) >= 5


async def test_broken_file_keeps_last_good_state(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    async with servers(2, model="llama", engine="instant") as running:
        write_split(folder, running, old=100, new=0)
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            (folder / "route.yaml").write_text(
                ROUTE.format(old=0, new=100).replace("weight: 100", "wieght: 100")
            )

            async def reported() -> bool:
                return bool((await gateway.status())["problems"])

            await gateway.until("the problem is reported", reported)
            (problem,) = (await gateway.status())["problems"]
            assert "route.yaml:11" in problem["text"]
            assert "wieght" in problem["text"]
            assert "weight" in problem["text"].split("hint")[1]
            seen = await send_all(gateway.url, chats(30, model="llama", seed=1), concurrency=4)
            assert Counter(one.server for one in seen) == {running[0].name: 30}

            (folder / "route.yaml").write_text(ROUTE.format(old=0, new=100))
            await gateway.until_in_effect(lambda items: weights(items) == [0, 100])
            seen = await send_all(gateway.url, chats(30, model="llama", seed=1), concurrency=4)
            assert Counter(one.server for one in seen) == {running[1].name: 30}

            await check_commands(gateway.admin)


async def check_commands(admin: str) -> None:
    """`inferway get` and `describe` against the running gateway."""
    code, out, _err = await command("get", "--admin", admin)
    assert code == 0
    rows = {tuple(line.split()[:4]) for line in out.splitlines()[1:]}
    assert ("HTTPRoute", "default", "chat", "Ready") in rows
    assert ("InferencePool", "default", "new", "Ready") in rows
    assert ("ModelServer", "default", "sim-0", "Ready") in rows

    code, out, _err = await command("get", "infpool", "old", "-o", "yaml", "--admin", admin)
    assert code == 0
    assert "failureMode" not in out  # nothing is shown that nobody wrote or defaulted
    assert "type: Accepted" in out

    code, out, _err = await command("describe", "infpool", "new", "--admin", admin)
    assert code == 0
    assert "reachable" in out
    assert "models: llama" in out

    code, _out, err = await command("get", "infpool", "absent", "--admin", admin)
    assert code == 1
    assert "absent" in err
    code, _out, err = await command("get", "nonsense", "--admin", admin)
    assert code == 1
    assert "nonsense" in err


async def test_prefix_affinity_reaches_the_perfect_hit_rate(tmp_path: Path) -> None:
    """Shared documents over four servers: at least 90 % of what a router that knows everything
    would hit, and a far lower mean TTFT than round robin.
    """
    folder = tmp_path / "manifests"
    folder.mkdir()
    documents, questions = 16, 8
    async with servers(4, model="llama", engine="llama-3-8b-h100", seed=5) as running:
        pool = pool_manifest("all", annotations="inferway.dev/policy: round-robin")
        (folder / "servers.yaml").write_text(
            "".join(server_manifest(one, "all") for one in running)
        )
        (folder / "pool.yaml").write_text(pool)
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:

            async def measure(seed: int) -> tuple[float, float]:
                asks = document_questions(
                    documents, questions, model="llama", document_bytes=24_000, seed=seed
                )
                seen = await send_all(gateway.url, asks, concurrency=6)
                assert {one.status for one in seen} == {200}
                cached = sum(one.cached_tokens for one in seen)
                ttft_s = sum(one.ttft_s for one in seen) / len(seen)
                return cached / sum(one.prompt_tokens for one in seen), ttft_s

            _hits, round_robin_s = await measure(seed=1)
            (folder / "pool.yaml").write_text(pool.replace("round-robin", "marginal-cost"))
            await gateway.until_in_effect(lambda items: policy(items) == "marginal-cost")
            hits, ours_s = await measure(seed=2)

    perfect = 1 - 1 / questions  # every document is computed once, all else is cached
    assert hits >= 0.9 * perfect, f"{hits:.3f} of {perfect:.3f}"
    assert ours_s < 0.7 * round_robin_s, f"{ours_s:.4f} against {round_robin_s:.4f}"


def policy(items: list[dict[str, Any]]) -> str:
    (pool,) = [item for item in items if item["kind"] == "InferencePool"]
    return str(pool["metadata"]["annotations"]["inferway.dev/policy"])


async def test_burst_of_equal_requests_spreads(tmp_path: Path) -> None:
    """32 requests at once that look the same to every server: each of four gets its share."""
    async with servers(4, model="llama", engine="llama-3-8b-h100") as running:
        urls = [part for one in running for part in ("--backend", f"http://{one.address}")]
        async with running_gateway(tmp_path, *urls, models=("llama",)) as gateway:

            async def all_known() -> bool:
                (pool,) = (await gateway.status())["pools"]
                return all(one["age_s"] is not None for one in pool["endpoints"])

            await gateway.until("every endpoint was scraped", all_known)
            asks = [Ask("llama", f"{number}: hello", 64) for number in range(32)]
            seen = await send_all(gateway.url, asks, concurrency=32)
    share = Counter(one.server for one in seen)
    assert sum(share.values()) == 32
    assert max(share.values()) - min(share.values()) <= 2, share
