"""From a changed manifest to traffic that follows it, and the cost of translation.

python -m bench.apply                  500 routes over 100 pools, 200 changes (about two minutes)
python -m bench.apply --changes 20 --sizes 10,100

Effect: the gateway runs as a user starts it, over simulated servers. One HTTPRoute asks in turn for
the model that is requested and for another; the time from the rename of its file to the first
request that is answered differently (200 or 404) is one sample, in ms. Translation: a change of one
route among so many, in a process of its own, from reading the file to Envoy's configuration; median
CPU ms of ten changes, and the resident memory that the process gained by loading everything.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from bench.apply import manifests
from bench.overhead.arms import MODEL, free_port, start

RESULTS = Path(__file__).resolve().parents[1] / "results" / "apply.json"
SERVERS = 8
EFFECT_MS_TARGET = 300.0
EFFECT_TIMEOUT_S = 30.0


def effect_ms(*, routes: int, pools: int, changes: int) -> list[float]:
    """Milliseconds from each change to its effect."""
    with tempfile.TemporaryDirectory(prefix="inferway-bench-") as name:
        work, folder = Path(name), Path(name) / "manifests"
        folder.mkdir()
        ports = [free_port() for _ in range(SERVERS)]
        port = free_port()
        manifests.write(folder, port=port, routes=routes, pools=pools, server_ports=ports)
        manifests.write_route(folder, manifests.PROBED, model=MODEL, pools=pools)
        command = [sys.executable, "-m", "inferway"]
        listed = ("--ports", ",".join(map(str, ports)), "--servers", str(SERVERS))
        servers = start(
            "simulator",
            [*command, "sim", *listed, "--model", MODEL, "--speed", "1000"],
            f"http://127.0.0.1:{ports[0]}",
            work,
        )
        try:
            gateway = start(
                "inferway",
                [*command, "run", str(folder), "--admin-port", str(free_port())],
                f"http://127.0.0.1:{port}",
                work,
            )
            try:
                return _changes(folder, port, pools=pools, changes=changes)
            finally:
                gateway.stop()
        finally:
            servers.stop()


def _changes(folder: Path, port: int, *, pools: int, changes: int) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    times = []
    for change in range(changes):
        served = change % 2 == 1
        model = MODEL if served else "another-model"
        begin = time.perf_counter()
        manifests.write_route(folder, manifests.PROBED, model=model, pools=pools)
        while _status(connection) != (200 if served else 404):
            if time.perf_counter() - begin > EFFECT_TIMEOUT_S:
                raise SystemExit(f"change {change} had no effect in {EFFECT_TIMEOUT_S:g} s")
            time.sleep(0.001)
        times.append((time.perf_counter() - begin) * 1000)
        time.sleep(0.05 + (change % 7) * 0.02)  # not in step with any timer
    return times


def _status(connection: http.client.HTTPConnection) -> int:
    message = {"role": "user", "content": "hi"}
    body = json.dumps({"model": MODEL, "messages": [message], "max_tokens": 1})
    headers = {"content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    reply = connection.getresponse()
    reply.read()
    return reply.status


def translation(routes: int) -> dict[str, float]:
    """The figures of one size, measured in a process of its own."""
    command = [sys.executable, "-m", "bench.apply.translation", str(routes)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return dict(json.loads(printed))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routes", type=int, default=500)
    parser.add_argument("--pools", type=int, default=100)
    parser.add_argument("--changes", type=int, default=200)
    parser.add_argument(
        "--sizes", default="10,100,1000", help="routes, for the cost of translation"
    )
    options = parser.parse_args()
    sizes = {size: translation(int(size)) for size in options.sizes.split(",")}
    for size, figures in sizes.items():
        print(
            f"{size:>6} routes: re-translation {figures['cpu_ms']:7.1f} ms CPU, "
            f"first {figures['first_cpu_ms']:7.1f} ms, memory {figures['memory_mib']:6.1f} MiB",
            flush=True,
        )
    times = effect_ms(routes=options.routes, pools=options.pools, changes=options.changes)
    p99 = quantiles(times, n=100)[98]
    result = {
        "routes": options.routes,
        "pools": options.pools,
        "changes": options.changes,
        "effect_ms": {"p50": median(times), "p99": p99, "max": max(times)},
        "translation": sizes,
    }
    verdict = "met" if p99 < EFFECT_MS_TARGET else "missed"
    print(
        f"{options.routes} routes, {options.pools} pools: in effect after "
        f"p50 {median(times):.0f}, p99 {p99:.0f}, at most {max(times):.0f} ms "
        f"(target: p99 < {EFFECT_MS_TARGET:.0f}, {verdict})"
    )
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
