"""The gateway as one program: control in this process, the other parts beside it.

Problem: parts must start in order, be watched, and end in order without cutting a running stream.
Model: `checked_program` refuses what can be known first (parts missing, manifests bad, ports
taken); `Gateway.run` starts everything in one task group, waits until traffic would flow, and on
`stop` drains: no new connections, running requests finish within a bound, then Envoy, the picker
and the simulator end. Invariants: a failure to start is a `StartError` with a reason a person can
act on; nothing is left running; the run directory is private and removed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import shutil
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from inferway.cli.supervise import Command, Part, PartFailedError, keep_up, leaves
from inferway.control.addresses import on_this_machine
from inferway.control.admin import Admin
from inferway.control.health import HealthWatch, until_backends_serve
from inferway.control.metrics import ControlMetrics
from inferway.control.reconciler import Outputs, Reconciler, refusal_text
from inferway.control.rollout_report import report
from inferway.control.rollouts import RolloutDriver
from inferway.envoy.admin import AdminUnavailableError
from inferway.envoy.ads import AdsServer
from inferway.envoy.binary import MissingPartError, find_envoy, find_filter
from inferway.envoy.bootstrap import RunDirectory
from inferway.envoy.ports import port_problem
from inferway.envoy.process import EnvoyFailedError, EnvoyProcess, EnvoyProgram
from inferway.envoy.settings import EnvoySettings
from inferway.envoy.snapshot import build_snapshot
from inferway.observability.logging import LogLevel, get_logger
from inferway.picker.config import ExplainConfig, PickerConfig, ScrapeConfig
from inferway.picker.link_server import PickerLink
from inferway.routing.translate import translate
from inferway.sources.object_files import ObjectFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from inferway.envoy.logs import EnvoyLine
    from inferway.picker.config import PickerStatus
    from inferway.resources import ResourceKey
    from inferway.resources.text_edit import ObjectName
    from inferway.routing.settings import RoutingSettings
    from inferway.sources.snapshot import Snapshot

log = get_logger("gateway")

READY_TIMEOUT_S = 30.0
# What is called ready should serve. Other people's servers may be down for reasons of their own, so
# a backend without a healthy one is waited for briefly; servers that we start come for sure.
SERVERS_PATIENCE_S = 5.0
SIMULATOR_PATIENCE_S = 20.0


class StartError(Exception):
    """The gateway cannot start. The text is for people."""


class StoppedError(Exception):
    """The gateway ran and had to stop. The text is for people."""


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """What `inferway run` was told."""

    routing: RoutingSettings
    envoy: EnvoySettings
    admin_address: str = "127.0.0.1"
    admin_port: int = 9090
    envoy_workers: int = 1
    scrape: ScrapeConfig = field(default_factory=ScrapeConfig)
    plugin_directory: Path | None = None  # None: plugins from files are off
    explain: ExplainConfig = field(default_factory=ExplainConfig)
    drain_timeout_s: float = 30.0
    log_level: LogLevel = LogLevel.INFO
    simulator: tuple[str, ...] = ()  # arguments of `inferway sim`; empty: no simulated servers


class EnvoyPart:
    """Envoy for the supervisor: a new process for every life."""

    name = "envoy"

    def __init__(self, program: EnvoyProgram) -> None:
        self.restarts = 0
        self.process = EnvoyProcess(program, on_line=self._log)
        self._program = program

    async def run_once(self) -> int:
        self.process = EnvoyProcess(self._program, on_line=self._log)
        await self.process.start()
        return await self.process.wait()

    def _log(self, line: EnvoyLine) -> None:
        report = {LogLevel.ERROR: log.error, LogLevel.WARNING: log.warning}.get(
            line.level, log.info
        )
        report("envoy", logger_name=line.logger, message=line.message)


def checked_program(options: GatewayOptions, first: Snapshot, run: RunDirectory) -> EnvoyProgram:
    """Everything that can go wrong and can be known before starting anything. Raises StartError."""
    errors = [str(problem) for problem in first.problems if problem.is_error]
    if errors:
        raise StartError("the manifests have errors:\n  " + "\n  ".join(errors))
    try:
        program = EnvoyProgram(
            find_envoy(), find_filter(), run, options.envoy, concurrency=options.envoy_workers
        )
    except MissingPartError as error:
        raise StartError(str(error)) from error
    settings = on_this_machine(options.routing, first.resources)
    model = translate(first.resources, settings=settings).model
    if not model.listeners:
        raise StartError(
            "the manifests give no listener to serve on (hint: `inferway validate` says why)"
        )
    places = [(one.address, one.port) for one in model.listeners]
    places.append((options.admin_address, options.admin_port))
    problems = [port_problem(address, port) for address, port in dict.fromkeys(places)]
    found = [problem for problem in problems if problem]
    if found:
        raise StartError("\n".join(found))
    return program


class Gateway:
    """One gateway over a source of snapshots. Make it inside a running event loop."""

    def __init__(
        self,
        options: GatewayOptions,
        program: EnvoyProgram,
        snapshots: AsyncIterator[Snapshot],
        *,
        hurry: asyncio.Event,
    ) -> None:
        """`hurry`, once set, ends draining at once."""
        self._options = options
        self._hurry = hurry
        self._snapshots = snapshots
        self._directory = program.run
        self._control_socket = self._directory.path / "control.sock"
        self._stopping = asyncio.Event()
        self.metrics = ControlMetrics()
        self.link = PickerLink(on_status=self._on_picker_status)
        self.ads = AdsServer(on_state=lambda _state: self._on_state())
        self.health = HealthWatch(
            self._cluster_states,
            changed=self._on_state,
            clock=asyncio.get_running_loop().time,
        )
        self.reconciler = Reconciler(
            Outputs(
                publish_xds=self.ads.offer,
                publish_picker=self.link.publish,
                programming=lambda: self.ads.state,
                picker_status=self._picker_status,
                unhealthy=lambda: self.health.unhealthy,
            ),
            routing=options.routing,
            build=lambda model, resolved, models: build_snapshot(
                model,
                resolved=resolved,
                models=models,
                settings=options.envoy,
                pick_socket=self._directory.pick_socket,
            ),
            picker_defaults=PickerConfig(version=0, scrape=options.scrape, explain=options.explain),
            metrics=self.metrics,
            clock=asyncio.get_running_loop().time,
            now=lambda: datetime.now(UTC),
        )
        self.rollouts = RolloutDriver(
            self.reconciler,
            ObjectFiles(self._file_of),
            picker_status=self._picker_status,
            metrics=self.metrics,
            now=lambda: datetime.now(UTC),
        )
        self.picker = Command("picker", self._picker_command())
        self.simulator = Command("simulator", self._simulator_command())
        self.envoy = EnvoyPart(program)
        self._came_up = False
        self._draining = False

    @property
    def ready(self) -> bool:
        """Whether new requests are welcome: it came up, does not drain, and Envoy runs."""
        return self._came_up and not self._draining and self.envoy.process.pid is not None

    async def run(self, stop: asyncio.Event, on_ready: Callable[[Gateway], None]) -> None:
        """Serves until `stop`, then drains. Raises StartError when it does not come up, and
        StoppedError when it did and then a part kept dying.
        """
        runner = await self._open()
        reasons: list[str] = []
        try:
            await self._serve(stop, on_ready)
        except* (PartFailedError, StartError, EnvoyFailedError, OSError) as group:
            reasons += [str(reason) for reason in leaves(group)]
        finally:
            await runner.cleanup()
            await self.ads.stop()
        if reasons:
            raise (StoppedError if self._came_up else StartError)(reasons[0])

    async def _open(self) -> web.AppRunner:
        """Control's own sockets, before anything else runs."""
        try:
            self._directory.prepare()
            await self.ads.start(self._directory.discovery_socket)
            return await self._start_admin()
        except OSError as error:
            await self.ads.stop()
            raise StartError(str(error)) from error

    async def _serve(self, stop: asyncio.Event, on_ready: Callable[[Gateway], None]) -> None:
        parts: list[Part] = [
            self.picker,
            self.envoy,
            *([self.simulator] if self._options.simulator else []),
        ]
        async with asyncio.TaskGroup() as tasks:
            background = [
                tasks.create_task(self.link.serve(self._control_socket)),
                tasks.create_task(self.reconciler.run(self._snapshots)),
                tasks.create_task(self.health.run()),
                tasks.create_task(self.rollouts.run()),
                *(
                    tasks.create_task(keep_up(part, self._stopping, on_restart=self._on_restart))
                    for part in parts
                ),
            ]
            try:
                await self._until_ready(stop)
                await self._until_served(stop)
                if not stop.is_set():
                    self._came_up = True
                    # Resources live long: a full collection would walk over all of them (some 35 ms
                    # with 500 routes), in the middle of applying a change.
                    gc.freeze()
                    on_ready(self)
                    await stop.wait()
            finally:
                await self._shut_down()
                for task in background:
                    task.cancel()

    async def _until_ready(self, stop: asyncio.Event) -> None:
        """Until Envoy serves and picks follow the newest configuration, or `stop`."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not stop.is_set():
                    if self.reconciler.in_effect and self._asks() and await self._envoy_ready():
                        return
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise StartError(self._why_not_ready()) from None

    async def _until_served(self, stop: asyncio.Event) -> None:
        """Until every backend has a server, within the patience: some checks came before the
        servers did, and Envoy asks again only after a while.
        """
        patience_s = SIMULATOR_PATIENCE_S if self._options.simulator else SERVERS_PATIENCE_S
        waiting = await until_backends_serve(self._cluster_states, stop, patience_s=patience_s)
        if waiting and not stop.is_set():
            log.warning("ready_without_healthy_server", backends=waiting)

    def _why_not_ready(self) -> str:
        status = self.link.status
        refusals = (
            self.reconciler.view.envoy_error,
            refusal_text(self.ads.state),
            status.error if status else "",
            self.envoy.process.complaint,
        )
        why = next((f": {one}" for one in refusals if one), "")
        return (
            f"not ready after {READY_TIMEOUT_S:g} s: Envoy {self.ads.state.phase.value}, "
            f"picker {'connected' if self.link.connected else 'not connected'}{why}"
        )

    def _asks(self) -> bool:
        """Whether Envoy's filter has found the picker: before that, pools would fail open."""
        status = self.link.status
        return status is not None and status.filters > 0

    async def _envoy_ready(self) -> bool:
        try:
            return await self.envoy.process.admin.ready()
        except AdminUnavailableError:
            return False

    async def _shut_down(self) -> None:
        """Drain, then end every part; each step is bounded."""
        self._stopping.set()
        self._draining = True
        await self._drain()
        await self.envoy.process.stop()
        await self.picker.stop()
        await self.simulator.stop()

    async def _drain(self) -> None:
        """Until no request runs, the drain time is over, or somebody is in a hurry."""
        timeout_s = self._options.drain_timeout_s
        loop = asyncio.get_running_loop()
        started_s = loop.time()
        async with asyncio.TaskGroup() as tasks:
            drain = tasks.create_task(self.envoy.process.drain(timeout_s=timeout_s))
            hurry = tasks.create_task(self._hurry.wait())
            done, pending = await asyncio.wait({drain, hurry}, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
        drained = drain in done and drain.result()
        if not drained:
            log.warning("requests_cut_off", after_s=round(loop.time() - started_s, 1))

    async def _start_admin(self) -> web.AppRunner:
        admin = Admin(
            self.reconciler,
            picker_status=self._picker_status,
            parts=self.parts,
            own_metrics=self.metrics.text,
            envoy_metrics=self._envoy_metrics,
            ready=lambda: self.ready,
            rollouts=self._rollout_reports,
            explain=self.link.explain,
            directory=str(Path.cwd()),
        )
        runner = web.AppRunner(admin.application(), access_log=None)
        await runner.setup()
        await web.TCPSite(runner, self._options.admin_address, self._options.admin_port).start()
        return runner

    async def _cluster_states(self) -> str:
        return await self.envoy.process.admin.cluster_states()

    async def _envoy_metrics(self) -> str:
        try:
            return await self.envoy.process.admin.statistics()
        except AdminUnavailableError as error:
            raise web.HTTPServiceUnavailable(text=f"{error}\n") from error

    def parts(self) -> dict[str, object]:
        """Process ids and restarts, for people and tests."""
        return {
            "picker": {
                "pid": self.picker.pid,
                "restarts": self.picker.restarts,
                "connected": self.link.connected,
            },
            "envoy": {
                "pid": self.envoy.process.pid,
                "restarts": self.envoy.restarts,
                "configuration": self.ads.state.phase.value,
            },
            "simulator": {"pid": self.simulator.pid, "restarts": self.simulator.restarts},
        }

    def _file_of(self, name: ObjectName) -> str | None:
        """The manifest file that holds an object."""
        for key, entry in self.reconciler.view.resources.entries.items():
            if (key.kind, key.namespace, key.name) == (name.kind, name.namespace, name.name):
                return entry.origin.file
        return None

    def _rollout_reports(self) -> dict[ResourceKey, dict[str, object]]:
        now = datetime.now(UTC)
        return {key: report(live, now=now) for key, live in self.rollouts.live.items()}

    def _picker_status(self) -> PickerStatus | None:
        return self.link.status

    def _on_picker_status(self, _status: PickerStatus) -> None:
        self.reconciler.changed()

    def _on_state(self) -> None:
        self.reconciler.changed()

    def _on_restart(self, part: str) -> None:
        self.metrics.restarts.labels(part).inc()

    def _picker_command(self) -> list[str]:
        plugins = self._options.plugin_directory
        return [
            *(sys.executable, "-m", "inferway", "picker"),
            *("--pick-socket", str(self._directory.pick_socket)),
            *("--control-socket", str(self._control_socket)),
            *("--log-level", self._options.log_level.value),
            *(("--plugin-dir", str(plugins)) if plugins else ()),
        ]

    def _simulator_command(self) -> list[str]:
        return [sys.executable, "-m", "inferway", "sim", *self._options.simulator]


async def single(snapshot: Snapshot) -> AsyncIterator[Snapshot]:
    """A source that never changes."""
    yield snapshot
    await asyncio.Event().wait()


@contextlib.contextmanager
def private_run_directory() -> Iterator[RunDirectory]:
    """A new directory that only we can enter; removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="inferway-"))
    try:
        yield RunDirectory(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)
