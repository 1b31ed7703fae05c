"""A candidate pool gets copies of real traffic: picked by the real picker, invisible to clients."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from inferway.cli.demo.workload import chats, send_all

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.simulator.server import SimServer

pytestmark = pytest.mark.hermetic

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  rules:
  - filters:
    - type: RequestMirror
      requestMirror:
        backendRef: {group: inference.networking.k8s.io, kind: InferencePool, name: candidate}
    backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: live}]
"""


def prompts(server: SimServer) -> Counter[str]:
    return Counter(
        one.headers["x-request-id"]
        for one in server.requests.recent
        if one.path == "/v1/chat/completions"
    )


async def picks(gateway: Any, pool: str) -> float:
    async with gateway.session.get(f"{gateway.admin}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.startswith("inferway_picks_total{") and f'pool="{pool}"' in line
    )


async def test_copies_are_picked_and_spread_over_their_pool(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    count = 60
    async with servers(4, model="llama", engine="instant") as running:
        live, candidates = running[:2], running[2:]
        (folder / "all.yaml").write_text(
            pool_manifest("live", annotations="inferway.dev/policy: round-robin")
            + pool_manifest("candidate", annotations="inferway.dev/policy: round-robin")
            + "".join(server_manifest(one, "live") for one in live)
            + "".join(server_manifest(one, "candidate") for one in candidates)
            + ROUTE
        )
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            seen = await send_all(gateway.url, chats(count, model="llama", seed=1), concurrency=4)
            assert all(one.good for one in seen)
            assert {one.server for one in seen} == {one.name for one in live}

            async def copied() -> bool:
                return sum(prompts(one).total() for one in candidates) == count

            await gateway.until("every copy has arrived", copied)
            # The picker shared both pools out by itself: round robin, one at a time or nearly so.
            for group in (live, candidates):
                for one in group:
                    assert abs(prompts(one).total() - count / 2) <= 4, group
            originals = prompts(live[0]) + prompts(live[1])
            assert originals == prompts(candidates[0]) + prompts(candidates[1])

            async def counted() -> bool:
                pools = ("default/live", "default/candidate")
                return [await picks(gateway, pool) for pool in pools] == [count, count]

            await gateway.until("the picker has counted both pools' picks", counted)

            async with gateway.session.get(f"{gateway.admin}/metrics/envoy") as reply:
                lines = (await reply.text()).splitlines()
            told = [line for line in lines if "upstream_rq_total" in line and "mirror/" in line]
            assert sum(float(line.split()[-1]) for line in told) == count, told


ALIAS = """
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: llm}
spec:
  versions: [{modelName: llm-v2, criticality: Critical, weight: 1, poolRef: {name: live}}]
---
"""


async def test_a_copy_of_an_alias_asks_for_what_the_original_got(tmp_path: Path) -> None:
    """The body is copied after the alias was resolved for the original's pool."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    count = 20
    async with servers(2, model="base", adapters=("llm-v2",), engine="instant") as running:
        live, candidate = running
        (folder / "all.yaml").write_text(
            pool_manifest("live")
            + pool_manifest("candidate")
            + server_manifest(live, "live")
            + server_manifest(candidate, "candidate")
            + ALIAS
            + ROUTE
        )
        async with running_gateway(folder, str(folder), models=("llm", "llm-v2")) as gateway:
            seen = await send_all(gateway.url, chats(count, model="llm", seed=1), concurrency=2)
            assert all(one.good for one in seen)

            async def copied() -> bool:
                return candidate.requests.by_model.total() == count

            await gateway.until("every copy has arrived", copied)
            assert live.requests.by_model == candidate.requests.by_model == {"llm-v2": count}
            names = {
                one.headers["x-gateway-model-name"]
                for one in candidate.requests.recent
                if one.path == "/v1/chat/completions"
            }
            assert names == {"llm-v2"}
