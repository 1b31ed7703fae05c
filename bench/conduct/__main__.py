"""Runs the fault matrix against every gateway, then faults of our picker under open streams.

python -m bench.conduct                             everything (about ten minutes)
python -m bench.conduct --gateways inferway --cases 500,cut
python -m bench.conduct --skip-matrix               only the picker's faults

Prints a table and writes bench/results/conduct.{json,md}. Every case gets fresh servers and a fresh
gateway, because what a gateway has learnt of a server lasts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import aiohttp

from bench.conduct import picker_faults
from bench.conduct.contestants import MAKERS
from bench.conduct.matrix import CASES, Case, Scene, Verdict
from bench.conduct.report import render
from bench.overhead.arms import MODEL, MissingError
from inferway.simulator.app import SimOptions, running_servers

RESULTS = Path(__file__).resolve().parents[1] / "results" / "conduct"

SETTLE_S = 1.0  # a gateway learns which models there are


async def verdict(case: Case, gateway: str, work: Path) -> Verdict:
    folder = Path(tempfile.mkdtemp(dir=work))
    async with running_servers(
        SimOptions(model=MODEL, servers=2, names=("well", "faulty"))
    ) as servers:
        well, faulty = servers
        start = MAKERS[gateway]
        arm = await asyncio.to_thread(start, [well.port, faulty.port], folder, limited=case.limited)
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        try:
            async with aiohttp.ClientSession(connector=connector) as session:
                await asyncio.sleep(SETTLE_S)
                for server in servers:
                    server.requests.by_path.clear()
                return await case.run(Scene(session, arm.url, well, faulty))
        finally:
            await asyncio.to_thread(arm.stop)


async def measure(arguments: argparse.Namespace) -> dict[str, object]:
    chosen = [case for case in CASES if any(word in case.name for word in arguments.cases)]
    matrix: dict[str, dict[str, dict[str, object]]] = {}
    picker: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="inferway-conduct-") as name:
        work = Path(name)
        for case in [] if arguments.skip_matrix else chosen:
            for gateway in arguments.gateways:
                try:
                    found = await verdict(case, gateway, work)
                except MissingError as missing:
                    print(f"{gateway} is left out of {case.name}: {missing}", file=sys.stderr)
                    continue
                matrix.setdefault(case.name, {})[gateway] = asdict(found)
                mark = "right" if found.right else "WRONG"
                print(f"{case.name:40} {gateway:14} {mark}  {found.seen}", file=sys.stderr)
        for fault in [] if arguments.skip_picker else picker_faults.FAULTS:
            for mode in picker_faults.MODES:
                options = SimOptions(model=MODEL, servers=2, speed=arguments.speed)
                async with running_servers(options) as servers:
                    outcome = await picker_faults.run(servers, fault, mode, work)
                picker.append(asdict(outcome))
                print(outcome, file=sys.stderr)
    return {"matrix": matrix, "picker": picker, "commit": _commit()}


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gateways", type=lambda text: text.split(","), default=list(MAKERS))
    parser.add_argument(
        "--cases", type=lambda text: text.split(","), default=[""], help="words of their names"
    )
    parser.add_argument("--skip-matrix", action="store_true")
    parser.add_argument("--skip-picker", action="store_true")
    parser.add_argument("--speed", type=float, default=1.0, help="of the servers under the picker")
    parser.add_argument("--write", action="store_true", help=f"store as {RESULTS}.*")
    arguments = parser.parse_args()
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # peers try HTTP/2 on the servers
    result = asyncio.run(measure(arguments))
    text = render(result)
    print(text)
    if arguments.write:
        RESULTS.with_suffix(".json").write_text(json.dumps(result, indent=2) + "\n")
        RESULTS.with_suffix(".md").write_text(text)


if __name__ == "__main__":
    main()
