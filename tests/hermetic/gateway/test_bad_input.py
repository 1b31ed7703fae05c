"""A running gateway whose manifests go wrong in every way that the schemas know: requests go on,
the last good state stays, other files count, and the status says what is wrong.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from inferway.cli.demo.workload import chats, send_all
from inferway.resources.kinds import KINDS
from tests.property.test_resources_bad_values import mistakes

from .running import pool_manifest, running_gateway, server_manifest, servers

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

pytestmark = pytest.mark.hermetic

ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: chat}}
spec:
  parentRefs: [{{name: inferway}}]
  rules:
  - backendRefs:
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: old, weight: {old}}}
    - {{group: inference.networking.k8s.io, kind: InferencePool, name: new, weight: {new}}}
"""


def weights(items: list[dict[str, Any]]) -> list[int]:
    (route,) = [item for item in items if item["kind"] == "HTTPRoute"]
    return [one["weight"] for one in route["spec"]["rules"][0]["backendRefs"]]


@pytest.mark.timeout(240)
async def test_nothing_else_stops_working(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    async with servers(2, model="llama", engine="instant") as (old, new):
        pools = folder / "pools.yaml"
        good = "".join(pool_manifest(name) for name in ("old", "new"))
        pools.write_text(good)
        (folder / "servers.yaml").write_text(
            server_manifest(old, "old") + server_manifest(new, "new")
        )
        (folder / "route.yaml").write_text(ROUTE.format(old=100, new=0))
        async with running_gateway(folder, str(folder), models=("llama",)) as gateway:
            over = asyncio.Event()
            seen: list[Any] = []

            async def load() -> None:
                while not over.is_set():
                    asks = chats(20, model="llama", seed=len(seen))
                    seen.extend(await send_all(gateway.url, asks, concurrency=4))

            async def says(*parts: str) -> bool:
                problems = (await gateway.status())["problems"]
                texts = [one["text"] for one in problems if one["severity"] == "error"]
                return all(any(part in text for text in texts) for part in parts)

            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(load())
                for info in KINDS:
                    bad = [mistake.text for mistake in mistakes(info.kind)]
                    (folder / f"bad-{info.plural}.yaml").write_text("---\n".join(bad))
                names = [f"bad-{info.plural}.yaml:" for info in KINDS]
                await gateway.until("every bad file is reported", lambda: says(*names))
                pools.write_text(good.replace("number: 8000", "number: 80000"))
                place = (
                    "pools.yaml:9:26: error: spec.targetPorts[0].number: must be from 1 to 65535"
                )
                await gateway.until("the pools' mistake is reported", lambda: says(place))
                # Among all of that, a change of another file.
                (folder / "route.yaml").write_text(ROUTE.format(old=0, new=100))
                await gateway.until_in_effect(lambda items: weights(items) == [0, 100])
                over.set()
            assert len(seen) >= 60
            assert Counter(one.good for one in seen) == {True: len(seen)}
            after = await send_all(gateway.url, chats(20, model="llama", seed=7), concurrency=4)
            assert Counter(one.server for one in after) == {new.name: 20}
