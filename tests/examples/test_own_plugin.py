"""A scheduling rule of one's own: loaded from a file, replaced, refused, isolated, in a gateway."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from .running_example import EXAMPLES, Example, copy_of, serving

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hermetic.gateway.running import RunningGateway

IMPORTANT = {"x-gateway-inference-objective": "interactive"}
BODY = {"model": "llama", "prompt": "Hi", "max_tokens": 2}
COUNT = 12


async def test_the_examples_own_tests() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_tiers.py"),
        cwd=EXAMPLES / "own-plugin" / "plugins",
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    assert b"3 passed" in out


async def tiers(gateway: RunningGateway, **headers: str) -> Counter[str]:
    """Where requests go, one after another, by tier."""
    found: Counter[str] = Counter()
    for _ in range(COUNT):
        status, sent, reply = await gateway.post(BODY, path="/v1/completions", headers=headers)
        assert status == 200, reply
        found[sent["x-inference-pod"].partition("-")[0]] += 1
    return found


async def plugin(gateway: RunningGateway) -> dict[str, Any]:
    (pool,) = (await gateway.status())["pools"]
    (found,) = pool["plugins"]
    return dict(found)


async def has(gateway: RunningGateway, **values: object) -> bool:
    now = await plugin(gateway)
    return all(now[name] == value for name, value in values.items())


async def counts_faults(gateway: RunningGateway) -> bool:
    async with gateway.session.get(f"{gateway.admin}/metrics") as reply:
        page = await reply.text()
    counted = 'inferway_plugin_faults_total{cause="raised",plugin="tiers",pool="default/chat"} 1.0'
    return counted in page


def save(example: Example, text: str) -> None:
    path = example.folder / "plugins" / "tiers.py"
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.mark.hermetic
@pytest.mark.timeout(240)
async def test_a_rule_of_ones_own_through_its_life(tmp_path: Path) -> None:
    example = copy_of("own-plugin", tmp_path)
    text = (example.folder / "plugins" / "tiers.py").read_text()
    options = ("--plugin-dir", str(example.folder / "plugins"))
    async with serving(example, *options, models=("llama",)) as gateway:
        assert await tiers(gateway, **IMPORTANT) == {"fast": COUNT}
        assert await tiers(gateway) == {"cheap": COUNT}
        first = await plugin(gateway)
        assert (first["type"], first["error"], first["resting"]) == ("tiers.py:Tiers", "", False)

        save(
            example, text.replace('"fast" if', '"cheap" if').replace('else "cheap"', 'else "fast"')
        )

        async def is_replaced() -> bool:
            return (await plugin(gateway))["version"] != first["version"]

        await gateway.until("the new text is in force", is_replaced)
        assert await tiers(gateway, **IMPORTANT) == {"cheap": COUNT}
        assert await tiers(gateway) == {"fast": COUNT}
        second = await plugin(gateway)

        save(example, "def (")

        async def is_refused() -> bool:
            return "SyntaxError" in (await plugin(gateway))["error"]

        await gateway.until("the mistake is told", is_refused)
        assert (await plugin(gateway))["version"] == second["version"]
        assert await tiers(gateway, **IMPORTANT) == {"cheap": COUNT}
        assert "plugin_failed" in gateway.log()

        save(example, text.replace("return np.array(right, dtype=float)", "raise LookupError(1)"))
        await gateway.until("the mistake is mended", lambda: has(gateway, error=""))
        assert sum((await tiers(gateway)).values()) == COUNT
        await gateway.until("the fault is told", lambda: has(gateway, problem="LookupError: 1"))
        await gateway.until("the fault is counted", lambda: counts_faults(gateway))

        save(example, text)
        await gateway.until("all is well", lambda: has(gateway, version=first["version"]))
        assert await tiers(gateway, **IMPORTANT) == {"fast": COUNT}


@pytest.mark.hermetic
async def test_without_the_option_no_file_is_run(tmp_path: Path) -> None:
    example = copy_of("own-plugin", tmp_path)
    save(example, "raise SystemExit")
    async with serving(example, models=("llama",)) as gateway:
        assert sum((await tiers(gateway)).values()) == COUNT
        found = await plugin(gateway)
        assert (found["version"], found["calls"]) == ("", 0)
        assert "start with --plugin-dir DIR" in found["error"]
