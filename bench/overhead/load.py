"""Load and its accounting: wrk for rates and latency, /proc for the CPU time of every process."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.overhead.arms import MODEL, Arm, MissingError

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
BODIES = 64  # distinct prompts per size; half of each is common, for the prefix routers


@dataclass(frozen=True)
class Case:
    """One load shape. `tokens` > 0 asks for a stream of that many tokens."""

    name: str
    body_bytes: int
    connections: int
    seconds: float
    tokens: int = 0


@dataclass(frozen=True)
class Sample:
    requests_per_s: float
    p50_us: float
    p99_us: float
    errors: int
    requests: int
    cpu_us: dict[str, float]  # role → CPU µs per request


def write_script(case: Case, work: Path) -> Path:
    """A wrk script that walks through the bodies of the case."""
    path = work / f"{case.name}.lua".replace(" ", "-")
    if path.exists():
        return path
    bodies = []
    for number in range(BODIES):
        body: dict[str, object] = {"model": MODEL, "messages": [{"role": "user", "content": ""}]}
        if case.tokens:
            body |= {"stream": True, "max_tokens": case.tokens, "ignore_eos": True}
        room = case.body_bytes - len(json.dumps(body))
        common = "The quick brown fox jumps over the lazy dog. " * (room // 90 + 1)
        own = f"[{number:06}] Pack my box with five dozen liquor jugs. " * (room // 50 + 1)
        content = common[: room // 2] + own[: room - room // 2]
        body["messages"] = [{"role": "user", "content": content}]
        bodies.append(json.dumps(body))
    files = []
    for number, text in enumerate(bodies):
        file = work / f"body-{case.body_bytes}-{case.tokens}-{number}.json"
        file.write_text(text)
        files.append(str(file))
    path.write_text(
        f"""
local bodies, n, i = {{}}, 0, 0
for name in string.gmatch([[{" ".join(files)}]], "%S+") do
  local f = io.open(name, "rb"); n = n + 1; bodies[n] = f:read("*a"); f:close()
end
local requests = {{}}
function init(args)
  wrk.headers["content-type"] = "application/json"
  for k = 1, n do
    requests[k] = wrk.format("POST", "/v1/chat/completions", nil, bodies[k])
  end
end
function request() i = i + 1; return requests[(i - 1) % n + 1] end
function done(summary, latency, r)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""
    )
    return path


def cpu_ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(fields[11]) + int(fields[12])


def wrk(arm: Arm, case: Case, work: Path, *, seconds: float | None = None) -> Sample:
    """One timed run of one arm."""
    binary = shutil.which("wrk")
    if not binary:
        raise MissingError("wrk is missing: apt-get install wrk")
    script = write_script(case, work)
    processes = arm.processes()
    before = {pid: cpu_ticks(pid) for pid in processes}
    output = subprocess.run(
        [
            *(binary, "-t1", f"-c{case.connections}", f"-d{seconds or case.seconds}s"),
            *("--timeout", "60s", "-s", str(script), arm.url),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    if not found:
        raise MissingError(f"wrk printed no result:\n{output}")
    requests, duration_us, p50, p99, errors = (int(group) for group in found.groups())
    cpu: dict[str, float] = {}
    for pid, name in processes.items():
        ticks = cpu_ticks(pid) - before[pid]
        cpu[name] = cpu.get(name, 0.0) + ticks / TICKS_PER_S * 1e6 / max(requests, 1)
    return Sample(requests / (duration_us / 1e6), p50, p99, errors, requests, cpu)


def summary(samples: list[Sample]) -> dict[str, object]:
    roles = sorted({role for sample in samples for role in sample.cpu_us})
    rates = [sample.requests_per_s for sample in samples]
    return {
        "requests_per_s": statistics.median(rates),
        "requests_per_s_range": [min(rates), max(rates)],
        "p50_us": statistics.median(s.p50_us for s in samples),
        "p99_us": statistics.median(s.p99_us for s in samples),
        "errors": sum(s.errors for s in samples),
        "cpu_us": {
            role: statistics.median(s.cpu_us.get(role, 0.0) for s in samples) for role in roles
        },
    }
