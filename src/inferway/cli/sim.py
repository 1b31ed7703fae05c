"""`inferway sim`: simulated model servers, for trying routes, policies and faults without a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from inferway.simulator.app import SimOptions

ANNOTATION = "simulator.inferway.dev/"


def complete_engine(incomplete: str) -> list[str]:
    from inferway.simulator.parameters import PARAMETER_SETS

    return [name for name in PARAMETER_SETS if name.startswith(incomplete)]


def sim(
    manifests: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Simulate every ModelServer of these manifests at its own address, as its "
            "annotations simulator.inferway.dev/{model,engine,adapters} say.",
            show_default=False,
        ),
    ] = None,
    servers: Annotated[int, typer.Option(min=1, help="How many servers.")] = 1,
    model: Annotated[str, typer.Option(help="Name of the base model.")] = "sim-model",
    adapters: Annotated[str, typer.Option(help="LoRA adapters, separated by commas.")] = "",
    engine: Annotated[
        str,
        typer.Option(help="Engine and hardware to imitate.", autocompletion=complete_engine),
    ] = "llama-3-8b-h100",
    host: Annotated[str, typer.Option(help="Address to bind.")] = "127.0.0.1",
    ports: Annotated[
        str, typer.Option(help="Ports, separated by commas; free ones when left out.")
    ] = "",
    speed: Annotated[float, typer.Option(help="Times faster than real time.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    kv_events_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Publish KV cache events over ZeroMQ as vLLM does: the first server here, each "
            "further one a port higher.",
            show_default=False,
        ),
    ] = None,
    kv_replay_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The same for missed events.", show_default=False),
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="A fault from the start, such as hang or cut_stream,after_chunks=5; may be "
            "repeated. Change faults later at POST /sim/faults.",
            metavar="MODE[,FIELD=VALUE…]",
        ),
    ] = None,
) -> None:
    """Run simulated model servers with vLLM's HTTP surface and metrics.

    Addresses are printed on stdout, one per line, once they accept connections.

    Examples: inferway sim --servers 4 --model llama --speed 10 · inferway sim ./manifests
    """
    import asyncio

    from inferway.cli.supervise import leaves
    from inferway.observability.logging import set_up_logging
    from inferway.simulator.app import SimOptions
    from inferway.simulator.faults import FaultRule

    set_up_logging("simulator")
    try:
        if manifests:
            options = options_of(manifests, speed=speed, seed=seed)
        else:
            numbers = tuple(port_number(port) for port in names(ports))
            options = [
                SimOptions(
                    model=model,
                    adapters=names(adapters),
                    engine=engine,
                    servers=len(numbers) or servers,
                    host=host,
                    ports=numbers,
                    speed=speed,
                    seed=seed,
                    faults=tuple(FaultRule.from_text(one) for one in fault or ()),
                    kv_events_port=kv_events_port,
                    kv_replay_port=kv_replay_port,
                )
            ]
        for one in options:
            one.parameters()
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    reasons: list[Exception] = []
    try:
        asyncio.run(serve_all(options))
    except* OSError as group:
        reasons = leaves(group)
    if reasons:
        typer.echo(f"cannot start: {reasons[0]}", err=True)
        raise typer.Exit(1)


def names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def port_number(text: str) -> int:
    """ValueError when it is none."""
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError(f"--ports: not a port: {text}")
    return int(text)


def options_of(manifests: list[Path], *, speed: float, seed: int) -> list[SimOptions]:
    """One simulated server per ModelServer address. ValueError when one cannot be simulated."""
    from ipaddress import ip_address

    from inferway.routing.pools import server_endpoints
    from inferway.simulator.app import SimOptions
    from inferway.sources.directory import load

    snapshot = load(manifests)
    errors = [str(problem) for problem in snapshot.problems if problem.is_error]
    if errors:
        raise ValueError("the manifests have errors:\n  " + "\n  ".join(errors))
    found = []
    for number, server in enumerate(snapshot.resources.model_servers):
        notes = server.metadata.annotations
        for endpoint, address in zip(
            server_endpoints(server, (0,)), server.spec.addresses, strict=True
        ):
            told = endpoint.kv_events
            events = None if told is None else told.at(endpoint.place)
            where = f"{server.qualified_name}: {address.host}:{address.port}"
            try:
                loopback = ip_address(address.host).is_loopback
            except ValueError:
                loopback = False
            if not loopback or address.port is None:
                raise ValueError(
                    f"only a loopback address with a port can be simulated, not {where}"
                )
            found.append(
                SimOptions(
                    model=notes.get(f"{ANNOTATION}model", "sim-model"),
                    adapters=names(notes.get(f"{ANNOTATION}adapters", "")),
                    engine=notes.get(f"{ANNOTATION}engine", "llama-3-8b-h100"),
                    host=address.host,
                    ports=(address.port,),
                    names=(server.metadata.name,),
                    speed=speed,
                    seed=seed + number,
                    kv_events_port=None if events is None else events.port,
                    kv_replay_port=None if events is None else events.replay_port,
                )
            )
    if not found:
        raise ValueError("the manifests have no ModelServer to simulate")
    return found


async def serve_all(options: list[SimOptions]) -> None:
    """Serves until SIGTERM or SIGINT; prints the addresses when all of them listen."""
    import asyncio
    import signal

    from inferway.simulator.app import serve

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    waiting = len(options)
    listening: list[str] = []

    def ready(addresses: list[str]) -> None:
        nonlocal waiting
        waiting -= 1
        listening.extend(addresses)
        if waiting == 0:
            typer.echo("\n".join(listening))

    async with asyncio.TaskGroup() as tasks:
        for one in options:
            tasks.create_task(serve(one, ready=ready, stop=stop))
