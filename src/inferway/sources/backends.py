"""Resources for `--backend URL`, as if somebody had written manifests for these servers.

Problem: trying the gateway in front of a few running servers must not need files. Model: one
ModelServer per URL and one InferencePool `default/backends` that selects them; routing makes up
the Gateway and the catch-all route, as it does for a directory with a single pool. So there is one
road, and `inferway get` shows what is in force.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from inferway.resources.inference_pool import InferencePool
from inferway.resources.model_server import ModelServer
from inferway.resources.references import INFERENCE_GROUP
from inferway.resources.resource_set import Entry, Origin, assemble

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.resources.resource_set import ResourceSet
    from inferway.sources.snapshot import Snapshot

LABEL = "inferway.dev/backends"
POOL = "backends"
HTTP_PORT = 80


class BackendError(ValueError):
    """A backend URL that cannot be used. The text says why."""


def resources_for_backends(
    urls: Sequence[str], *, policy: str | None = None, fail_open: bool = True
) -> ResourceSet:
    """Raises BackendError for a URL that is not plain `http://host[:port]`, or is given twice."""
    for number, url in enumerate(urls):
        if url in urls[:number]:
            raise BackendError(f"backend given twice: {url}")
    entries = [
        Entry(_server(number, *_host_and_port(url)), Origin(f"--backend {url}", 1))
        for number, url in enumerate(urls)
    ]
    annotations = {"inferway.dev/failure-mode": "FailOpen" if fail_open else "FailClose"}
    if policy:
        annotations["inferway.dev/policy"] = policy
    pool = InferencePool.model_validate(
        {
            "apiVersion": f"{INFERENCE_GROUP}/v1",
            "kind": "InferencePool",
            "metadata": {"name": POOL, "annotations": annotations},
            "spec": {
                "selector": {"matchLabels": {LABEL: POOL}},
                "targetPorts": [{"number": HTTP_PORT}],
            },
        }
    )
    found, _problems = assemble([*entries, Entry(pool, Origin("--backend", 1))])
    return found


def with_servers(snapshot: Snapshot, servers: ResourceSet) -> Snapshot:
    """The snapshot with these resources before its own."""
    entries = (*servers.entries.values(), *snapshot.resources.entries.values())
    resources, conflicts = assemble(entries)
    return replace(snapshot, resources=resources, problems=(*snapshot.problems, *conflicts))


def _host_and_port(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise BackendError(f"not a URL: {url}: {error}") from error
    if parts.scheme != "http" or not parts.hostname:
        raise BackendError(f"a backend is http://host[:port], not: {url}")
    if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
        raise BackendError(f"a backend has no path, query or user: {url}")
    return parts.hostname, HTTP_PORT if port is None else port


def _server(number: int, host: str, port: int) -> ModelServer:
    try:
        return ModelServer.model_validate(
            {
                "metadata": {"name": f"backend-{number}", "labels": {LABEL: POOL}},
                "spec": {"addresses": [{"host": host, "port": port}]},
            }
        )
    except ValueError as error:
        raise BackendError(f"not a usable backend: {host}:{port}: {error}") from error
