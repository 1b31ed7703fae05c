"""The commands of the examples' READMEs, run in order beside the gateway that they start."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inferway.sources.directory import load

from .running_example import EXAMPLES, copy_of, serving

if TYPE_CHECKING:
    from tests.hermetic.gateway.running import RunningGateway

pytestmark = pytest.mark.hermetic

BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MODELS = {
    "several-models": ("chatbot", "sentiment", "recommender"),
    "shared-adapters": ("english-bot", "spanish-bot"),
    "picker-config": ("llama",),
    "rollout-node": ("llm",),
    "rollout-base-model": ("english-bot", "spanish-bot"),
    "rollout-adapter": ("llm-v1", "llm-v2"),
}


def commands(name: str) -> list[str]:
    text = (EXAMPLES / name / "README.md").read_text()
    lines = "".join(BLOCK.findall(text)).splitlines()
    assert all(line.startswith("$ ") for line in lines), "only commands stand in such blocks"
    return [line.removeprefix("$ ") for line in lines]


async def run(command: str, folder: Path) -> str:
    """What it prints; it must succeed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", command),
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert process.returncode == 0, f"{command}\n{out.decode()}\n{err.decode()}"
    return out.decode()


async def is_read(gateway: RunningGateway, manifests: Path) -> bool:
    """Whether what the files say is in force."""
    resources = (await asyncio.to_thread(load, [manifests])).resources
    written = [one.manifest() for one in resources]
    async with gateway.session.get(f"{gateway.admin}/admin/resources") as reply:
        shown = (await reply.json())["items"]
    same = [one["spec"] for one in shown] == [one["spec"] for one in written]
    return same and bool((await gateway.status())["in_effect"])


def test_every_example_has_a_readme_and_stands_in_the_list() -> None:
    names = {path.parent.name for path in EXAMPLES.glob("*/README.md")}
    assert names == {path.name for path in EXAMPLES.iterdir() if path.is_dir()}
    overview = (EXAMPLES / "README.md").read_text()
    assert all(f"[{name}]({name}/README.md)" in overview for name in names)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.timeout(240)
async def test_commands(name: str, tmp_path: Path) -> None:
    all_of_them = commands(name)
    start = all_of_them.index(f"inferway run --simulate examples/{name}/manifests")
    before, rest = all_of_them[:start], all_of_them[start + 1 :]
    example = copy_of(name, tmp_path / "examples")
    kinds: Counter[str] = Counter()
    for command in before:
        await run(example.moved(command), tmp_path)
    async with serving(example, models=MODELS[name]) as gateway:
        for command in rest:
            said = await run(example.moved(command), tmp_path)
            kinds[command.split()[0]] += 1
            if command.startswith("sed"):
                await gateway.until("the edit is read", lambda: is_read(gateway, example.manifests))
                assert (await gateway.status())["problems"] == []
            elif command.startswith("curl"):
                assert "error" not in json.loads(said)
            elif command.startswith("for"):
                rows = [line.split(maxsplit=1) for line in said.splitlines()]
                assert sum(int(count) for count, _ in rows) == 20
                assert all(value.strip() for _, value in rows)
            else:
                assert said == "", "the servers have what they need"
    assert kinds, "a README without commands shows nothing"
