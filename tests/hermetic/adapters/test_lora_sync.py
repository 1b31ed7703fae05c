"""`inferway lora-sync` as a process beside simulated servers: what it calls, and what it says."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
import pytest

from inferway.cli.demo.manifests import free_ports
from inferway.simulator.app import SimOptions, running_servers
from inferway.simulator.faults import FaultRule

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from inferway.simulator.server import SimServer

pytestmark = pytest.mark.hermetic

TIMEOUT_S = 60.0


def config_text(*wanted: str, unwanted: tuple[str, ...] = (), port: int = 8000) -> str:
    exist = ", ".join(f"{{id: {name}, source: /adapters/{name}}}" for name in wanted)
    absent = ", ".join(f"{{id: {name}}}" for name in unwanted)
    return f"""
vLLMLoRAConfig:
  name: test
  host: 127.0.0.1
  port: {port}
  ensureExist: {{models: [{exist}]}}
  ensureNotExist: {{models: [{absent}]}}
"""


async def until(what: str, holds: Callable[[], bool]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            while not holds():
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"never: {what}") from None


async def command(*arguments: str, **environment: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inferway", "lora-sync", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", **environment},
    )
    async with asyncio.timeout(TIMEOUT_S):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@dataclass
class Running:
    process: asyncio.subprocess.Process
    port: int

    async def get(self, path: str) -> tuple[int, str]:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"http://127.0.0.1:{self.port}{path}") as reply,
        ):
            return reply.status, await reply.text()

    async def shows(self, line: str) -> None:
        """Until its metrics have this line."""
        async with asyncio.timeout(TIMEOUT_S):
            while line not in (await self.get("/metrics"))[1]:
                await asyncio.sleep(0.05)

    async def in_sync(self) -> None:
        async with asyncio.timeout(TIMEOUT_S):
            while (await self.get("/readyz"))[0] != 200:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[Running]:
    (port,) = free_ports(1)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inferway", "lora-sync", *arguments),
        *("--metrics-port", str(port), "--reconcile-trigger", "0.5"),
        *("--health-check-interval", "0.2"),
    )
    try:
        found = Running(process, port)
        async with asyncio.timeout(TIMEOUT_S):
            while True:
                try:
                    await found.get("/healthz")
                    break
                except aiohttp.ClientError:
                    assert process.returncode is None, "it ended"
                    await asyncio.sleep(0.05)
        yield found
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(TIMEOUT_S):
                code = await process.wait()
            assert code == 0, "a signal is a good end"


@asynccontextmanager
async def servers(count: int = 1, **options: object) -> AsyncIterator[list[SimServer]]:
    wanted = SimOptions(model="llm-base", engine="instant", servers=count, **options)  # type: ignore[arg-type]
    async with running_servers(wanted) as found:
        yield found


async def test_side_car(tmp_path: Path) -> None:
    """Host and port come from the file; a change, a restart and a bad version on the way."""
    path = tmp_path / "c.yaml"
    async with servers(adapters=("old", "foreign")) as (server,):
        adapters = server.models.adapters
        path.write_text(config_text("v1", unwanted=("old",), port=server.port))
        async with running("--config", str(path)) as syncer:
            await until("the first state", lambda: [*adapters] == ["foreign", "v1"])
            assert adapters["v1"] == "/adapters/v1"
            await syncer.in_sync()
            _, text = await syncer.get("/metrics")
            assert 'lora_syncer_adapter_status{adapter_name="v1"} 1.0' in text
            assert 'lora_syncer_adapter_status{adapter_name="old"} 0.0' in text
            path.write_text(config_text("v1", "v2", port=server.port))
            await until("the change", lambda: "v2" in adapters)
            path.write_text("vLLMLoRAConfig: {ensureExists: {}}")
            await syncer.shows('inferway_adapter_config_reads_total{result="bad"} 1.0')
            adapters.clear()
            await until(
                "the restarted server has its adapters", lambda: {*adapters} == {"v1", "v2"}
            )
            path.write_text(config_text("v2", unwanted=("v1",), port=server.port))
            await until("the roll-out is done", lambda: [*adapters] == ["v2"])
            seen = server.requests.by_path
            assert seen["/v1/load_lora_adapter"] == 4
            assert seen["/v1/unload_lora_adapter"] == 2


async def test_config_map_manifest_and_swapped_links(tmp_path: Path) -> None:
    async with servers() as (server,):
        for version in ("v1", "v2"):
            folder = tmp_path / f"..{version}"
            folder.mkdir()
            body = config_text(version, unwanted=("v1",) if version == "v2" else ())
            block = "".join(f"    {line}\n" for line in body.splitlines())
            (folder / "c.yaml").write_text(f"kind: ConfigMap\ndata:\n  x: |\n{block}")
        (tmp_path / "..data").symlink_to("..v1")
        (tmp_path / "c.yaml").symlink_to("..data/c.yaml")
        url = f"http://{server.address}"
        async with running("--config", str(tmp_path / "c.yaml"), "--server", url):
            await until("v1", lambda: [*server.models.adapters] == ["v1"])
            (tmp_path / "..next").symlink_to("..v2")
            (tmp_path / "..next").rename(tmp_path / "..data")
            await until("v2", lambda: [*server.models.adapters] == ["v2"])


async def test_many_servers_with_errors_a_hang_and_a_dead_one(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(config_text("one", "two"))
    async with servers(4) as four:
        well, failing, hung, dead = four
        load = "/v1/load_lora_adapter"
        failing.faults = [FaultRule("error", path=load, status=500, count=1)]
        hung.faults = [FaultRule("hang", path=load)]
        dead.faults = [FaultRule("refuse")]
        arguments = [word for one in four for word in ("--server", f"http://{one.address}")]
        async with running("--config", str(path), *arguments) as syncer:
            await until("the well one", lambda: len(well.models.adapters) == 2)
            await until("the failing one, later", lambda: len(failing.models.adapters) == 2)
            assert not hung.models.adapters
            assert (await syncer.get("/readyz"))[0] == 503
            _, text = await syncer.get("/metrics")
            assert 'lora_syncer_adapter_status{adapter_name="one"} 0.0' in text
            loaded = f'adapter_name="one",server="http://{well.address}"'
            assert f"inferway_adapter_loaded{{{loaded}}} 1.0" in text
            assert 'inferway_adapter_calls_total{operation="load",result="failed"} 1.0' in text
            dead.faults = []
            await until("the dead one is back", lambda: len(dead.models.adapters) == 2)


async def test_once_dry_run_and_exit_codes(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    async with servers(adapters=("old",)) as (server,):
        url = f"http://{server.address}"
        path.write_text(config_text("one", unwanted=("old",), port=server.port))
        code, out, _ = await command("--config", str(path), "--dry-run")
        assert (code, out) == (1, f"{url} load one from /adapters/one\n{url} unload old\n")
        assert [*server.models.adapters] == ["old"]
        variable = {"DYNAMIC_LORA_ROLLOUT_CONFIG": str(path)}
        code, out, _ = await command("--once", **variable)
        assert (code, out) == (0, "")
        assert [*server.models.adapters] == ["one"]
        assert (await command("--dry-run", **variable))[:2] == (0, "")
        server.faults = [FaultRule("error", path="/v1/load_lora_adapter", status=400)]
        path.write_text(config_text("one", "refused", port=server.port))
        code, _, err = await command("--once", "--config", str(path))
        assert code == 1
        assert "adapter_not_as_wanted" in err
        assert "POST /v1/load_lora_adapter answers 400" in err
        path.write_text(config_text("one", port=free_ports(1)[0]))
        arguments = ("--once", "--config", str(path), "--health-check-timeout", "0")
        code, _, err = await command(*arguments)
        assert code == 1
        assert "server_not_healthy" in err


async def test_servers_of_manifests(tmp_path: Path) -> None:
    path, folder = tmp_path / "c.yaml", tmp_path / "manifests"
    folder.mkdir()
    path.write_text(config_text("one"))
    async with servers(3) as found:
        texts = [
            f"""
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: s{number}, labels: {{app: {"chat" if number < 2 else "other"}}}}}
spec: {{addresses: [{{host: 127.0.0.1, port: {server.port}}}]}}
"""
            for number, server in enumerate(found)
        ]
        pool = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: chat}
spec: {selector: {matchLabels: {app: chat}}, targetPorts: [{number: 8000}]}
"""
        (folder / "all.yaml").write_text("---".join([pool, texts[0], texts[2]]))
        arguments = ("--config", str(path), "--manifests", str(folder))
        code, out, _ = await command(*arguments, "--selector", "app=other", "--dry-run")
        assert (code, out) == (1, f"http://{found[2].address} load one from /adapters/one\n")
        async with running(*arguments, "--pool", "chat"):
            await until("the pool's server", lambda: bool(found[0].models.adapters))
            (folder / "second.yaml").write_text(texts[1])
            await until("the new member", lambda: bool(found[1].models.adapters))
            assert not found[2].models.adapters
        code, _, err = await command(*arguments, "--pool", "nobody", "--once")
        assert code == 1
        assert "no InferencePool default/nobody in the manifests; there: default/chat" in err


async def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    code, _, err = await command("--config", str(path), "--once")
    assert code == 1
    assert f"cannot sync: {path}:1:1: error: cannot be read: No such file" in err
    path.write_text("vLLMLoRAConfig: {port: '80'}")
    code, _, err = await command("--config", str(path), "--once")
    assert code == 1
    assert "vLLMLoRAConfig.port: must be a whole number" in err
    path.write_text(config_text("one"))
    base = ("--config", str(path))
    for arguments, says in [
        (("--server", "ftp://a"), "--server: a backend is http://host[:port]"),
        (("--server", "http://a", "--manifests", "x"), "exclude each other"),
        (("--pool", "chat"), "need --manifests"),
        (("--manifests", "x", "--selector", "chat"), "not key=value: chat"),
    ]:
        code, _, err = await command(*base, *arguments)
        assert code == 2
        assert says in " ".join(err.replace("│", " ").split())
    async with servers() as (server,):
        code, _, err = await command(*base, "--metrics-port", str(server.port))
        assert code == 1
        assert "cannot sync" in err
        assert "address already in use" in err
