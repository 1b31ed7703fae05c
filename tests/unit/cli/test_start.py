"""What keeps the programs from starting, and that it is said in one line."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from inferway.cli.gateway import GatewayOptions, StartError, checked_program, private_run_directory
from inferway.cli.run import default_workers
from inferway.envoy.bootstrap import RunDirectory
from inferway.envoy.settings import EnvoySettings
from inferway.resources import ResourceSet
from inferway.resources.problems import Problem, Severity
from inferway.routing.settings import RoutingSettings
from inferway.sources.backends import resources_for_backends
from inferway.sources.snapshot import Snapshot

from .conftest import call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVED = Snapshot(resources_for_backends(["http://127.0.0.1:9"]), (), 0.0)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def options() -> GatewayOptions:
    with socket.socket() as one, socket.socket() as other:
        for probe in (one, other):
            probe.bind(("127.0.0.1", 0))
        routing = RoutingSettings(port=one.getsockname()[1])
        return GatewayOptions(
            routing=routing, envoy=EnvoySettings(), admin_port=other.getsockname()[1]
        )


def test_good_program(options: GatewayOptions, tmp_path: Path) -> None:
    program = checked_program(replace(options, envoy_workers=3), SERVED, RunDirectory(tmp_path))
    assert program.concurrency == 3
    assert program.envoy.is_file()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot be read"),
        ("", "no EndpointPickerConfig in"),
        ("apiVersion: llm-d.ai/v1\nkind: EndpointPickerConfig\nplugin: []\n", "unknown field"),
    ],
)
def test_a_file_that_does_not_configure_the_picker(
    text: str | None, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "picker.yaml"
    if text is not None:
        file.write_text(text)
    found = call("run", "--backend", "http://127.0.0.1:9", "--picker-config", str(file))
    assert (found.code, says in found.err) == (1, True), found.err
    assert str(file) in found.err


def test_bad_manifests(options: GatewayOptions, tmp_path: Path) -> None:
    problems = (
        Problem(Severity.ERROR, "a.yaml", 3, 1, "spec", "is wrong"),
        Problem(Severity.WARNING, "b.yaml", 1, 1, "", "is odd"),
    )
    with pytest.raises(StartError) as found:
        checked_program(options, Snapshot(ResourceSet(), problems, 0.0), RunDirectory(tmp_path))
    assert "the manifests have errors:\n  a.yaml:3:1: error: spec: is wrong" in str(found.value)
    assert "b.yaml" not in str(found.value)


def test_ports_taken(options: GatewayOptions, tmp_path: Path, taken_port: int) -> None:
    routing = replace(options.routing, port=taken_port)
    blocked = replace(options, routing=routing, admin_port=taken_port)
    with pytest.raises(StartError) as found:
        checked_program(blocked, SERVED, RunDirectory(tmp_path))
    assert str(found.value).count(f"127.0.0.1:{taken_port}") == 1, "one place, said once"


def test_run_directory_is_private_and_removed() -> None:
    with private_run_directory() as directory:
        assert directory.path.stat().st_mode & 0o777 == 0o700
        (directory.path / "file").touch()
    assert not directory.path.exists()


def test_one_core_is_left_to_the_picker() -> None:
    assert default_workers() >= 1


def test_simulator_port_taken(taken_port: int) -> None:
    found = call("sim", "--ports", str(taken_port))
    assert found.code == 1
    assert found.err.startswith("cannot start: ")
    assert "address already in use" in found.err


def test_picker_socket_that_cannot_be_made(tmp_path: Path) -> None:
    found = call("picker", "--pick-socket", str(tmp_path / "absent" / "pick.sock"))
    assert found.code == 1
    assert found.err.splitlines()[-1].startswith("cannot start: ")
