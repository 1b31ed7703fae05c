"""What the picker process spends per request around its decisions: `python -m bench.picker`.

A fake filter on the other end of a socket pair sends PICKs of 2 KB prompts and then their DONEs, in
batches of several sizes; the server's own callback is timed, so the filter's cost stays out. Each
batch is measured twice: with the real scheduler, and with one that answers at once, which leaves
what the transport, the conversation, the accounting of streams and the counters cost.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import time

import numpy as np
import uvloop

from inferway._native import FrameReader, PrefixIndex, hash_seed
from inferway.observability.logging import LogLevel, set_up_logging
from inferway.picker.app import freeze_memory
from inferway.picker.config import EndpointConfig, PickerConfig, PoolConfig
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.datalayer.table import EndpointTable
from inferway.picker.desk import PickDesk
from inferway.picker.metrics import PickerMetrics
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.conversation import Conversation
from inferway.picker.scheduling.contracts import Request
from inferway.picker.scheduling.decide import Decision, PoolScheduler, Weighed
from inferway.picker.server import Connection, PickServer

POOL = "default/pool"
(PICK,) = FrameReader().feed(filter_side.pick(1, pool=POOL))
PROMPTS = 64  # different prompts in turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoints", type=int, default=8)
    parser.add_argument("--requests", type=int, default=20_000, help="per line of the table")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 64])
    arguments = parser.parse_args()
    set_up_logging("bench", level=LogLevel.ERROR)
    uvloop.run(measure(arguments.endpoints, arguments.requests, arguments.batches))


async def measure(endpoints: int, requests: int, batches: list[int]) -> None:
    freeze_memory()  # as the picker does
    print(f"{endpoints} endpoints, µs of CPU per request: PICK + DONE, and the PICK batch alone")
    print(f"{'batch':>6} {'whole':>8} {'around':>8} {'pick':>8} {'pick around':>12}")
    for batch in batches:
        whole = await one_run(endpoints, requests, batch, scheduled=True)
        around = await one_run(endpoints, requests, batch, scheduled=False)
        print(
            f"{batch:>6} {sum(whole):>8.1f} {sum(around):>8.1f} {whole[0]:>8.1f} {around[0]:>12.1f}"
        )


async def one_run(
    endpoints: int, requests: int, batch: int, *, scheduled: bool
) -> tuple[float, float]:
    """µs per request of the wake-ups with PICKs, and of those with FIRSTs and DONEs."""
    server = new_server(endpoints)
    if not scheduled:
        answer = Decision(0, "10.0.0.1:8000", "10.0.0.1:8000,10.0.0.2:8000", 500, 700)
        for pool in server.desk.runtime.pools.values():  # type: ignore[attr-defined]
            pool._scheduler = FixedScheduler(answer)  # noqa: SLF001
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    near.setblocking(False)
    far.setblocking(False)
    loop = asyncio.get_running_loop()
    conversation = Conversation(epoch=1, heartbeat_ms=100)
    connection = Connection(server, loop, near, conversation, 1)
    server._connections[1] = connection  # noqa: SLF001
    far.send(filter_side.hello())
    connection.on_readable()
    far.recv(1 << 20)
    spent = [0.0, 0.0]
    stream = 0
    for _ in range(requests // batch):
        streams = range(stream, stream + batch)
        stream += batch
        picks = b"".join(filter_side.pick(s, pool=POOL, seed=s % PROMPTS) for s in streams)
        ends = b"".join(
            filter_side.first(s)
            + filter_side.done(s, usage=(512, 256, 100), endpoint="10.0.0.1:8000")
            for s in streams
        )
        for kind, data in enumerate((picks, ends)):
            far.send(data)
            started_s = time.thread_time()
            connection.on_readable()
            spent[kind] += time.thread_time() - started_s
        far.recv(1 << 20)
    assert server.desk.open_streams == 0  # type: ignore[attr-defined]
    far.close()
    near.close()
    done = requests // batch * batch
    return spent[0] / done * 1e6, spent[1] / done * 1e6


class FixedScheduler(PoolScheduler):
    """Answers at once."""

    def __init__(self, answer: Decision) -> None:
        self._answer = answer
        none = np.zeros(0)
        request = Request(1.0, 1.0, 0, none, None, "llama", None, PICK)
        self._weighed = Weighed(request, EndpointTable(POOL, ()).view(), none, None, (), ())

    def knows(self, model: str) -> bool | None:
        return None

    def weigh(self, *_args: object, **_named: object) -> Weighed:  # type: ignore[override]
        return self._weighed

    def choose(self, *_args: object, **_named: object) -> list[int]:  # type: ignore[override]
        return [0]

    def place(self, *_args: object, **_named: object) -> Decision:  # type: ignore[override]
        return self._answer


def new_server(endpoints: int) -> PickServer:
    addresses = [f"10.0.{i // 250}.{i % 250 + 1}:8000" for i in range(endpoints)]
    config = PickerConfig(
        version=1,
        pools=(
            PoolConfig(
                name=POOL,
                endpoints=tuple(EndpointConfig(address=a, server="default/s") for a in addresses),
            ),
        ),
    )
    metrics = PickerMetrics()
    randomness = np.random.default_rng(1)
    desk = PickDesk(
        DataLayer(PrefixIndex(config.index_blocks_max), hash_seed),
        metrics,
        config,
        clock=time.monotonic,
        random_of=lambda _: randomness,
        picked=lambda _: None,
        answered=lambda _: None,
        send=lambda _connection, _frames: None,
    )
    return PickServer(desk, metrics, epoch=1, heartbeat_ms=100, clock=time.perf_counter)


if __name__ == "__main__":
    main()
