"""Interleaved rounds of every arm over one backend; prints and stores a table.

python -m bench.overhead                    all cases, 7 rounds (about 15 minutes)
python -m bench.overhead --rounds 3 --arms direct,envoy,inferway --cases "2KB x 32"
python -m bench.overhead --features         what mirrors, weights and renaming cost
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.overhead import arms as contestants
from bench.overhead import features
from bench.overhead.arms import Arm, MissingError
from bench.overhead.load import TICKS_PER_S, Case, Sample, cpu_ticks, summary, wrk
from bench.overhead.pairs import measure_pairs
from bench.overhead.report import render

CASES = [
    Case("2KB x 1", 2_000, 1, 3),
    Case("2KB x 32", 2_000, 32, 4),
    Case("220KB x 1", 220_000, 1, 3),
    Case("220KB x 32", 220_000, 32, 4),
    Case("4MB x 1", 4_000_000, 1, 4),
]
STREAM = Case("stream 200 x 100", 2_000, 100, 8, tokens=200)
ARMS = ["direct", "envoy", "inferway", "sglang-router", "smg"]
IDLE_SERVERS = 100
IDLE_S = 20.0


def start_arms(names: list[str], backends: list[int], work: Path) -> list[Arm]:
    makers = {
        "envoy": contestants.plain_envoy,
        "inferway": contestants.inferway,
        "sglang-router": contestants.sglang_router,
        "smg": contestants.smg,
        **features.makers(),
    }
    started: list[Arm] = []
    for name in names:
        if name == "direct":
            continue
        try:
            started.append(makers[name](backends, work))
        except MissingError as missing:
            print(f"{name} is left out: {missing}", file=sys.stderr)
    return started


def measure(arms: list[Arm], cases: list[Case], rounds: int, work: Path) -> dict[str, object]:
    """case → arm → samples; the order of the arms turns round every round (A B C, C B A, …)."""
    samples: dict[str, dict[str, list[Sample]]] = {
        case.name: {arm.name: [] for arm in arms} for case in cases
    }
    for case in cases:
        for arm in arms:
            wrk(arm, case, work, seconds=1)
    for number in range(rounds):
        for case in cases:
            for arm in arms if number % 2 == 0 else reversed(arms):
                sample = wrk(arm, case, work)
                samples[case.name][arm.name].append(sample)
                print(
                    f"round {number + 1}/{rounds}  {case.name:18} {arm.name:14}"
                    f"{sample.requests_per_s:10.0f} req/s  p50 {sample.p50_us:7.0f} us"
                    f"  errors {sample.errors}",
                    file=sys.stderr,
                    flush=True,
                )
    return {
        name: {arm: summary(taken) for arm, taken in by_arm.items()}
        for name, by_arm in samples.items()
    }


def simulator(servers: int, engine: str, work: Path) -> tuple[Arm, list[int]]:
    ports = [contestants.free_port() for _ in range(servers)]
    command = [str(Path(sys.executable).with_name("inferway")), "sim"]
    command += ["--ports", ",".join(map(str, ports)), "--model", contestants.MODEL]
    command += ["--engine", engine]
    return contestants.start("sim", command, f"http://127.0.0.1:{ports[0]}", work), ports


def measure_streams(rounds: int, work: Path) -> dict[str, object]:
    """Envoy's CPU per streamed chunk, ours against plain; simulated servers pace the tokens."""
    sim, ports = simulator(2, "llama-3-8b-h100", work)
    arms: list[Arm] = []
    try:
        arms = start_arms(["envoy", "inferway"], ports, work)
        return measure(arms, [STREAM], rounds, work)
    finally:
        for arm in [*arms, sim]:
            arm.stop()


def measure_idle(work: Path) -> dict[str, float]:
    """Share of one core that each part takes with no request for IDLE_S seconds."""
    sim, ports = simulator(IDLE_SERVERS, "instant", work)
    gateway: Arm | None = None
    try:
        gateway = contestants.inferway(ports, work)
        time.sleep(10)  # past the burst of first scrapes
        processes = gateway.processes()
        before = {pid: cpu_ticks(pid) for pid in processes}
        time.sleep(IDLE_S)
        share: dict[str, float] = {}
        for pid, role in processes.items():
            used_s = (cpu_ticks(pid) - before[pid]) / TICKS_PER_S
            share[role] = share.get(role, 0.0) + used_s / IDLE_S
        return share
    finally:
        for arm in [gateway, sim]:
            if arm:
                arm.stop()


def machine() -> dict[str, object]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "?",
    )
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": commit,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--cases", default=",".join(case.name for case in CASES))
    parser.add_argument(
        "--features",
        action="store_true",
        help="arms: inferway and its features; no streams, no idle",
    )
    parser.add_argument("--skip-streams", action="store_true")
    parser.add_argument("--skip-idle", action="store_true")
    parser.add_argument("--out", type=Path, help="default: bench/results/overhead[-features].json")
    options = parser.parse_args()
    if options.out is None:
        suffix = "-features" if options.features else ""
        options.out = Path(f"bench/results/overhead{suffix}.json")
    names = options.arms.split(",")
    if options.features:
        names = ["inferway", *features.RULES]
        options.skip_streams = options.skip_idle = True
    cases = [case for case in CASES if case.name in options.cases.split(",")]
    result: dict[str, object] = {"machine": machine(), "rounds": options.rounds}
    with tempfile.TemporaryDirectory(prefix="inferway-bench-") as folder:
        work = Path(folder)
        backends = [contestants.free_port(), contestants.free_port()]
        direct = contestants.nginx(backends, work)
        arms = [direct] if "direct" in names else []
        try:
            arms += start_arms(names, backends, work)
            if options.features:
                result["cases"] = measure_pairs(arms[0], arms[1:], cases, options.rounds, work)
            else:
                result["cases"] = measure(arms, cases, options.rounds, work)
        finally:
            for arm in {id(arm): arm for arm in [*arms, direct]}.values():
                arm.stop()
        if not options.skip_streams:
            result["streams"] = measure_streams(min(options.rounds, 3), work)
        if not options.skip_idle:
            result["idle"] = measure_idle(work)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    table = render(result, stream_tokens=STREAM.tokens, idle_servers=IDLE_SERVERS)
    options.out.with_suffix(".md").write_text(table)
    print(table)


if __name__ == "__main__":
    try:
        main()
    except MissingError as missing:
        raise SystemExit(f"bench.overhead: {missing}") from missing
