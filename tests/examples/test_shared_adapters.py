"""Example 2: adapters for two languages on one base model and the same servers."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from inferway.cli.demo.workload import chats, send_all

from .running_example import running_example

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hermetic

BOTS = ("english-bot", "spanish-bot")


async def test_both_bots_are_served_by_all_servers(tmp_path: Path) -> None:
    async with running_example("shared-adapters", tmp_path, models=BOTS) as (_, gateway):
        async with asyncio.TaskGroup() as tasks:
            under_way = [
                tasks.create_task(
                    send_all(gateway.url, chats(150, model=bot, seed=seed), concurrency=8)
                )
                for seed, bot in enumerate(BOTS)
            ]
        for task in under_way:
            servers = Counter(one.server for one in task.result() if one.good)
            assert sum(servers.values()) == 150
        everything = Counter(one.server for task in under_way for one in task.result())
        assert set(everything) == {"gemma3-0", "gemma3-1"}
        for bot in BOTS:
            status, _, reply = await gateway.post(
                {"model": bot, "prompt": "Hi", "max_tokens": 2}, path="/v1/completions"
            )
            assert (status, reply["model"]) == (200, bot)
        # The route serves the bots only, not the base model that is under them.
        status, _, reply = await gateway.post(
            {"model": "llm-base", "prompt": "Hi"}, path="/v1/completions"
        )
        assert (status, reply["error"]["code"]) == (404, "model_not_found")
