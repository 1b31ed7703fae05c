"""The admin API: health, metrics, resources with their status, the state of every part. Read-only,
loopback by default.

It shows what the reconciler, the picker's last report and Envoy's administration say; it keeps
nothing of its own. The gateway's data path does not depend on it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

from inferway import __version__
from inferway.control.explaining import explained
from inferway.resources.kinds import find_kind
from inferway.routing.picker_config import hosts_to_resolve

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from inferway.control.reconciler import Reconciler
    from inferway.picker.config import PickerStatus
    from inferway.picker.explain_messages import ExplainAnswer, ExplainQuery
    from inferway.resources import ResourceKey
    from inferway.resources.resource_set import Resource

JsonObject = dict[str, object]


class Admin:
    """The routes. `parts` answers the state of each process, `own_metrics` and `envoy_metrics`
    Prometheus text, `rollouts` every roll-out with its status; `explain` asks the picker.
    `directory` is where relative names of manifest files begin.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        *,
        picker_status: Callable[[], PickerStatus | None],
        parts: Callable[[], JsonObject],
        own_metrics: Callable[[], str],
        envoy_metrics: Callable[[], Awaitable[str]],
        ready: Callable[[], bool],
        rollouts: Callable[[], dict[ResourceKey, JsonObject]],
        explain: Callable[[ExplainQuery], Awaitable[ExplainAnswer]],
        directory: str,
    ) -> None:
        self._reconciler = reconciler
        self._picker_status = picker_status
        self._parts = parts
        self._own_metrics = own_metrics
        self._envoy_metrics = envoy_metrics
        self._ready = ready
        self._rollouts = rollouts
        self._explain = explain
        self._directory = directory

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/version", self._version)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/metrics/envoy", self._metrics_of_envoy)
        app.router.add_get("/admin/status", self._status)
        app.router.add_get("/admin/resources", self._resources)
        app.router.add_get("/admin/rollouts", self._list_rollouts)
        app.router.add_get("/admin/explain", self._list_decisions)
        app.router.add_get("/admin/explain/{request_id:.+}", self._explain_request)
        return app

    async def _healthz(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        ready = self._ready()
        return web.Response(
            text="ready\n" if ready else "not ready\n", status=200 if ready else 503
        )

    async def _version(self, _request: web.Request) -> web.Response:
        return web.json_response({"version": __version__})

    async def _metrics(self, _request: web.Request) -> web.Response:
        status = self._picker_status()
        text = self._own_metrics() + (status.metrics if status else "")
        return web.Response(text=text, headers={"content-type": "text/plain; version=0.0.4"})

    async def _metrics_of_envoy(self, _request: web.Request) -> web.Response:
        text = await self._envoy_metrics()
        return web.Response(text=text, headers={"content-type": "text/plain; version=0.0.4"})

    async def _status(self, _request: web.Request) -> web.Response:
        view = self._reconciler.view
        status = self._picker_status()
        model = view.translation.model if view.translation else None
        return web.json_response(
            {
                "version": __version__,
                "directory": self._directory,
                "ready": self._ready(),
                "in_effect": self._reconciler.in_effect,
                "parts": self._parts(),
                "listeners": [
                    {"name": one.name, "address": one.address, "port": one.port}
                    for one in (model.listeners if model else ())
                ],
                "pools": [
                    pool.model_dump(mode="json") for pool in (status.pools if status else ())
                ],
                "unresolved_names": sorted(
                    set(hosts_to_resolve(model) if model else ())
                    - set(self._reconciler.resolver.addresses)
                ),
                "envoy_error": view.envoy_error,
                "picker_up_s": status.up_s if status else None,
                "picker_error": status.error if status else "",
                "problems": [
                    {"severity": problem.severity.value, "text": str(problem)}
                    for problem in view.problems
                ],
                "warnings": [
                    warning.message
                    for warning in (view.translation.warnings if view.translation else ())
                ],
            }
        )

    async def _resources(self, request: web.Request) -> web.Response:
        """Query: `kind` (any spelling), `namespace` (cluster-scoped objects are in all), `name`."""
        wanted = request.query.get("kind", "")
        info = find_kind(wanted) if wanted else None
        if wanted and info is None:
            return web.json_response({"error": f"unknown kind: {wanted}"}, status=404)
        found = [
            self.document(resource)
            for resource in self._reconciler.view.resources
            if (info is None or resource.kind == info.kind)
            and (
                not resource.namespace
                or request.query.get("namespace", resource.namespace) == resource.namespace
            )
            and request.query.get("name") in {None, resource.name}
        ]
        return web.json_response({"items": found})

    async def _list_rollouts(self, _request: web.Request) -> web.Response:
        return web.json_response({"items": list(self._rollouts().values())})

    async def _list_decisions(self, request: web.Request) -> web.Response:
        """The newest decisions. Query: `pool`, `endpoint`, `outcome`, `newest`, `candidates`."""
        return await explained(self._explain, request)

    async def _explain_request(self, request: web.Request) -> web.Response:
        """Every decision about one request. Query: as above."""
        return await explained(self._explain, request)

    def document(self, resource: Resource) -> JsonObject:
        """A resource as a manifest, with its status and where it was read."""
        view = self._reconciler.view
        document = resource.manifest()
        metadata = document["metadata"]
        if not resource.namespace and isinstance(metadata, dict):
            metadata.pop("namespace", None)  # a default that a cluster-scoped object does not have
        status = view.statuses.get(resource.key)
        if status is not None:
            document["status"] = status.manifest()
        else:
            document["status"] = self._rollouts().get(resource.key, {}).get("status", {})
        document["origin"] = str(view.resources.origin(resource))
        return document
