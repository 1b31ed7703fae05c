"""Many simulated servers in one process and event loop.

`running_servers` is for tests that need servers to talk to, `serve` for the command line.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from .cache_journal import CacheJournal
from .driver import EngineDriver
from .engine import Engine
from .faults import FaultRule
from .generation import OutputPolicy, TextGenerator
from .kv_publisher import KvPublisher, Shape
from .parameters import EngineParameters, parameters_named
from .served_models import ServedModels
from .server import SimServer


@dataclass(frozen=True, slots=True)
class SimOptions:
    """What to simulate. All servers are alike except for their seeds."""

    model: str = "meta-llama/Llama-3.1-8B-Instruct"
    aliases: tuple[str, ...] = ()
    """Further names of the base model."""
    adapters: tuple[str, ...] = ()
    """LoRA adapters that are registered from the start."""
    engine: str | EngineParameters = "llama-3-8b-h100"
    servers: int = 1
    host: str = "127.0.0.1"
    ports: tuple[int, ...] = ()
    """One port per server; none: free ones are chosen."""
    names: tuple[str, ...] = ()
    """One name per server, sent as x-inference-pod; none: sim-0, sim-1, …"""
    speed: float = 1.0
    """How many times faster than real time."""
    seed: int = 0
    output_tokens_mean: float = 200.0
    """Mean length of answers whose request gives no limit."""
    stop_early: bool = False
    """Whether answers may also end before a given max_tokens."""
    faults: tuple[FaultRule, ...] = ()
    """Active from the start, on every server."""
    kv_events_port: int | None = None
    """Where the first server publishes its KV events, each further one a port higher; 0: anywhere
    free; None: it does not.
    """
    kv_replay_port: int | None = None
    """The same for its replay socket."""
    kv_events_shape: Shape = "arrays"

    def __post_init__(self) -> None:
        if self.servers < 1:
            raise ValueError(f"servers must be at least 1: {self.servers}")
        for field in ("ports", "names"):
            given = len(getattr(self, field))
            if given and given != self.servers:
                raise ValueError(f"{field}: {given} given for {self.servers} servers")
        if not self.speed > 0:
            raise ValueError(f"speed must be above 0: {self.speed}")
        if not self.output_tokens_mean >= 1:
            raise ValueError(f"output_tokens_mean must be at least 1: {self.output_tokens_mean}")

    def parameters(self) -> EngineParameters:
        """ValueError for an unknown engine."""
        return parameters_named(self.engine) if isinstance(self.engine, str) else self.engine


@asynccontextmanager
async def running_servers(options: SimOptions) -> AsyncIterator[list[SimServer]]:
    """Servers that accept connections, until the block ends. OSError when a port is taken."""
    async with AsyncExitStack() as stack:
        publishers = [_publisher(options, index) for index in range(options.servers)]
        for publisher in publishers:
            if publisher is not None:
                stack.callback(publisher.close)
        servers = [_build(options, *numbered) for numbered in enumerate(publishers)]
        peers = {server.name: server for server in servers}
        for server in servers:
            server.peers = peers
            await server.listen()
            stack.push_async_callback(server.close)
            server.faults = options.faults
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = [group.create_task(server.driver.run()) for server in servers]
        tasks += [group.create_task(server.run()) for server in servers]
        tasks += [
            group.create_task(publisher.run())
            for publisher in publishers
            if publisher is not None and publisher.replay_port is not None
        ]
        try:
            yield servers
        finally:
            for task in tasks:
                task.cancel()


async def serve(
    options: SimOptions, *, ready: Callable[[list[str]], None] | None, stop: asyncio.Event
) -> None:
    """Runs servers until `stop`; `ready` gets their addresses once they listen."""
    async with running_servers(options) as servers:
        if ready is not None:
            ready([server.address for server in servers])
        await stop.wait()


def _publisher(options: SimOptions, index: int) -> KvPublisher | None:
    if options.kv_events_port is None:
        return None
    live, replay = options.kv_events_port, options.kv_replay_port
    name = options.names[index] if options.names else f"sim-{index}"
    return KvPublisher(
        host=options.host,
        port=live and live + index,
        replay_port=replay and replay + index,
        topic=f"kv@{name}@{options.model}",
        shape=options.kv_events_shape,
        wall_clock=_wall_clock,
    )


def _build(options: SimOptions, index: int, publisher: KvPublisher | None) -> SimServer:
    name = options.names[index] if options.names else f"sim-{index}"
    journal = None if publisher is None else CacheJournal()
    engine = Engine(options.parameters(), seed=options.seed + index, journal=journal)
    loop = asyncio.get_running_loop()
    driver = EngineDriver(
        engine,
        clock=loop.time,
        speed=options.speed,
        publish=None if publisher is None else publisher.publish,
    )
    policy = OutputPolicy(
        mean_tokens=options.output_tokens_mean, stop_early=options.stop_early, seed=options.seed
    )
    return SimServer(
        name=name,
        host=options.host,
        port=options.ports[index] if options.ports else 0,
        engine=engine,
        driver=driver,
        generator=TextGenerator(driver, policy=policy, headers={"x-inference-pod": name}),
        models=ServedModels(
            base=options.model,
            aliases=options.aliases,
            adapters={adapter: f"/adapters/{adapter}" for adapter in options.adapters},
        ),
        wall_clock=_wall_clock,
        seed=options.seed + index,
        kv_events=publisher,
    )


def _wall_clock() -> float:
    return datetime.now(UTC).timestamp()
