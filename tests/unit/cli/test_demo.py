"""The demo's manifests, clients and numbers."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from rich.console import Console

from inferway.cli.demo import manifests
from inferway.cli.demo.report import Affinity, affinity, policy_table, traffic_table
from inferway.cli.demo.workload import Ask, Seen, chats, document_questions, send_all
from inferway.cli.demo_command import DemoError, until
from inferway.cli.sim import options_of
from inferway.picker.scheduling.registry import POLICIES
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate
from inferway.sources.directory import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rich.table import Table

SETTINGS = RoutingSettings(policies=tuple(POLICIES))


def ports_in(folder: Path) -> list[int]:
    """Every port of the manifests, in order."""
    found = []
    for name in manifests.NAMES:
        found += [int(port) for port in re.findall(r"\bport: (\d+)", (folder / name).read_text())]
    return found


def test_manifests_are_good(tmp_path: Path) -> None:
    port = manifests.write(tmp_path, keep_ports=False)
    snapshot = load([tmp_path])
    assert snapshot.problems == ()
    translation = translate(snapshot.resources, settings=SETTINGS)
    (listener,) = translation.model.listeners
    assert listener.port == port
    pools = translation.model.pools
    assert {name: len(pool.endpoints) for name, pool in pools.items()} == {
        "default/chat": 4,
        "default/chat-new": 2,
    }
    split, adapter = listener.hosts[0].routes
    assert [target.weight for target in split.targets] == [90, 10]
    assert [target.name for target in adapter.targets] == ["default/chat"]


def test_every_server_can_be_simulated(tmp_path: Path) -> None:
    manifests.write(tmp_path, keep_ports=False)
    options = options_of([tmp_path], speed=2.0, seed=7)
    assert [one.names for one in options][:2] == [("chat-0",), ("chat-1",)]
    assert {one.engine for one in options} == {"llama-3-8b-h100", "llama-3-8b-a100"}
    assert [one.adapters for one in options] == [("support-bot",)] * 4 + [()] * 2
    assert len({one.seed for one in options}) == 6
    for one in options:
        one.parameters()


def test_ports_are_kept_when_they_are_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: set[int] = set()
    monkeypatch.setattr(
        manifests, "port_problem", lambda _address, port: "taken" if port in taken else None
    )
    assert manifests.write(tmp_path, keep_ports=True) == 8080
    shipped = ports_in(tmp_path)
    assert len(set(shipped)) == len(shipped) == 7

    taken.add(shipped[3])
    manifests.write(tmp_path, keep_ports=True)
    assert not set(ports_in(tmp_path)) & set(shipped), "one is taken: all are replaced"


def test_replaced_ports_differ_from_each_other(tmp_path: Path) -> None:
    manifests.write(tmp_path, keep_ports=False)
    assert len(set(ports_in(tmp_path))) == 7
    assert "number: 8000" in (tmp_path / "pools.yaml").read_text(), "no port of ours"


def test_policy_is_edited_in_place(tmp_path: Path) -> None:
    manifests.write(tmp_path, keep_ports=False)
    before = (tmp_path / "pools.yaml").read_text()
    manifests.set_policy(tmp_path, "round-robin")
    model = translate(load([tmp_path]).resources, settings=SETTINGS).model
    assert model.pools["default/chat"].policy == "round-robin"
    assert model.pools["default/chat-new"].policy == "marginal-cost"
    manifests.set_policy(tmp_path, "marginal-cost")
    assert (tmp_path / "pools.yaml").read_text() == before


def test_loads_are_the_same_every_time() -> None:
    assert chats(5, model="m", seed=1) == chats(5, model="m", seed=1)
    assert chats(5, model="m", seed=1) != chats(5, model="m", seed=2)
    asks = document_questions(3, 4, model="bot", document_bytes=2000, seed=0)
    documents = Counter(ask.prompt.rsplit("\nQuestion ", 1)[0] for ask in asks)
    assert sorted(documents.values()) == [4, 4, 4]
    assert all(1500 <= len(text) <= 2500 for text in documents)
    first_bytes = {text[:80] for text in documents}
    assert len(first_bytes) == 3, "documents differ from their first sentence on"


def seen(
    server: str = "a",
    *,
    status: int = 200,
    complete: bool = True,
    ttft_s: float = 0.1,
    prompt: int = 100,
    cached: int = 0,
) -> Seen:
    return Seen(server, status, complete, ttft_s, prompt, cached)


def test_affinity_counts_what_succeeded() -> None:
    found = affinity(
        "p",
        [
            seen(ttft_s=0.1, cached=0),
            seen(ttft_s=0.2, cached=50),
            seen(ttft_s=0.6, cached=100),
            seen(status=503, ttft_s=9.0),
            seen(complete=False, ttft_s=9.0),
        ],
    )
    assert found == Affinity("p", 0.5, pytest.approx(0.3), 0.2, errors=2)


def test_affinity_when_nothing_succeeded() -> None:
    assert affinity("p", [seen("", status=0)]) == Affinity("p", None, None, None, errors=1)


def text_of(table: Table) -> list[list[str]]:
    """The rows of a table as a person sees them, split at its lines."""
    out = io.StringIO()
    Console(file=out, width=150).print(table)
    rows = [line.strip("┃│ \n").split("│") for line in out.getvalue().splitlines() if "│" in line]
    return [[cell.strip() for cell in row] for row in rows]


def test_traffic_table() -> None:
    table = traffic_table(
        "title", [seen("b", cached=50)] * 3 + [seen("a")] + [seen("", status=503, prompt=0)]
    )
    assert text_of(table) == [
        ["HTTP 503", "1", "20%", "█" * 7 + "·" * 13, "unknown"],
        ["a", "1", "20%", "█" * 7 + "·" * 13, "0%"],
        ["b", "3", "60%", "█" * 20, "50%"],
    ]


def test_policy_table() -> None:
    rows = text_of(
        policy_table(
            [
                Affinity("round-robin", 0.25, 0.4, 0.3, 0),
                Affinity("marginal-cost", 0.875, 0.1, 0.05, 0),
                Affinity("broken", None, None, None, 9),
            ]
        )
    )
    assert rows == [
        ["round-robin", "25%", "400 ms", "300 ms", "█" * 20],
        ["marginal-cost", "88%", "100 ms", "50 ms", "█" * 5 + "·" * 15],
        ["broken", "unknown", "unknown", "unknown", "·" * 20],
    ]


async def test_clients_see_ends_and_errors() -> None:
    usage = b'{"usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}}'

    async def answer(request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = await request.json()
        if body["model"] == "refused":
            return web.json_response({"error": {}}, status=429)
        reply = web.StreamResponse(headers={"x-inference-pod": "sim-0"})
        await reply.prepare(request)
        await reply.write(b'data: {"choices": []}\n\ndata: ' + usage + b"\n\n")
        if body["model"] == "good":
            await reply.write(b"data: [DONE]\n\n")
        if body["model"] == "reset" and request.transport is not None:
            request.transport.abort()
        return reply

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    async with TestServer(app) as server:
        told: list[Seen] = []
        found = {}
        for model in ("good", "cut", "reset", "refused"):
            (found[model],) = await send_all(
                str(server.make_url("")), [Ask(model, "Hi", 1)], concurrency=2, on_done=told.append
            )
        url = str(server.make_url(""))
    (gone,) = await send_all(url, [Ask("good", "Hi", 1)], concurrency=1)
    assert [one.good for one in found.values()] == [True, False, False, False]
    assert found["refused"].status == 429
    assert (found["good"].server, found["good"].prompt_tokens) == ("sim-0", 9)
    assert found["good"].cached_tokens == 4
    assert told == list(found.values())
    assert (gone.status, gone.server, gone.good) == (0, "", False)


class Process:
    def __init__(self, returncode: int | None = None) -> None:
        self.returncode = returncode


def test_waiting_ends_with_the_gateway_and_with_time(virtually: Callable[..., Any]) -> None:
    answers = iter([False, False, True])

    async def holds() -> bool:
        return next(answers)

    async def never() -> bool:
        return False

    async def scenario() -> None:
        await until("ready", Process(), holds)  # type: ignore[arg-type]
        with pytest.raises(DemoError, match="ended with exit code 1"):
            await until("ready", Process(1), never)  # type: ignore[arg-type]
        with pytest.raises(DemoError, match="not within 60 s: ready"):
            await until("ready", Process(), never)  # type: ignore[arg-type]
        assert asyncio.get_running_loop().time() == pytest.approx(60.1, abs=0.1)

    virtually(scenario())
