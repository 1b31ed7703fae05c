"""`inferway picker`: the endpoint picker alone, as `inferway run` starts it and as a container runs
it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inferway.observability.logging import LogLevel


def picker(
    pick_socket: Annotated[
        Path, typer.Option(help="Unix socket on which Envoy's filter asks.", show_default=False)
    ],
    control_socket: Annotated[
        Path | None, typer.Option(help="Unix socket of the control plane, for configuration.")
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
    log_level: Annotated[LogLevel, typer.Option(help="Least important event that is shown.")] = (
        LogLevel.INFO
    ),
) -> None:
    """Run the endpoint picker.

    Example: inferway picker --pick-socket /run/inferway/pick.sock --control-socket
    /run/inferway/control.sock
    """
    import asyncio
    import signal

    import uvloop

    from inferway.cli.supervise import leaves
    from inferway.observability.logging import set_up_logging
    from inferway.picker.app import run_picker

    async def until_signal() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await run_picker(pick_socket, control_socket, None, stop=stop, plugin_directory=plugin_dir)

    set_up_logging("picker", level=log_level)
    reasons: list[Exception] = []
    try:
        uvloop.run(until_signal())
    except* OSError as group:
        reasons = leaves(group)
    if reasons:
        typer.echo(f"cannot start: {reasons[0]}", err=True)
        raise typer.Exit(1)
