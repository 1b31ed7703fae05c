"""One size of the translation benchmark, in a fresh process: prints its figures as JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.apply import manifests
from inferway.envoy.settings import EnvoySettings
from inferway.envoy.snapshot import build_snapshot
from inferway.routing.picker_config import pool_targets
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate
from inferway.sources.directory import DirectorySource

_CHANGES = 10


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def _translate(source: DirectorySource) -> float:
    """CPU ms from the file to what Envoy and the picker are told."""
    begin = time.process_time()
    source.refresh()
    snapshot = source.snapshot(changed_at=0.0)
    model = translate(snapshot.resources, settings=RoutingSettings()).model
    settings, socket = EnvoySettings(), Path("/run/pick.sock")
    build_snapshot(model, resolved={}, models={}, settings=settings, pick_socket=socket)
    pool_targets(model, {})
    return (time.process_time() - begin) * 1000


def main() -> None:
    routes = int(sys.argv[1])
    pools = max(1, routes // 5)
    with tempfile.TemporaryDirectory(prefix="inferway-bench-") as name:
        folder = Path(name)
        ports = range(9000, 9000 + max(1, pools * 4))
        manifests.write(folder, port=8080, routes=routes, pools=pools, server_ports=ports)
        before_mib = _resident_mib()
        source = DirectorySource([folder])
        first_cpu_ms = _translate(source)
        memory_mib = _resident_mib() - before_mib
        times = []
        for change in range(_CHANGES):
            model = f"changed-{change}"
            manifests.write_route(folder, manifests.PROBED, model=model, pools=pools)
            times.append(_translate(source))
    figures = {
        "cpu_ms": median(times),
        "first_cpu_ms": first_cpu_ms,
        "memory_mib": memory_mib,
        "pools": pools,
        "servers": len(ports),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
