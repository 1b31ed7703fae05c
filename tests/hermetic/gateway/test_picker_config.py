"""EndpointPickerConfigs in a running gateway: in force, replaced without a restart, kept when they
become bad; with the headers that their plugins look at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from .running import running_gateway, servers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hermetic

CHAT = {"model": "llama", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
POOL = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: chat, annotations: {{{annotations}}}}}
spec: {{selector: {{matchLabels: {{app: chat}}}}, targetPorts: [{{number: 8000}}]}}
"""
SERVER = """---
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: {tier}, labels: {{app: chat, tier: {tier}}}}}
spec: {{addresses: [{{host: {host}, port: {port}}}]}}
"""
# As the reference's files are: without metadata, without a profile.
ONLY = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- {{type: by-label, parameters: {{label: tier, validValues: [{tier}]}}}}
- {{type: queue-scorer}}
"""
BY_HEADER = """
apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- {type: header-label-affinity-scorer, parameters: {headerName: X-Tier, labelKey: tier}}
- {type: max-score-picker}
"""
# Who has ended fewer than five requests; who does not say is refused.
METRIC_FILTER = "endpoint-attribute-filter"
BY_METRIC = """
apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: core-metrics-extractor
  parameters:
    defaultEngine: mine
    engineConfigs:
    - name: mine
      queuedRequestsSpec: vllm:num_requests_waiting
      customMetrics:
      - {attributeKey: ended, metricSpec: "vllm:request_success_total{finished_reason=length}"}
- type: endpoint-attribute-filter
  parameters:
    attribute: ended
    algorithm: {threshold: {operator: "<", value: 5}}
    onMissing: Reject
"""


async def test_configurations_take_effect_one_after_another(tmp_path: Path) -> None:
    folder, default = tmp_path / "manifests", tmp_path / "default_picker.yaml"
    folder.mkdir()
    pool = folder / "pool.yaml"
    default.write_text(ONLY.format(tier="gold"))
    async with servers(3, model="llama", engine="instant") as running:
        tiers = dict(zip(("gold", "silver", "tin"), running, strict=True))
        (folder / "servers.yaml").write_text(
            "".join(
                SERVER.format(tier=tier, host=host, port=port)
                for tier, one in tiers.items()
                for host, port in [one.address.rsplit(":", 1)]
            )
        )
        pool.write_text(POOL.format(annotations=""))
        arguments = ("--picker-config", str(default), str(folder))
        async with running_gateway(folder, *arguments, models=("llama",)) as gateway:

            async def served(count: int, **headers: str) -> dict[str, int]:
                before = {tier: one.requests.by_model["llama"] for tier, one in tiers.items()}
                for _ in range(count):
                    status, _headers, reply = await gateway.post(CHAT, headers=headers)
                    assert status == 200, reply
                after = {tier: one.requests.by_model["llama"] for tier, one in tiers.items()}
                return {
                    tier: after[tier] - before[tier] for tier in tiers if after[tier] > before[tier]
                }

            async def until_config(name: str, *types: str) -> None:
                def is_there(items: list[dict[str, Any]]) -> bool:
                    return any(
                        [plugin["type"] for plugin in item["plugins"]] == list(types)
                        for item in items
                        if item["kind"] == "EndpointPickerConfig"
                        and item["metadata"]["name"] == name
                    )

                await gateway.until_in_effect(is_there)

            assert await served(6) == {"gold": 6}

            default.write_text(BY_METRIC)
            await until_config("default-picker", "core-metrics-extractor", METRIC_FILTER)

            async def gold_has_served_enough() -> bool:
                before = tiers["gold"].requests.by_model["llama"]
                status, _headers, _reply = await gateway.post(CHAT)
                return status == 200 and tiers["gold"].requests.by_model["llama"] == before

            await gateway.until("a custom metric decides", gold_has_served_enough)
            assert "gold" not in await served(3)

            default.write_text(BY_HEADER)
            await until_config("default-picker", "header-label-affinity-scorer", "max-score-picker")
            for tier in tiers:
                assert await served(4, **{"x-tier": tier}) == {tier: 4}
            spread = await served(30)
            assert len(spread) == 3, "without the header nobody is preferred"

            default.write_text(BY_HEADER.replace("max-score", "max-scroe"))

            async def complains() -> bool:
                return "max-scroe-picker" in str((await gateway.status())["problems"])

            await gateway.until("the bad file is told", complains)
            assert await served(4, **{"x-tier": "tin"}) == {"tin": 4}

            (folder / "own.yaml").write_text(
                ONLY.format(tier="silver").replace("plugins:", "metadata: {name: own}\nplugins:")
            )
            pool.write_text(POOL.format(annotations="inferway.dev/picker-config: own"))
            await until_config("own", "by-label", "queue-scorer")

            async def only_silver() -> bool:
                return await served(3, **{"x-tier": "tin"}) == {"silver": 3}

            await gateway.until("the pool has its own configuration", only_silver)

            pool.write_text(POOL.format(annotations="inferway.dev/policy: consistent-hash"))
            default.write_text("apiVersion: inferway.dev/v1alpha1\nkind: EndpointPickerConfig\n")
            await until_config("default-picker")

            async def sessions_stay() -> bool:
                places = [await served(3, **{"x-session-id": f"s{n}"}) for n in range(8)]
                return all(len(one) == 1 for one in places) and len({*map(str, places)}) > 1

            await gateway.until("a session has one server, and not all the same", sessions_stay)
