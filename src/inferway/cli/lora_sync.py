"""`inferway lora-sync`: the adapters of model servers as a file says, beside one server or over
many.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferway.observability.logging import LogLevel

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from inferway.adapters.app import SyncOptions
    from inferway.adapters.config import SyncConfig
    from inferway.adapters.plan import Call

CONFIG_VARIABLE = "DYNAMIC_LORA_ROLLOUT_CONFIG"


def lora_sync(
    config: Annotated[
        Path,
        typer.Option(
            envvar=CONFIG_VARIABLE,
            help="Which adapters must be there: the syncer's file, or a ConfigMap that holds it.",
        ),
    ] = Path("/config/configmap.yaml"),
    server: Annotated[
        list[str] | None,
        typer.Option(
            help="A model server; may be repeated. Host and port of the file when left out.",
            metavar="URL",
        ),
    ] = None,
    manifests: Annotated[
        list[Path] | None,
        typer.Option(help="The ModelServers of these manifests, read again as they change."),
    ] = None,
    pool: Annotated[
        str | None,
        typer.Option(
            help="Of the manifests: only members of this InferencePool.",
            metavar="[NAMESPACE/]NAME",
        ),
    ] = None,
    selector: Annotated[
        str | None,
        typer.Option(
            help="Of the manifests: only ModelServers with these labels.", metavar="KEY=VALUE[,…]"
        ),
    ] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="Look once and end: 0 when all is as wanted, else 1."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Print what would be called, call nothing, end as with --once."
        ),
    ] = False,
    reconcile_trigger: Annotated[
        float, typer.Option(min=0.1, help="Seconds between looks at a server without a change.")
    ] = 5.0,
    health_check_timeout: Annotated[
        float, typer.Option(min=0, help="Seconds until a server without health is reported.")
    ] = 300.0,
    health_check_interval: Annotated[
        float, typer.Option(min=0.1, help="Seconds between looks at a server's health.")
    ] = 2.0,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Loads and unloads at once, on all servers together.")
    ] = 8,
    metrics_host: Annotated[
        str, typer.Option(help="Address of metrics and health of the syncer itself.")
    ] = "127.0.0.1",
    metrics_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of metrics and health.")
    ] = 8080,
    log_level: Annotated[LogLevel, typer.Option(help="Least important event that is shown.")] = (
        LogLevel.INFO
    ),
) -> None:
    """Keep the LoRA adapters of model servers as a file says.

    Adapters under ensureExist are loaded, those under ensureNotExist unloaded, on every change of
    the file and every few seconds, so that a server that restarts gets its adapters again. A bad
    file leaves the last good version in force.

    Examples: inferway lora-sync --config adapters.yaml · inferway lora-sync --config adapters.yaml
    --server http://10.0.0.11:8000 --server http://10.0.0.12:8000 ·
    inferway lora-sync --config adapters.yaml --manifests ./manifests --pool llm-pool ·
    inferway lora-sync --config adapters.yaml --dry-run
    """
    import asyncio

    from inferway.adapters.app import NoConfigError, SyncOptions, sync_once
    from inferway.adapters.server_sync import SyncSettings
    from inferway.cli.lora_targets import TargetError
    from inferway.cli.supervise import leaves
    from inferway.observability.logging import set_up_logging

    try:
        targets = targets_of(server or [], manifests or [], pool, selector)
    except TargetError as error:
        raise typer.BadParameter(str(error)) from error
    set_up_logging("lora-sync", level=log_level)
    options = SyncOptions(
        config=config,
        settings=SyncSettings(
            reconcile_every_s=reconcile_trigger,
            health_timeout_s=health_check_timeout,
            health_interval_s=health_check_interval,
        ),
        concurrency=concurrency,
        metrics_host=metrics_host,
        metrics_port=metrics_port,
    )
    reasons: list[str] = []
    done = True
    try:
        if once or dry_run:
            done = asyncio.run(sync_once(options, targets, dry_run=show if dry_run else None))
        else:
            asyncio.run(until_signal(options, targets))
    except* (NoConfigError, TargetError, OSError) as group:
        reasons = [str(one) for one in leaves(group)]
    if reasons:
        typer.echo(f"cannot sync: {reasons[0]}", err=True)
    if reasons or not done:
        raise typer.Exit(1)


def show(url: str, call: Call) -> None:
    """A call that a dry run would have made."""
    typer.echo(f"{url} {call}")


def targets_of(
    servers: list[str], manifests: list[Path], pool: str | None, selector: str | None
) -> Callable[[SyncConfig], Sequence[str]]:
    """Says for a configuration which servers it is for. Raises TargetError."""
    from inferway.cli.lora_targets import ManifestTargets, TargetError, labels_of
    from inferway.sources.backends import BackendError, resources_for_backends

    if servers and manifests:
        raise TargetError("--server and --manifests exclude each other")
    if not manifests and (pool is not None or selector is not None):
        raise TargetError("--pool and --selector need --manifests")
    if manifests:
        source = ManifestTargets(
            manifests, pool=pool, selector={} if selector is None else labels_of(selector)
        )
        return lambda _config: source.refresh()
    if servers:
        try:
            resources_for_backends(servers)
        except BackendError as error:
            raise TargetError(f"--server: {error}") from error
        urls = [url.rstrip("/") for url in servers]
        return lambda _config: urls
    return lambda config: [config.url]


async def until_signal(
    options: SyncOptions, targets: Callable[[SyncConfig], Sequence[str]]
) -> None:
    """Keeps the servers in sync until SIGTERM or SIGINT."""
    import asyncio
    import signal

    from inferway.adapters.app import keep_in_sync

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await keep_in_sync(options, targets, stop=stop)
