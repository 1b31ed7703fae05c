"""`inferway run`: the gateway, from manifests or from a list of servers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from inferway.observability.logging import LogLevel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from inferway.cli.gateway import GatewayOptions
    from inferway.sources.snapshot import Snapshot

SIMULATED_MODEL = "sim-model"


def complete_policy(incomplete: str) -> list[str]:
    from inferway.picker.scheduling.registry import POLICIES

    return [name for name in POLICIES if name.startswith(incomplete)]


def default_workers() -> int:
    """One core is left to the picker."""
    return max(1, (os.cpu_count() or 2) - 1)


def run(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Manifests: files, or directories that are watched.", show_default=False
        ),
    ] = None,
    backend: Annotated[
        list[str] | None,
        typer.Option(help="A model server, instead of manifests; may be repeated.", metavar="URL"),
    ] = None,
    sim: Annotated[
        int | None,
        typer.Option(min=1, help="So many simulated model servers, instead of manifests."),
    ] = None,
    simulate: Annotated[
        bool,
        typer.Option("--simulate", help="Simulate every ModelServer of the manifests."),
    ] = False,
    speed: Annotated[float, typer.Option(help="Of simulated servers: times real time.")] = 1.0,
    host: Annotated[
        str, typer.Option(help="IP address of listeners whose Gateway gives none.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port when the manifests have no Gateway.")
    ] = 8080,
    admin_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of health, metrics and status on 127.0.0.1.")
    ] = 9090,
    policy: Annotated[
        str,
        typer.Option(help="How pools that name no policy choose.", autocompletion=complete_policy),
    ] = "marginal-cost",
    picker_config: Annotated[
        Path | None,
        typer.Option(
            help="An EndpointPickerConfig, for pools that name none; the file is watched.",
            show_default=False,
        ),
    ] = None,
    plugin_dir: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            exists=True,
            help="Pools may run plugins from Python files in it (FILE.py:NAME); they are watched.",
            show_default=False,
        ),
    ] = None,
    envoy_workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker threads of Envoy; one less than cores when left out."),
    ] = None,
    scrape_cost: Annotated[
        float,
        typer.Option(
            min=0.001, max=1, help="Share of one core that reading servers' metrics may use."
        ),
    ] = 0.05,
    explain_decisions: Annotated[
        int,
        typer.Option(
            min=0, max=1_000_000, help="Decisions to remember for `inferway explain`; 0: none."
        ),
    ] = 8_192,
    drain_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds that running requests get at the end.")
    ] = 30.0,
    log_level: Annotated[
        LogLevel, typer.Option(help="Least important event that is shown.")
    ] = LogLevel.WARNING,
) -> NoReturn:
    """Run the gateway until SIGTERM or Ctrl-C, then drain.

    Examples: inferway run ./manifests · inferway run --backend http://127.0.0.1:8000 ·
    inferway run --sim 4
    """
    from inferway.cli.gateway import GatewayOptions
    from inferway.control.system_authorities import system_ca_file
    from inferway.envoy.settings import EnvoySettings
    from inferway.observability.logging import set_up_logging
    from inferway.picker.config import ExplainConfig, ScrapeConfig
    from inferway.picker.plugin_library import entry_point_names
    from inferway.picker.scheduling.registry import POLICIES
    from inferway.resources.picker_plugins.registry import is_file_type
    from inferway.routing.picker_config import is_ip
    from inferway.routing.settings import RoutingSettings

    check_sources(paths, backend, sim, simulate=simulate)
    policies = (*POLICIES, *entry_point_names())
    is_file = plugin_dir is not None and is_file_type(policy)
    if policy not in policies and not is_file:
        raise typer.BadParameter(f"--policy: {policy!r} is not one of {', '.join(policies)}")
    if not is_ip(host):
        raise typer.BadParameter(f"--host: not an IP address: {host}")
    set_up_logging("control", level=log_level)
    options = GatewayOptions(
        routing=RoutingSettings(
            listen_address=host,
            port=port,
            default_policy=policy,
            policies=policies,
            plugin_files=plugin_dir is not None,
            picker_config_file=str(picker_config) if picker_config else "",
            system_ca_file=system_ca_file(),
        ),
        envoy=EnvoySettings(),
        plugin_directory=plugin_dir.resolve() if plugin_dir else None,
        admin_port=admin_port,
        envoy_workers=envoy_workers or default_workers(),
        scrape=ScrapeConfig(cost_max_ratio=scrape_cost),
        explain=ExplainConfig(decisions_max=explain_decisions),
        drain_timeout_s=drain_timeout,
        log_level=log_level,
    )
    raise typer.Exit(
        start(options, paths or [], backend or [], sim, simulate=simulate, speed=speed)
    )


def check_sources(
    paths: list[Path] | None, backend: list[str] | None, sim: int | None, *, simulate: bool
) -> None:
    given = [name for name, one in (("PATH", paths), ("--backend", backend), ("--sim", sim)) if one]
    if len(given) != 1:
        what = "nothing to serve" if not given else f"{' and '.join(given)} exclude each other"
        raise typer.BadParameter(f"{what}: give manifests, --backend URL or --sim N")
    if simulate and not paths:
        raise typer.BadParameter("--simulate needs manifests with ModelServers")


def start(
    options: GatewayOptions,
    paths: list[Path],
    backends: list[str],
    sim: int | None,
    *,
    simulate: bool,
    speed: float,
) -> int:
    """The exit code. Everything that a person must know is on stderr."""
    import asyncio
    from dataclasses import replace

    from inferway.cli.demo.manifests import free_ports
    from inferway.cli.gateway import StartError, StoppedError
    from inferway.sources.backends import BackendError

    arguments: list[str] = []
    if sim:
        ports = free_ports(sim)
        backends = [f"http://127.0.0.1:{one}" for one in ports]
        arguments = ["--ports", ",".join(map(str, ports)), "--model", SIMULATED_MODEL]
    elif simulate:
        arguments = [str(path) for path in paths]
    if arguments:
        options = replace(options, simulator=(*arguments, "--speed", str(speed)))
    try:
        asyncio.run(serve(options, paths, backends))
    except (StartError, BackendError) as error:
        typer.echo(f"inferway cannot start: {error}", err=True)
        return 1
    except StoppedError as error:
        typer.echo(f"inferway had to stop: {error}", err=True)
        return 1
    return 0


async def serve(options: GatewayOptions, paths: list[Path], backends: list[str]) -> None:
    """Runs the gateway until a signal. A second signal ends the draining at once."""
    import asyncio
    import signal

    from inferway.cli.gateway import (
        Gateway,
        StartError,
        checked_program,
        private_run_directory,
        single,
    )
    from inferway.cli.status_line import StatusLine
    from inferway.resources import ResourceSet
    from inferway.sources.backends import resources_for_backends, with_servers
    from inferway.sources.directory import load
    from inferway.sources.snapshot import Snapshot
    from inferway.sources.watching import watch

    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        (hurry if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    snapshots: AsyncIterator[Snapshot]
    config_file = options.routing.picker_config_file
    # First, so that it keeps its name when it is in one of the directories as well.
    files = [*([Path(config_file)] if config_file else []), *paths]
    servers = resources_for_backends(backends) if backends else ResourceSet()
    if files:
        first = with_servers(load(files), servers)
        snapshots = (with_servers(one, servers) async for one in watch(files, loop.time, stop))
    else:
        first = Snapshot(servers, (), loop.time())
        snapshots = single(first)
    if config_file and not first.has_errors:
        found = first.resources.picker_configs
        if not any(first.resources.origin(one).file == config_file for one in found):
            raise StartError(f"--picker-config: no EndpointPickerConfig in {config_file}")
    with private_run_directory() as directory:
        program = checked_program(options, first, directory)
        line = StatusLine(options, clock=loop.time)
        try:
            await Gateway(options, program, snapshots, hurry=hurry).run(stop, line.start)
        finally:
            line.stop()
