"""LoRA routes, the metrics page and the process-level functions over real sockets."""

import asyncio
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from inferway.simulator.app import SimOptions, running_servers, serve
from inferway.simulator.faults import FaultRule
from inferway.simulator.server import ADAPTERS_MAX, SimServer

pytestmark = pytest.mark.hermetic
MODEL = "base-model"


async def post(http: aiohttp.ClientSession, path: str, body: dict[str, Any]) -> tuple[int, str]:
    async with http.post(path, json=body) as reply:
        return reply.status, await reply.text()


async def ask(http: aiohttp.ClientSession, model: str) -> int:
    status, _ = await post(
        http, "/v1/completions", {"model": model, "prompt": "hi", "max_tokens": 2}
    )
    return status


async def test_load_use_and_unload(http: aiohttp.ClientSession) -> None:
    assert await ask(http, "fresh") == 404
    adapter = {"lora_name": "fresh", "lora_path": "/adapters/fresh"}
    assert await post(http, "/v1/load_lora_adapter", adapter) == (
        200,
        "Success: LoRA adapter 'fresh' added successfully.",
    )
    assert await ask(http, "fresh") == 200
    assert (await post(http, "/v1/load_lora_adapter", adapter))[0] == 400
    assert await post(http, "/v1/unload_lora_adapter", {"lora_name": "fresh"}) == (
        200,
        "Success: LoRA adapter 'fresh' removed successfully.",
    )
    assert await ask(http, "fresh") == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("load", {"lora_name": "a"}, 400, "InvalidUserInput"),
        ("load", {"lora_path": "a"}, 400, "InvalidUserInput"),
        ("unload", {}, 400, "InvalidUserInput"),
        ("unload", {"lora_name": "nobody"}, 404, "NotFoundError"),
    ],
)
async def test_adapter_errors(
    http: aiohttp.ClientSession, path: str, body: dict[str, Any], status: int, kind: str
) -> None:
    async with http.post(f"/v1/{path}_lora_adapter", json=body) as reply:
        assert reply.status == status
        assert (await reply.json())["error"]["type"] == kind


async def test_metrics_follow_the_requests(http: aiohttp.ClientSession) -> None:
    assert await ask(http, "tuned") == 200
    async with http.get("/metrics") as reply:
        assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = list(text_string_to_metric_families(await reply.text()))
    values = {
        sample.name: sample.value
        for family in families
        for sample in family.samples
        if sample.labels.get("model_name") == MODEL
    }
    assert values["vllm:generation_tokens_total"] == 2
    assert values["vllm:time_to_first_token_seconds_count"] == 1
    lora = next(family for family in families if family.name == "vllm:lora_requests_info")
    assert lora.samples[0].labels["max_lora"] == "2"
    assert lora.samples[0].value > 1.7e9


async def test_scrapes_are_not_counted_as_requests(
    http: aiohttp.ClientSession, server: SimServer
) -> None:
    await http.get("/metrics")
    assert server.requests.total == 0
    assert not server.requests.recent
    async with http.get("/sim/requests") as reply:
        assert (await reply.json())["by_path"]["/metrics"] == 1


async def test_memory_is_bounded_whatever_clients_ask(
    http: aiohttp.ClientSession, server: SimServer
) -> None:
    for number in range(3):
        await http.get(f"/nowhere/{number}")
    assert server.requests.by_path == {"other": 3}
    server.models.adapters.update({f"a{number}": "/a" for number in range(ADAPTERS_MAX)})
    adapter = {"lora_name": "one-more", "lora_path": "/a"}
    assert (await post(http, "/v1/load_lora_adapter", adapter))[0] == 400


async def test_serve_announces_and_stops() -> None:
    stop = asyncio.Event()
    announced: list[str] = []

    def ready(addresses: list[str]) -> None:
        announced.extend(addresses)
        stop.set()

    options = SimOptions(model=MODEL, servers=3, engine="instant")
    await asyncio.wait_for(serve(options, ready=ready, stop=stop), 10)
    assert len(set(announced)) == 3
    assert all(address.startswith("127.0.0.1:") for address in announced)


async def test_stopping_does_not_wait_for_requests() -> None:
    faults = (FaultRule("hang"),)
    async with (
        asyncio.timeout(5),
        aiohttp.ClientSession() as session,
        asyncio.TaskGroup() as group,
    ):

        async def hang(address: str) -> None:
            with pytest.raises((aiohttp.ClientError, ConnectionError)):
                await session.get(f"http://{address}/v1/models")

        async with running_servers(SimOptions(model=MODEL, faults=faults)) as (server,):
            task = group.create_task(hang(server.address))
            while not server.requests.total:
                await asyncio.sleep(0.01)
        await task


async def test_taken_ports_are_an_error() -> None:
    async with running_servers(SimOptions(model=MODEL)) as (server,):
        with pytest.raises(OSError, match=r"[Aa]ddress already in use"):
            async with running_servers(SimOptions(model=MODEL, ports=(server.port,))):
                raise AssertionError("must not start")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"servers": 0}, "servers must be at least 1"),
        ({"servers": 2, "ports": (1,)}, "ports: 1 given for 2 servers"),
        ({"servers": 1, "names": ("a", "b")}, "names: 2 given for 1 servers"),
        ({"speed": 0.0}, "speed must be above 0"),
        ({"output_tokens_mean": 0.5}, "output_tokens_mean must be at least 1"),
    ],
)
def test_bad_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimOptions(**changes)
