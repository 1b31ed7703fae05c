"""Directories of manifests as large as one likes: a file per route and per pool.

Every route asks for a model of its own and splits it 90/10 over two pools; pools share a few model
servers, so that hundreds of pools need no hundreds of processes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROBED = 7  # the route that is changed

_GATEWAY = """\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: bench}
spec:
  gatewayClassName: inferway
  listeners:
  - {name: http, port: %(port)d, protocol: HTTP}
"""
_POOL = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: pool-%(index)d}
spec:
  selector: {matchLabels: {group: group-%(group)d}}
  targetPorts:
  - {number: 8000}
"""
_SERVER = """\
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {name: server-%(index)d, labels: {group: group-%(group)d}}
spec:
  addresses:
  - {host: 127.0.0.1, port: %(port)d}
"""
_ROUTE = """\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: route-%(index)d}
spec:
  parentRefs: [{name: bench}]
  rules:
  - matches:
    - path: {type: PathPrefix, value: /v1}
      headers: [{name: X-Gateway-Model-Name, value: %(model)s}]
    backendRefs:
    - {group: inference.networking.k8s.io, kind: InferencePool, name: pool-%(first)d, weight: 90}
    - {group: inference.networking.k8s.io, kind: InferencePool, name: pool-%(second)d, weight: 10}
"""


def write(folder: Path, *, port: int, routes: int, pools: int, server_ports: Sequence[int]) -> None:
    """Fills the folder; every server is a group of its own."""
    (folder / "gateway.yaml").write_text(_GATEWAY % {"port": port})
    for index, server_port in enumerate(server_ports):
        text = _SERVER % {"index": index, "group": index, "port": server_port}
        (folder / f"server-{index}.yaml").write_text(text)
    for index in range(pools):
        text = _POOL % {"index": index, "group": index % len(server_ports)}
        (folder / f"pool-{index}.yaml").write_text(text)
    for index in range(routes):
        write_route(folder, index, model=f"model-{index}", pools=pools)


def write_route(folder: Path, index: int, *, model: str, pools: int) -> None:
    """One route, by rename, as editors and configuration tools do it."""
    text = _ROUTE % {
        "index": index,
        "model": model,
        "first": index % pools,
        "second": (index + 1) % pools,
    }
    draft = folder / f".route-{index}"
    draft.write_text(text)
    draft.rename(folder / f"route-{index}.yaml")
