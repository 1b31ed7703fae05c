"""One life of an Envoy process: it comes up or says why not, drains, and never outlives us."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from inferway.envoy.conversation import ProgrammingPhase
from inferway.envoy.messages import ResourceType, resource
from inferway.envoy.process import EnvoyFailedError, EnvoyProcess, EnvoyProgram, validate
from inferway.envoy.snapshot import ResourceSet, Snapshot
from inferway.routing.model import Route, RouteMatch
from tests.certificates import issue

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.hermetic
GOLDEN = Path(__file__).parents[2] / "golden/xds"
CASES = sorted(path.stem for path in GOLDEN.glob("*.json") if path.stem != "bootstrap")


def to_one_server(build, port: int):
    return build.model(
        Route("r", RouteMatch(), (build.to_servers("d/a"),)),
        backends=(build.group("d/a", port),),
    )


async def test_drain_lets_a_stream_finish(gateway, build, model_server) -> None:
    server = await model_server("a")
    await gateway.serve(to_one_server(build, server.port))
    async with gateway.client.get(gateway.url + "/slow") as running:
        assert await running.content.readline() == b"data: begin\n"
        async with asyncio.TaskGroup() as tasks:
            draining = tasks.create_task(gateway.envoy.drain(timeout_s=10))
            port = int(gateway.url.rpartition(":")[2])
            async with asyncio.timeout(5):
                while accepts(port):
                    await asyncio.sleep(0.02)
            assert not draining.done()
            server.release.set()
            assert b"data: end" in await running.content.read()
        assert draining.result() is True
    assert await gateway.envoy.stop() == 0
    assert gateway.envoy.pid is None


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_drain_is_bounded(gateway, build, model_server) -> None:
    server = await model_server("a")
    await gateway.serve(to_one_server(build, server.port))
    async with gateway.client.get(gateway.url + "/slow") as running:
        await running.content.readline()
        assert await gateway.envoy.drain(timeout_s=0.3) is False
        server.release.set()
        await running.read()


@dataclass(frozen=True)
class DamagedProgram(EnvoyProgram):
    """A program whose start-up file is damaged after it was written."""

    def write_files(self) -> None:
        super().write_files()
        self.run.bootstrap_file.write_text('{"nonsense": 1}')


async def test_envoy_that_cannot_start_says_why(gateway) -> None:
    good = gateway.program
    process = EnvoyProcess(DamagedProgram(good.envoy, good.filter_library, good.run, good.settings))
    await process.start()
    with pytest.raises(EnvoyFailedError, match=r"Envoy ended with code 1: .*nonsense"):
        await process.ready(timeout_s=10)
    assert process.pid is None
    assert await process.stop() == 1


async def test_killed_envoy_is_replaced(gateway, build, model_server) -> None:
    server = await model_server("a")
    await gateway.serve(to_one_server(build, server.port))
    assert gateway.envoy.pid is not None
    os.kill(gateway.envoy.pid, signal.SIGKILL)
    assert await gateway.envoy.wait() == -signal.SIGKILL
    assert await gateway.envoy.drain(timeout_s=1) is True  # nothing is left that could run
    gateway.envoy = gateway.new_process()
    await gateway.envoy.start()
    await gateway.envoy.ready(timeout_s=20)
    await gateway.locate()
    assert (await gateway.get("/"))[0] == 200


async def test_envoy_without_control_is_not_ready(gateway) -> None:
    gateway.run.prepare()
    await gateway.envoy.start()
    with pytest.raises(EnvoyFailedError, match=r"not ready after 0\.5 s"):
        await gateway.envoy.ready(timeout_s=0.5)


async def test_validate(gateway) -> None:
    good = gateway.program
    assert await validate(good) is None
    damaged = DamagedProgram(good.envoy, good.filter_library, good.run, good.settings)
    assert "nonsense" in (await validate(damaged) or "")


PARENT = """
import asyncio, sys
from pathlib import Path
from inferway.envoy.binary import find_envoy, find_filter
from inferway.envoy.bootstrap import RunDirectory
from inferway.envoy.process import EnvoyProcess, EnvoyProgram
from inferway.envoy.settings import EnvoySettings

async def main():
    run = RunDirectory(Path(sys.argv[1]))
    process = EnvoyProcess(EnvoyProgram(find_envoy(), find_filter(), run, EnvoySettings()))
    await process.start()
    print(process.pid, flush=True)
    await process.wait()

asyncio.run(main())
"""


def test_envoy_dies_with_its_parent(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path / "orphan")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        envoy = int(parent.stdout.readline())
        wait_until(lambda: program_of(envoy) == "envoy")
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: program_of(envoy) is None)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def program_of(pid: int) -> str | None:
    """Name of a running process; None once it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return None
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    return None if fields["State"].startswith("Z") else fields["Name"]


async def test_every_golden_configuration_is_accepted(gateway, build, model_server) -> None:
    server = await model_server("a")
    await gateway.serve(to_one_server(build, server.port))
    for case in CASES:
        state = await gateway.offer(golden(case))
        assert state.phase is ProgrammingPhase.PROGRAMMED, (case, state.rejections)


def golden(case: str) -> Snapshot:
    text = (GOLDEN / f"{case}.json").read_text()
    text = re.sub('"port_value": (8080|8443|8444)', '"port_value": 0', text)
    plain = json.loads(text)
    for secret in plain.get("secret", []):
        if "tls_certificate" not in secret:
            continue
        # Golden files show no keys, and their chains are words.
        issued = issue("example.com", kind="rsa-2048" if "rsa" in secret["name"] else "p256")
        secret["tls_certificate"] = {
            "certificate_chain": {"inline_string": issued.chain},
            "private_key": {"inline_string": issued.key},
        }

    def of(kind: ResourceType) -> ResourceSet:
        return ResourceSet.of(resource(kind, one) for one in plain.get(kind.name.lower(), []))

    return Snapshot(*(of(kind) for kind in ResourceType))
