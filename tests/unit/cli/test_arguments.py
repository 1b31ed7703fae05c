"""What the commands refuse before anything starts, and `validate`, which starts nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from inferway import __version__
from inferway.cli.sim import options_of
from inferway.cli.validate import place_of
from inferway.resources import ResourceKey, ResourceSet
from inferway.resources.problems import Severity

from .conftest import call

if TYPE_CHECKING:
    from pathlib import Path

POOL = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: chat}
spec:
  selector: {matchLabels: {app: chat}}
  targetPorts: [{number: 8000}]
---
"""
SERVER = """
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: NAME, labels: {app: LABEL}}
spec: {addresses: [{host: 127.0.0.1, port: 8000}]}
---
"""
ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: chat}
spec:
  parentRefs: [{name: inferway}]
  rules:
    - backendRefs: [{group: inferway.dev, kind: ModelServer, name: NAME}]
---
"""


def server(name: str = "one", label: str = "chat") -> str:
    return SERVER.replace("NAME", name).replace("LABEL", label)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run"], "nothing to serve: give manifests, --backend URL or --sim N"),
        (["run", "x.yaml", "--sim", "1"], "PATH and --sim exclude each other"),
        (["run", "--backend", "http://a", "--sim", "1"], "--backend and --sim exclude each other"),
        (["run", "--sim", "1", "--simulate"], "--simulate needs manifests"),
        (["run", "--sim", "1", "--policy", "best"], "--policy: 'best' is not one of marginal-cost"),
        (["run", "--sim", "1", "--host", "localhost"], "--host: not an IP address: localhost"),
        (["run", "--sim", "0"], "Invalid value for '--sim'"),
        (["run", "--sim", "1", "--port", "70000"], "Invalid value for '--port'"),
        (["sim", "--ports", "80,x"], "--ports: not a port: x"),
        (["sim", "--ports", "65536"], "--ports: not a port: 65536"),
        (["sim", "--engine", "abacus"], "llama-3-8b-h100"),
        (["sim", "--speed", "0"], "speed must be above 0"),
        (["sim", "--fault", "explode"], "cut_stream"),
        (["validate"], "Missing argument"),
        (["picker"], "Missing option '--pick-socket'"),
        (["gte"], "No such command 'gte'"),
    ],
)
def test_wrong_arguments(arguments: list[str], says: str) -> None:
    found = call(*arguments)
    assert found.code == 2
    assert says in found.said


@pytest.mark.parametrize("url", ["ftp://a", "http://a:99999", "http://a/v1", "http://", "a:80"])
def test_backend_that_is_none(url: str) -> None:
    found = call("run", "--backend", url)
    assert found.code == 1
    assert "inferway cannot start" in found.said


def test_version() -> None:
    assert call("--version").out == f"inferway {__version__}\n"


def test_good_manifests(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(POOL + server())
    found = call("validate", str(tmp_path))
    assert found.code == 0
    assert found.err.splitlines()[-1] == "2 objects, 0 errors, 2 warnings"
    assert "warning: no Gateway in the manifests" in found.err
    assert "all.yaml:2: warning: InferencePool default/chat: no HTTPRoute" in found.err
    assert found.out == ""


def test_problems_come_first_and_count(tmp_path: Path) -> None:
    text = POOL + server() + POOL.replace("8000", "99999").replace("chat", "bad")
    (tmp_path / "all.yaml").write_text(text)
    found = call("validate", str(tmp_path))
    assert found.code == 1
    assert "all.yaml:21:26: error: spec.targetPorts[0].number:" in found.err.splitlines()[0]
    assert "1 errors" in found.err


def test_conditions_of_parents_and_listeners_are_errors(tmp_path: Path) -> None:
    gateway = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: inferway}
spec:
  gatewayClassName: inferway
  listeners:
    - {name: plain, protocol: HTTP, port: 80}
    - {name: udp, protocol: UDP, port: 81}
---
"""
    (tmp_path / "all.yaml").write_text(gateway + ROUTE.replace("NAME", "absent"))
    found = call("validate", str(tmp_path))
    assert found.code == 1
    listener, route = found.err.splitlines()[:2]
    assert "error: Gateway default/inferway (listener udp): Accepted: Unsupported" in listener
    assert "error: HTTPRoute default/chat (parent inferway): ResolvedRefs: BackendNotFound" in route
    assert "Programmed" not in found.err, "it would repeat what Accepted says"


def test_server_that_nobody_selects_is_a_warning(tmp_path: Path) -> None:
    plain = ROUTE.replace("NAME", "direct") + server("direct", "none")
    (tmp_path / "all.yaml").write_text(POOL + server() + server("idle", "none") + plain)
    found = call("validate", str(tmp_path))
    assert found.code == 0, found.err
    assert "warning: ModelServer default/idle: Selected: NoMatchingPool" in found.err
    assert "ModelServer default/direct" not in found.err, "a plain backend needs no pool"


def test_path_that_is_not_there(tmp_path: Path) -> None:
    found = call("validate", str(tmp_path / "absent"))
    assert found.code == 1
    assert "absent" in found.err


def test_what_was_made_up_has_no_place() -> None:
    key = ResourceKey("", "GatewayClass", "", "inferway")
    assert place_of(ResourceSet(), key, Severity.ERROR) == "error: GatewayClass inferway"


def test_only_loopback_servers_can_be_simulated(tmp_path: Path) -> None:
    file = tmp_path / "servers.yaml"
    for host in ("10.0.0.1, port: 80", "one.test, port: 80", "127.0.0.1"):
        file.write_text(server().replace("127.0.0.1, port: 8000", host))
        with pytest.raises(ValueError, match="only a loopback address with a port"):
            options_of([file], speed=1.0, seed=0)
    file.write_text(POOL)
    with pytest.raises(ValueError, match="no ModelServer"):
        options_of([file], speed=1.0, seed=0)
    file.write_text(POOL.replace("8000", "99999"))
    with pytest.raises(ValueError, match=r"the manifests have errors:\n.*servers.yaml:7"):
        options_of([file], speed=1.0, seed=0)


def test_simulated_servers_publish_where_their_manifest_says(tmp_path: Path) -> None:
    file = tmp_path / "servers.yaml"
    file.write_text(
        "apiVersion: inferway.dev/v1alpha1\n"
        "kind: ModelServer\n"
        "metadata: {name: one}\n"
        "spec:\n"
        "  addresses: [{host: 127.0.0.1, port: 8000}, {host: 127.0.0.1, port: 8001}]\n"
        "  kvEvents: {replayPort: 5657}\n"
    )
    told = [
        (one.kv_events_port, one.kv_replay_port) for one in options_of([file], speed=1.0, seed=0)
    ]
    assert told == [(5557, 5657), (5558, 5658)]
    file.write_text(file.read_text().replace("  kvEvents: {replayPort: 5657}\n", ""))
    assert [one.kv_events_port for one in options_of([file], speed=1.0, seed=0)] == [None, None]
