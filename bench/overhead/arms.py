"""The contestants: how each is started over the same backends, and which processes are its own.

Every arm gets the same two backends and its recommended prefix-aware policy where it has one. Peers
live in virtual environments of their own under bench/.peers (their script names clash).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PEERS = Path(__file__).resolve().parents[1] / ".peers"
PEER_PACKAGES = {
    "sglang-router": "sglang-router==0.3.2",
    "vllm-router": "vllm-router==0.1.17",
    "smg": "smg==1.13.0",
}
MODEL = "bench-model"
START_TIMEOUT_S = 30.0

REPLY = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1700000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "All right."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 500, "completion_tokens": 3, "total_tokens": 503},
    },
    separators=(",", ":"),
)
TARGET = f"{MODEL}-v2"  # what the same backends also serve, for requests that are renamed
MODELS = json.dumps(
    {
        "object": "list",
        "data": [{"id": name, "object": "model", "owned_by": "b"} for name in (MODEL, TARGET)],
    }
)


class MissingError(Exception):
    """Something this benchmark needs is not installed."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def descendants(pid: int) -> list[int]:
    """The process and everything below it."""
    found = [pid]
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += descendants(int(child))
    return found


@dataclass
class Arm:
    name: str
    url: str
    process: subprocess.Popen[bytes] | None = None
    logs: list[Path] = field(default_factory=list)

    def processes(self) -> dict[int, str]:
        """pid → short name of every process that belongs to this arm."""
        if self.process is None:
            return {}
        names = {}
        for pid in descendants(self.process.pid):
            with suppress(FileNotFoundError, ProcessLookupError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                names[pid] = role(command)
        return names

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            for pid in descendants(self.process.pid):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait(5)


def role(command: str) -> str:
    if "inferway" in command:
        for word in ("picker", "sim", "run"):
            if f" {word}" in command:
                return {"run": "control"}.get(word, word)
    for word in ("envoy", "nginx", "smg", "sglang", "vllm-router"):
        if word in command:
            return word
    return command.split(" ", 1)[0].rsplit("/", 1)[-1]


def start(name: str, command: list[str], url: str, work: Path) -> Arm:
    """Starts one arm and waits until it answers a real request."""
    log = work / f"{name}.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
    arm = Arm(name, url, process, [log])
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}).encode()
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", body, {"content-type": "application/json"}
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        if process.poll() is not None:
            tail = log.read_text(errors="replace")[-2000:]
            raise MissingError(f"{name} ended with {process.returncode} at its start:\n{tail}")
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(request, timeout=2) as reply,
        ):
            if reply.status == 200:
                return arm
        if time.monotonic() > deadline:
            arm.stop()
            raise MissingError(f"{name} did not answer within {START_TIMEOUT_S:.0f} s, see {log}")
        time.sleep(0.1)


def nginx(ports: list[int], work: Path) -> Arm:
    """Backends: one nginx worker answers every path that a router may ask for with fixed JSON."""
    binary = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if not binary:
        raise MissingError("nginx is missing: apt-get install nginx-light")
    servers = "".join(
        f"""
  server {{
    listen 127.0.0.1:{port} reuseport;
    default_type application/json;
    location = /v1/models {{ return 200 '{MODELS}'; }}
    location = /get_server_info {{ return 200 '{{}}'; }}
    location = /get_model_info {{ return 200 '{{"model_path":"{MODEL}"}}'; }}
    location = /health {{ return 200 'ok'; }}
    location = /metrics {{ return 200 'vllm:num_requests_waiting 0\\n'; }}
    # `return` alone would answer before the body has come, which no model server does; mirroring
    # (to nowhere) makes nginx read it first, and the static handler's failure leads to the reply.
    location / {{ mirror /nowhere; error_page 403 404 405 =200 @reply; }}
    location = /nowhere {{ internal; return 204; }}
    location @reply {{ return 200 '{REPLY}'; }}
  }}"""
        for port in ports
    )
    config = work / "nginx.conf"
    config.write_text(
        f"""daemon off; worker_processes 1; pid {work}/nginx.pid;
error_log {work}/nginx-error.log crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; log_not_found off; keepalive_requests 100000000; keepalive_timeout 600s;
  client_max_body_size 64m; client_body_buffer_size 8m; client_body_temp_path {work}/body;
{servers}
}}
"""
    )
    command = [binary, "-p", str(work), "-c", str(config)]
    return start("direct", command, f"http://127.0.0.1:{ports[0]}", work)


