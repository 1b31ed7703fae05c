"""An example as its README starts it, on ports of this test's own: `inferway run --simulate`."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from inferway.cli.demo.manifests import free_ports
from tests.binomial import fits_share
from tests.hermetic.gateway.running import RunningGateway, running_gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from typing import Any

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
PORT = re.compile(r"\bport: (\d+)")
SPEED = "50"  # of the simulated servers, times real time


@dataclass
class Example:
    """A copy of an example's folder. `ports` are those in use for those that are written."""

    folder: Path
    ports: dict[str, str] = field(default_factory=dict)

    @property
    def manifests(self) -> Path:
        return self.folder / "manifests"

    def moved(self, text: str) -> str:
        """Manifests or commands with this copy's ports."""
        return re.sub(r"\d+", lambda found: self.ports.get(found[0], found[0]), text)

    def edit(self, file: str, *changes: tuple[str, str]) -> None:
        """Replaces text in a manifest, at once, as an editor does."""
        path = self.manifests / file
        text = path.read_text()
        for old, new in changes:
            assert old in text, f"{file} has no {old}"
            text = text.replace(old, new)
        fresh = path.with_suffix(".new")
        fresh.write_text(text)
        fresh.replace(path)


def copy_of(name: str, folder: Path) -> Example:
    """The example with every port of its manifests replaced by a free one; the Gateway's first."""
    example = Example(folder / name)
    shutil.copytree(EXAMPLES / name, example.folder)
    files = sorted(example.manifests.glob("*.yaml"))
    served = "".join(
        (example.manifests / one).read_text() for one in ("gateway.yaml", "servers.yaml")
    )
    written = list(dict.fromkeys(PORT.findall(served)))
    example.ports = dict(zip(written, map(str, free_ports(len(written))), strict=True))
    for file in files:
        file.write_text(example.moved(file.read_text()))
    return example


@asynccontextmanager
async def running_example(
    name: str, folder: Path, *, models: tuple[str, ...]
) -> AsyncIterator[tuple[Example, RunningGateway]]:
    """Served by a real gateway over simulated servers, once it lists `models`."""
    example = copy_of(name, folder)
    async with serving(example, models=models) as gateway:
        yield example, gateway


@asynccontextmanager
async def serving(
    example: Example, *options: str, models: tuple[str, ...]
) -> AsyncIterator[RunningGateway]:
    arguments = ("--simulate", "--speed", SPEED, *options, str(example.manifests))
    async with running_gateway(example.folder, *arguments) as gateway:
        gateway.port = int(next(iter(example.ports.values())))  # of the Gateway, not of --port
        await gateway.until(f"{models} are known", lambda: _known(gateway, models))
        yield gateway


async def _known(gateway: RunningGateway, models: tuple[str, ...]) -> bool:
    """Whether every endpoint is ready and has told what it serves, and these are among it."""
    endpoints = [one for pool in (await gateway.status())["pools"] for one in pool["endpoints"]]
    told = [set(endpoint["models"]) for endpoint in endpoints if endpoint["ready"]]
    return len(told) == len(endpoints) and all(told) and set(models) <= set().union(*told)


async def answered_by(gateway: RunningGateway, bodies: Sequence[dict[str, Any]]) -> Counter[str]:
    """The models that the answers name; every request was answered."""
    found: Counter[str] = Counter()
    waiting = iter(bodies)

    async def client() -> None:
        for body in waiting:
            status, _headers, reply = await gateway.post(body, path="/v1/completions")
            assert status == 200, reply
            found[reply["model"]] += 1

    async with asyncio.TaskGroup() as clients:
        for _ in range(8):
            clients.create_task(client())
    return found


def assert_share(counts: Counter[str], names: set[str], share: float) -> None:
    """Together these have that share of everything."""
    total = sum(counts.values())
    found = sum(counts[name] for name in names)
    assert fits_share(found, share, of=total), f"{found} of {total}, not {share:.0%}: {counts}"
