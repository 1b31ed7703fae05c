"""Publishes a simulated engine's cache journal over ZeroMQ, as vLLM's `ZmqEventPublisher` does.

Each step's events are one message on a PUB socket: topic, sequence number (8 bytes, big-endian),
batch in msgpack. The newest batches are kept; a ROUTER socket sends those from a given sequence
number on to whoever asks, and ends with the number -1. Both shapes that vLLM has used are spoken:
events as arrays (until 0.11) and as maps.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import zmq
import zmq.asyncio

from .cache_journal import AllBlocksCleared, BlockRemoved, BlockStored, CacheEvent

BATCHES_KEPT = 10_000
_END = (-1).to_bytes(8, "big", signed=True)
_MEDIUM = "GPU"

Shape = Literal["arrays", "maps"]


def encode_batch(
    events: Sequence[CacheEvent], *, at_s: float, rank: int, shape: Shape = "arrays"
) -> bytes:
    """A batch as it goes over the wire; `at_s` is Unix time."""
    if shape == "arrays":
        return msgspec.msgpack.encode([at_s, [[*_fields(e).values()] for e in events], rank])
    return msgspec.msgpack.encode(
        {"ts": at_s, "events": [_fields(event) for event in events], "data_parallel_rank": rank}
    )


def _fields(event: CacheEvent) -> dict[str, object]:
    """Name to value, in vLLM's order."""
    fields: dict[str, object] = {"type": type(event).__name__}
    match event:
        case BlockStored():
            fields |= {
                "block_hashes": event.block_hashes,
                "parent_block_hash": event.parent_block_hash,
                "token_ids": event.token_ids,
                "block_size": event.block_size,
                "lora_id": None,
                "medium": _MEDIUM,
                "lora_name": None,
            }
        case BlockRemoved():
            fields |= {"block_hashes": event.block_hashes, "medium": _MEDIUM}
        case AllBlocksCleared():
            pass
    return fields


class KvPublisher:
    """One engine's publisher. Ports of 0 are chosen freely; `replay_port` None: no replay."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        replay_port: int | None,
        topic: str,
        rank: int = 0,
        shape: Shape = "arrays",
        wall_clock: Callable[[], float],
    ) -> None:
        """OSError when a port is taken."""
        self._context = zmq.asyncio.Context()
        self._topic = topic.encode()
        self._rank = rank
        self._shape: Shape = shape
        self._wall_clock = wall_clock
        self._sequence = 0
        self._kept: deque[tuple[bytes, bytes]] = deque(maxlen=BATCHES_KEPT)
        self._live = zmq.Context(self._context).socket(zmq.PUB)
        self._replay = self._context.socket(zmq.ROUTER)
        try:
            self.port = self._bind(self._live, host, port)
            self.replay_port = (
                None if replay_port is None else self._bind(self._replay, host, replay_port)
            )
        except zmq.ZMQError as error:
            self.close()
            raise OSError(error.errno, f"{error.strerror}: KV events at {host}") from error

    def publish(self, events: Sequence[CacheEvent]) -> None:
        """Sends one batch; a subscriber that is too slow misses it."""
        batch = encode_batch(events, at_s=self._wall_clock(), rank=self._rank, shape=self._shape)
        number = self._sequence.to_bytes(8, "big")
        self._sequence += 1
        self._kept.append((number, batch))
        self._live.send_multipart((self._topic, number, batch), zmq.NOBLOCK)

    async def run(self) -> None:
        """Answers those who ask for what they missed, for ever. Needs a replay port."""
        while True:
            asked = await self._replay.recv_multipart()
            if len(asked) != 3 or len(asked[2]) != 8:
                continue
            client, _, since = asked
            for number, batch in [kept for kept in self._kept if kept[0] >= since]:
                await self._replay.send_multipart((client, b"", number, batch))
            await self._replay.send_multipart((client, b"", _END, b""))

    def close(self) -> None:
        self._live.close(linger=0)
        self._context.destroy(linger=0)

    @staticmethod
    def _bind(socket: "zmq.Socket[bytes] | zmq.asyncio.Socket", host: str, port: int) -> int:
        address = f"[{host}]" if ":" in host else host
        if port:
            socket.bind(f"tcp://{address}:{port}")
            return port
        return socket.bind_to_random_port(f"tcp://{address}")