def plain_envoy(backends: list[int], work: Path) -> Arm:
    """Envoy with nothing of ours: one route, round robin over the backends, one worker."""
    binary = Path(sys.executable).with_name("envoy")
    port = free_port()
    endpoints = [
        {
            "endpoint": {
                "address": {"socket_address": {"address": "127.0.0.1", "port_value": backend}}
            }
        }
        for backend in backends
    ]
    prefix = "type.googleapis.com/envoy.extensions"
    manager = {
        "@type": f"{prefix}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {
                            "match": {"prefix": "/"},
                            "route": {"cluster": "backends", "timeout": "0s"},
                        }
                    ],
                }
            ]
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{prefix}.filters.http.router.v3.Router"},
            }
        ],
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [
            {"filters": [{"name": "http", "typed_config": manager}]},
        ],
    }
    cluster = {
        "name": "backends",
        "type": "STATIC",
        "connect_timeout": "2s",
        "circuit_breakers": {
            "thresholds": [
                {"max_connections": 10000, "max_requests": 10000, "max_pending_requests": 10000}
            ]
        },
        "load_assignment": {
            "cluster_name": "backends",
            "endpoints": [{"lb_endpoints": endpoints}],
        },
    }
    config = work / "envoy-plain.json"
    config.write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    )
    command = [str(binary), "-c", str(config), "--concurrency", "1", "--use-dynamic-base-id"]
    return start("envoy", [*command, "-l", "error"], f"http://127.0.0.1:{port}", work)


def inferway(backends: list[int], work: Path, *extra: str) -> Arm:
    servers = [
        part for backend in backends for part in ("--backend", f"http://127.0.0.1:{backend}")
    ]
    return run_inferway("inferway", work, *servers, *extra)


def run_inferway(name: str, work: Path, *arguments: str, admin_port: int = 0) -> Arm:
    """`inferway run ARGUMENTS` with one worker, as an arm of this name, once it is ready."""
    port, admin = free_port(), admin_port or free_port()
    command = [str(Path(sys.executable).with_name("inferway")), "run", "--port", str(port)]
    command += ["--admin-port", str(admin), "--envoy-workers", "1", *arguments]
    arm = start(name, command, f"http://127.0.0.1:{port}", work)
    # It answers a little earlier, while its picker is still starting.
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        with (
            suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(f"http://127.0.0.1:{admin}/readyz", timeout=2),
        ):
            return arm
        if time.monotonic() > deadline:
            arm.stop()
            raise MissingError(f"{name} was not ready within {START_TIMEOUT_S:.0f} s")
        time.sleep(0.1)


def peer_environment(name: str) -> Path:
    """The peer's own virtual environment, made on first use."""
    home = PEERS / name
    if not (home / "bin" / "python").exists():
        print(f"installing {PEER_PACKAGES[name]} into {home} …", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "-q", PEER_PACKAGES[name]]
        subprocess.run(pip, check=True)
    return home


def sglang_router(backends: list[int], work: Path) -> Arm:
    python = peer_environment("sglang-router") / "bin" / "python"
    port = free_port()
    command = [str(python), "-m", "sglang_router.launch_router", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--policy", "cache_aware", "--log-level", "error"]
    command += ["--prometheus-port", str(free_port()), "--worker-urls"]
    command += [f"http://127.0.0.1:{backend}" for backend in backends]
    return start("sglang-router", command, f"http://127.0.0.1:{port}", work)


def smg(backends: list[int], work: Path) -> Arm:
    binary = peer_environment("smg") / "bin" / "smg"
    port = free_port()
    command = [str(binary), "launch", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--policy", "cache_aware", "--log-level", "error"]
    command += ["--prometheus-port", str(free_port()), "--worker-urls"]
    command += [f"http://127.0.0.1:{backend}" for backend in backends]
    return start("smg", command, f"http://127.0.0.1:{port}", work)
