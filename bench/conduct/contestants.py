"""The gateways under test, each over the same two simulated servers, with its defaults.

All of them balance round robin, so that the faulty server gets its half as long as the gateway lets
it. Peers are installed into environments of their own, as for the overhead benchmark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.overhead import arms

if TYPE_CHECKING:
    from pathlib import Path

    from bench.overhead.arms import Arm

# A gateway that takes four requests at once, keeps two waiting for at most a second.
IN_FLIGHT, WAITING, WAIT_S = 4, 2, 1
INFERWAY_LIMITS = f"""
apiVersion: inferway.dev/v1alpha1
kind: EndpointPickerConfig
metadata: {{name: limits}}
plugins:
- {{type: round-robin}}
- {{name: limit, type: concurrency-detector, parameters: {{maxConcurrency: {IN_FLIGHT // 2}}}}}
schedulingProfiles:
- {{name: default, plugins: [{{pluginRef: round-robin}}]}}
flowControl:
  maxRequests: {WAITING}
  defaultRequestTTL: {WAIT_S}s
  saturationDetector: {{pluginRef: limit}}
"""


def inferway(ports: list[int], work: Path, *, limited: bool) -> Arm:
    if not limited:
        return arms.inferway(ports, work, "--policy", "round-robin")
    config = work / "picker.yaml"
    config.write_text(INFERWAY_LIMITS)
    return arms.inferway(ports, work, "--picker-config", str(config))


def _router(name: str, command: list[str], ports: list[int], work: Path, *, limited: bool) -> Arm:
    port = arms.free_port()
    command += ["--host", "127.0.0.1", "--port", str(port), "--policy", "round_robin"]
    command += ["--prometheus-port", str(arms.free_port()), "--log-level", "error"]
    if limited:
        command += ["--max-concurrent-requests", str(IN_FLIGHT), "--queue-size", str(WAITING)]
        command += ["--queue-timeout-secs", str(WAIT_S)]
    command += ["--worker-urls", *(f"http://127.0.0.1:{backend}" for backend in ports)]
    return arms.start(name, command, f"http://127.0.0.1:{port}", work)


def sglang_router(ports: list[int], work: Path, *, limited: bool) -> Arm:
    python = arms.peer_environment("sglang-router") / "bin" / "python"
    command = [str(python), "-m", "sglang_router.launch_router"]
    return _router("sglang-router", command, ports, work, limited=limited)


def vllm_router(ports: list[int], work: Path, *, limited: bool) -> Arm:
    binary = arms.peer_environment("vllm-router") / "bin" / "vllm-router"
    return _router("vllm-router", [str(binary)], ports, work, limited=limited)


def smg(ports: list[int], work: Path, *, limited: bool) -> Arm:
    binary = arms.peer_environment("smg") / "bin" / "smg"
    return _router("smg", [str(binary), "launch"], ports, work, limited=limited)


MAKERS = {
    "inferway": inferway,
    "sglang-router": sglang_router,
    "vllm-router": vllm_router,
    "smg": smg,
}
