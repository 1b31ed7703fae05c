"""Manifests to a routing model on a free port of loopback, for tests that speak of both."""

from __future__ import annotations

from inferway.cli.demo.manifests import free_ports
from inferway.resources.decode import decode
from inferway.resources.resource_set import assemble
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import Translation, translate


def translated(*manifests: str) -> Translation:
    """What the manifests mean; none of them may be wrong."""
    decoded = decode("\n---\n".join(manifests).encode(), file="test.yaml")
    assert not decoded.problems, [str(one) for one in decoded.problems]
    resources, problems = assemble(decoded.entries)
    assert not problems
    (port,) = free_ports(1)
    return translate(resources, settings=RoutingSettings(port=port))


def server(name: str, port: int) -> str:
    return f"""
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: {name}, labels: {{pool: {name}}}}}
spec: {{addresses: [{{host: 127.0.0.1, port: {port}}}]}}
"""


def pool(name: str, *, annotations: str = "") -> str:
    return f"""
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {{name: {name}, annotations: {{{annotations}}}}}
spec: {{selector: {{matchLabels: {{pool: {name}}}}}, targetPorts: [{{number: 8000}}]}}
"""


def route(*rules: str, annotations: str = "") -> str:
    """An HTTPRoute; rules are flow mappings."""
    listed = "\n".join(f"  - {rule}" for rule in rules)
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: route, annotations: {{{annotations}}}}}
spec:
  rules:
{listed}
"""


def to_server(name: str, more: str = "") -> str:
    return f"{{group: inferway.dev, kind: ModelServer, name: {name}{more}}}"


def to_pool(name: str, more: str = "") -> str:
    return f"{{group: inference.networking.k8s.io, kind: InferencePool, name: {name}{more}}}"
