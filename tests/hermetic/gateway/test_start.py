"""The command's own conduct: what it refuses to start with, and that it says why."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from inferway.cli.demo.manifests import free_ports

from .running import command

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.hermetic


async def test_port_taken() -> None:
    (admin,) = free_ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _out, err = await command(
            *("run", "--sim", "1", "--port", str(port), "--admin-port", str(admin))
        )
    assert code == 1
    assert f"127.0.0.1:{port}" in err
    assert "another program" in err


async def test_bad_manifests(tmp_path: Path) -> None:
    (tmp_path / "pool.yaml").write_text(
        "apiVersion: inference.networking.k8s.io/v1\n"
        "kind: InferencePool\n"
        "metadata: {name: all}\n"
        "spec:\n"
        "  selector: {matchLabels: {pool: all}}\n"
        "  targetPorts: [{number: 99999}]\n"
    )
    code, _out, err = await command("run", str(tmp_path))
    assert code == 1
    assert "pool.yaml:6" in err
    assert "targetPorts[0].number" in err
    assert "65535" in err

    code, _out, err = await command("validate", str(tmp_path))
    assert code == 1
    assert "targetPorts[0].number" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "nothing to serve"),
        (["run", "--sim", "2", "--backend", "http://127.0.0.1:1"], "exclude each other"),
        (["run", "--backend", "ftp://127.0.0.1:1"], "http://host"),
        (["run", "--backend", "http://127.0.0.1:99999"], "99999"),
        (["run", "--sim", "1", "--policy", "best"], "marginal-cost"),
        (["run", "--sim", "1", "--simulate"], "--simulate needs manifests"),
        (["sim", "--engine", "abacus"], "llama-3-8b-h100"),
        (["sim", "--fault", "explode"], "cut_stream"),
    ],
)
async def test_wrong_arguments(arguments: list[str], says: str) -> None:
    code, _out, err = await command(*arguments)
    assert code in {1, 2}
    assert says in " ".join(err.replace("│", " ").split())


async def test_empty_directory(tmp_path: Path) -> None:
    code, _out, err = await command("run", str(tmp_path / "absent"))
    assert code == 1
    assert "absent" in err


async def test_no_gateway_answers() -> None:
    (port,) = free_ports(1)
    code, _out, err = await command("get", "--admin", f"http://127.0.0.1:{port}")
    assert code == 1
    assert "inferway run" in err
