"""The promise of the wheel: it works in an empty virtual environment on a machine without Rust.

`make wheel-check` builds the wheel, installs it with its locked dependencies into a new
environment, and lets the installed `inferway` serve one request over a simulated server, with
nothing but the system's own directories on PATH.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0
NATIVE_PARTS = ("inferway/_native", "inferway/envoy/_filter")


def run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def build(folder: Path) -> Path:
    pip = (sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation")
    run(*pip, "-w", folder, ROOT)
    (wheel,) = folder.glob("inferway-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for part in NATIVE_PARTS:
        assert any(name.startswith(part) and name.endswith(".so") for name in names), part
    assert any(name.endswith("cli/demo/gateway.yaml") for name in names)
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """The `inferway` program of a new environment."""
    run(sys.executable, "-m", "venv", folder)
    uv = (sys.executable, "-m", "uv", "pip", "install", "-q", "--python", folder / "bin" / "python")
    run(*uv, "--constraint", ROOT / "requirements.lock", wheel)
    return folder / "bin" / "inferway"


def serves(program: Path, folder: Path) -> None:
    port, admin = free_port(), free_port()
    environment = {"PATH": os.defpath, "HOME": str(folder)}
    ports = ("--port", str(port), "--admin-port", str(admin))
    process = subprocess.Popen([program, "run", "--sim", "1", *ports], env=environment, cwd=folder)
    try:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not answers(f"http://127.0.0.1:{admin}/readyz"):
            assert process.poll() is None, f"ended with {process.returncode}"
            assert time.monotonic() < deadline, "not ready in time"
            time.sleep(0.1)
        body = {"model": "sim-model", "messages": [{"role": "user", "content": "Hi"}]}
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/v1/chat/completions",
            json.dumps(body | {"max_tokens": 3}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert json.load(reply)["usage"]["completion_tokens"] == 3
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(40)
    assert code == 0, f"stopped with {code}"


def answers(url: str) -> bool:
    with suppress(urllib.error.URLError, OSError):
        return bool(urllib.request.urlopen(url, timeout=1).status == 200)
    return False


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="inferway-wheel-") as name:
        folder = Path(name)
        wheel = build(folder)
        serves(install(wheel, folder / "empty"), folder)
        print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, serves")


if __name__ == "__main__":
    main()
