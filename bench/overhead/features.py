"""Our own gateway with one feature of a route in use, to be compared with its plain path.

Every arm has the same two backends as the others; where a feature needs a second pool, both pools
have both. So whatever differs is the feature's doing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.overhead.arms import MODEL, TARGET, Arm, run_inferway

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_POOL = """
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: {name}}}
spec: {{selector: {{matchLabels: {{bench: backend}}}}, targetPorts: [{{number: 8000}}]}}
---
"""
_SERVER = """
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: backend-{port}, labels: {{bench: backend}}}}
spec: {{addresses: [{{host: 127.0.0.1, port: {port}}}]}}
---
"""
_ROUTE = """
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: bench, annotations: {{{annotations}}}}}
spec:
  rules:
  - {rule}
"""


def _to(name: str, more: str = "") -> str:
    return f"{{group: inference.networking.k8s.io, kind: InferencePool, name: {name}{more}}}"


def _mirror(percent: int) -> str:
    mirror = f"{{backendRef: {_to('other')}, percent: {percent}}}"
    filters = f"[{{type: RequestMirror, requestMirror: {mirror}}}]"
    return f"{{filters: {filters}, backendRefs: [{_to('main')}]}}"


_SPLIT = f"{{backendRefs: [{_to('main', ', weight: 90')}, {_to('other', ', weight: 10')}]}}"
_STICKY = "inferway.dev/sticky-weights: 'header:x-session-id'"
_RENAME = f"""---
apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata: {{name: bench}}
spec:
  poolRef: {{name: main}}
  rules:
  - matches: [{{model: {{value: {MODEL}}}}}]
    targets: [{{modelRewrite: {TARGET}}}]
"""
RULES = {
    "weights": (_SPLIT, "", ""),
    "weights-sticky": (_SPLIT, _STICKY, ""),
    "mirror-10": (_mirror(10), "", ""),
    "mirror-100": (_mirror(100), "", ""),
    "rename": (f"{{backendRefs: [{_to('main')}]}}", "", _RENAME),
}
"""Arm to the only rule of its route, the route's annotations, and what else it needs."""

COPIES = {"mirror-10": 0.1, "mirror-100": 1.0}
"""Arm to mirrored copies per request."""


def makers() -> dict[str, Callable[[list[int], Path], Arm]]:
    """How to start each arm, by its name."""

    def maker(
        name: str, rule: str, annotations: str, more: str
    ) -> Callable[[list[int], Path], Arm]:
        def start(backends: list[int], work: Path) -> Arm:
            folder = work / f"manifests-{name}"
            folder.mkdir()
            servers = "".join(_SERVER.format(port=port) for port in backends)
            pools = _POOL.format(name="main") + _POOL.format(name="other")
            route = _ROUTE.format(rule=rule, annotations=annotations)
            (folder / "all.yaml").write_text(servers + pools + route + more)
            return run_inferway(name, work, str(folder))

        return start

    return {name: maker(name, *written) for name, written in RULES.items()}
