"""Which servers `inferway lora-sync` looks after when they stand in manifests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.observability.logging import get_logger
from inferway.routing.pools import ServerIndex, server_endpoints
from inferway.sources.directory import DirectorySource

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from inferway.resources import InferencePool, ModelServer, ResourceSet

log = get_logger("adapters")

ENGINE = "vllm"  # whose routes the syncer calls


class TargetError(ValueError):
    """No server can be named. The text is for people."""


def labels_of(text: str) -> dict[str, str]:
    """`key=value,key=value` as labels. Raises TargetError."""
    labels = {}
    for part in text.split(","):
        key, is_pair, value = part.strip().partition("=")
        if not is_pair or not key:
            raise TargetError(f"--selector: not key=value: {part.strip() or text}")
        labels[key] = value
    return labels


class ManifestTargets:
    """The URLs of the servers in a directory, read again whenever it is asked."""

    def __init__(
        self, paths: Sequence[Path], *, pool: str | None, selector: Mapping[str, str]
    ) -> None:
        self._source = DirectorySource(paths)
        self._pool = pool
        self._selector = selector
        self._urls: tuple[str, ...] = ()
        self._skipped: frozenset[str] = frozenset()

    def refresh(self) -> tuple[str, ...]:
        """In order of their names. Raises TargetError when the pool does not exist at first."""
        if self._source.refresh():
            snapshot = self._source.snapshot(changed_at=0.0)
            for problem in snapshot.problems:
                if problem.is_error:
                    log.error("manifest_is_bad", problem=str(problem))
            self._urls = self._targets(snapshot.resources)
        return self._urls

    def _targets(self, resources: ResourceSet) -> tuple[str, ...]:
        members = [
            (server, ports)
            for server, ports in with_ports(resources, self._pools(resources), self._pool)
            if self._selector.items() <= server.metadata.labels.items()
        ]
        skipped = frozenset(
            server.qualified_name for server, _ports in members if server.spec.engine != ENGINE
        )
        for name in sorted(skipped - self._skipped):
            log.warning("server_skipped", server=name, reason=f"its engine is not {ENGINE}")
        self._skipped = skipped
        urls: dict[str, None] = {}
        for server, ports in members:
            if server.spec.engine == ENGINE:
                for endpoint in server_endpoints(server, ports):
                    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
                    urls[f"http://{host}:{endpoint.port}"] = None
        return tuple(urls)

    def _pools(self, resources: ResourceSet) -> list[InferencePool]:
        if self._pool is None:
            return list(resources.pools)
        wanted = self._pool if "/" in self._pool else f"default/{self._pool}"
        found = [pool for pool in resources.pools if pool.qualified_name == wanted]
        if not found and not self._urls:
            known = ", ".join(pool.qualified_name for pool in resources.pools) or "none"
            raise TargetError(f"--pool: no InferencePool {wanted} in the manifests; there: {known}")
        return found


def with_ports(
    resources: ResourceSet, pools: Iterable[InferencePool], only: str | None
) -> Iterator[tuple[ModelServer, tuple[int, ...]]]:
    """Servers by name, each with the target ports of the pools that select it; with `only`, just
    those that are selected.
    """
    ports: dict[str, dict[int, None]] = {}
    index = ServerIndex(resources.model_servers)
    for pool in pools:
        labels = pool.spec.selector.match_labels
        for server in index.select(namespace=pool.namespace, labels=labels):
            of_server = ports.setdefault(server.qualified_name, {})
            of_server.update(dict.fromkeys(port.number for port in pool.spec.target_ports))
    for server in sorted(resources.model_servers, key=lambda one: one.qualified_name):
        if only is None or server.qualified_name in ports:
            yield server, tuple(ports.get(server.qualified_name, ()))
