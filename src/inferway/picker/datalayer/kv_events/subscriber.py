"""Follows the KV events that engines publish over ZeroMQ, without disturbing decisions.

Problem: a busy engine publishes at every step, and decisions run on the same thread. Model: one
SUB socket per publisher (they share no numbering), received and buffered by ZeroMQ's own thread up
to a limit; a socket that has something is noted, and once per `TICK_S` whatever has gathered is
applied, a slice of `SLICE_S` at most. What does not fit waits in ZeroMQ's queue; what does not
fit there is lost, seen as a gap, and asked for on the publisher's replay socket or forgotten.
Invariants: cost per second is at most SLICE_S / TICK_S of a core; a publisher that is silent costs
nothing; sockets belong to this object and are closed when `run` ends. What the batches mean is
book.py's, their order is sequence.py's matter.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import zmq
from zmq.utils.monitor import parse_monitor_message

from inferway.picker.datalayer.kv_events.sequence import Apply, Ask, Forget, Sequence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from inferway.picker.config import KvEventsConfig
    from inferway.picker.datalayer.kv_events.sequence import Action

TICK_S: Final = 0.02
SLICE_S: Final = 0.001
BATCHES_QUEUED_MAX: Final = 10_000  # per publisher, in ZeroMQ's queue
BATCH_BYTES_MAX: Final = 64 * 1024 * 1024
REPLAY_TIMEOUT_S: Final = 5.0  # without anything coming
_RECONNECT_MS: Final = (100, 5_000)
_KEEPALIVE_S: Final = 30
_END: Final = (-1).to_bytes(8, "big", signed=True)
_WATCHED: Final = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED


class Source(NamedTuple):
    """One publisher: the rank of an endpoint."""

    address: str  # of the endpoint
    rank: int
    live: str  # tcp://host:port
    replay: str  # empty: it does not replay
    topic: str


class Book(Protocol):
    """Who is told: `EventBook`."""

    @property
    def next_due_s(self) -> float | None: ...
    def apply(self, address: str, rank: int, batch: bytes, now_s: float) -> None: ...
    def forget(self, address: str, rank: int, *, restarted: bool) -> None: ...
    def settle(self, now_s: float) -> None: ...


def sources(address: str, config: KvEventsConfig) -> list[Source]:
    """The publishers of one endpoint (`ip:port`): each rank a port higher."""
    host = address.rpartition(":")[0]
    return [
        Source(
            address,
            rank,
            f"tcp://{host}:{config.port + rank}",
            "" if config.replay_port is None else f"tcp://{host}:{config.replay_port + rank}",
            config.topic,
        )
        for rank in range(config.ranks)
    ]


@dataclass(slots=True, eq=False)
class _Stream:
    source: Source
    socket: zmq.Socket[bytes]
    monitor: zmq.Socket[bytes]
    sequence: Sequence
    replay: zmq.Socket[bytes] | None = None
    replay_until_s: float = 0.0
    connected: bool = False
    noted: bool = False  # has something to be received, or may have
    watched: dict[int, zmq.Socket[bytes]] = field(default_factory=dict)  # by file descriptor


class Subscriber:
    """`clock` counts monotonic seconds, `cpu_clock` any seconds of work. Made on the loop that runs
    it; `follow` may be called before and while it runs.
    """

    def __init__(
        self, book: Book, *, clock: Callable[[], float], cpu_clock: Callable[[], float]
    ) -> None:
        self._book = book
        self._clock = clock
        self._cpu_clock = cpu_clock
        self._loop = asyncio.get_running_loop()
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None  # made when it is needed
        self._streams: dict[Source, _Stream] = {}
        self._noted: deque[_Stream] = deque()
        self._wake = asyncio.Event()
        self.strange = 0  # messages that are not of three frames
        self.slices_full = 0
        self._past = [0, 0, 0]  # gaps, losses, restarts of streams that are gone

    @property
    def publishers(self) -> int:
        return len(self._streams)

    @property
    def connected(self) -> int:
        return sum(stream.connected for stream in self._streams.values())

    @property
    def replaying(self) -> int:
        """Publishers that are asked for what was missed."""
        return sum(stream.sequence.replaying for stream in self._streams.values())

    def sequence_counts(self) -> tuple[int, int, int]:
        """Gaps, those of them that were lost for good, and restarts."""
        every = [self._past, *map(_counts, self._streams.values())]
        gaps, losses, restarts = map(sum, zip(*every, strict=True))
        return gaps, losses, restarts

    def follow(self, wanted: Iterable[Source]) -> None:
        """From now on these. Those that stay keep their place in the sequence."""
        keep = dict.fromkeys(wanted)
        for source in [one for one in self._streams if one not in keep]:
            self._close(self._streams.pop(source))
        for source in keep:
            if source not in self._streams:
                self._streams[source] = self._open(source)

    async def run(self) -> None:
        """Follows until cancelled."""
        try:
            while True:
                await self._something_to_do()
                await asyncio.sleep(TICK_S)
                self._wake.clear()
                self.turn()
        finally:
            self.follow(())
            if self._context is not None:
                self._context.term()

    def turn(self) -> None:
        """Takes what has gathered, as far as a slice goes."""
        slice_ends_s = self._cpu_clock() + SLICE_S
        now_s = self._clock()
        while self._noted:
            stream = self._noted[0]
            if not self._drain(stream, now_s, slice_ends_s):
                self.slices_full += 1
                self._noted.rotate(-1)
                self._wake.set()
                return
            self._noted.popleft()
            stream.noted = False
            self._watch(stream)
        for stream in self._streams.values():
            if stream.replay is not None and now_s >= stream.replay_until_s:
                self._end_replay(stream, now_s)
        self._book.settle(now_s)

    async def _something_to_do(self) -> None:
        due_s = [stream.replay_until_s for stream in self._streams.values() if stream.replay]
        if (settle_s := self._book.next_due_s) is not None:
            due_s.append(settle_s)
        wait_s = max(0.0, min(due_s) - self._clock()) if due_s else None
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            return

    def _drain(self, stream: _Stream, now_s: float, slice_ends_s: float) -> bool:
        """Receives all there is; False when the time was up before."""
        self._read_monitor(stream)
        for socket in (stream.replay, stream.socket):
            while socket is not None and not socket.closed:
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                self._received(stream, frames, now_s, replayed=socket is stream.replay)
                if self._cpu_clock() >= slice_ends_s:
                    return False
        return True

    def _received(
        self, stream: _Stream, frames: list[bytes], now_s: float, *, replayed: bool
    ) -> None:
        if len(frames) != 3 or len(frames[1]) != 8:
            self.strange += 1
            return
        number, sequence = int.from_bytes(frames[1], "big"), stream.sequence
        if not replayed:
            self._do(stream, sequence.live(number, frames[2]), now_s)
        elif frames[1] == _END:
            self._end_replay(stream, now_s)
        else:
            stream.replay_until_s = now_s + REPLAY_TIMEOUT_S
            self._do(stream, sequence.replayed(number, frames[2]), now_s)

    def _do(self, stream: _Stream, actions: Iterable[Action], now_s: float) -> None:
        address, rank = stream.source.address, stream.source.rank
        for action in actions:
            match action:
                case Apply():
                    self._book.apply(address, rank, action.batch, now_s)
                case Ask():
                    self._ask(stream, action.since, now_s)
                case Forget():
                    self._book.forget(address, rank, restarted=action.restarted)

    def _ask(self, stream: _Stream, since: int, now_s: float) -> None:
        self._close_replay(stream)
        socket = self._socket(zmq.DEALER)
        socket.connect(stream.source.replay)
        socket.send_multipart([b"", since.to_bytes(8, "big")], zmq.NOBLOCK)
        stream.replay = socket
        stream.replay_until_s = now_s + REPLAY_TIMEOUT_S

    def _end_replay(self, stream: _Stream, now_s: float) -> None:
        self._close_replay(stream)
        self._do(stream, stream.sequence.replay_ended(), now_s)

    def _read_monitor(self, stream: _Stream) -> None:
        while True:
            try:
                frames = stream.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            event = parse_monitor_message(frames)["event"]
            stream.connected = event == zmq.Event.HANDSHAKE_SUCCEEDED
            if stream.connected:
                stream.sequence.reconnected()

    # --- sockets -----------------------------------------------------------------------------

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        if self._context is None:
            self._context = zmq.Context()
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.ipv6 = True
        socket.rcvhwm = BATCHES_QUEUED_MAX
        socket.maxmsgsize = BATCH_BYTES_MAX
        socket.reconnect_ivl, socket.reconnect_ivl_max = _RECONNECT_MS
        socket.tcp_keepalive = 1
        socket.tcp_keepalive_idle = _KEEPALIVE_S
        return socket

    def _open(self, source: Source) -> _Stream:
        socket = self._socket(zmq.SUB)
        monitor = socket.get_monitor_socket(_WATCHED)
        socket.subscribe(source.topic)
        socket.connect(source.live)
        stream = _Stream(source, socket, monitor, Sequence(replays=bool(source.replay)))
        self._watch(stream)
        return stream

    def _close(self, stream: _Stream) -> None:
        self._past = [sum(pair) for pair in zip(self._past, _counts(stream), strict=True)]
        self._close_replay(stream)
        self._unwatch(stream)
        if stream.noted:
            self._noted.remove(stream)
        stream.socket.disable_monitor()
        stream.monitor.close()
        stream.socket.close()

    def _close_replay(self, stream: _Stream) -> None:
        socket, stream.replay = stream.replay, None
        if socket is not None:
            for descriptor in [fd for fd, one in stream.watched.items() if one is socket]:
                self._loop.remove_reader(descriptor)
                del stream.watched[descriptor]
            socket.close()

    def _watch(self, stream: _Stream) -> None:
        """Has the loop tell when one of the sockets may have something. ZeroMQ tells of changes
        only, so what came before must be looked for.
        """
        sockets = [stream.socket, stream.monitor]
        if stream.replay is not None:
            sockets.append(stream.replay)
        stream.watched = {_option(socket, zmq.FD): socket for socket in sockets}
        for descriptor in stream.watched:
            self._loop.add_reader(descriptor, self._note, stream)
        if any(_option(socket, zmq.EVENTS) & zmq.POLLIN for socket in sockets):
            self._note(stream)

    def _unwatch(self, stream: _Stream) -> None:
        for descriptor in stream.watched:
            self._loop.remove_reader(descriptor)
        stream.watched = {}

    def _note(self, stream: _Stream) -> None:
        self._unwatch(stream)  # until it was looked at, the loop would tell over and over
        if not stream.noted:
            stream.noted = True
            self._noted.append(stream)
        self._wake.set()


def _counts(stream: _Stream) -> list[int]:
    return [stream.sequence.gaps, stream.sequence.losses, stream.sequence.restarts]


def _option(socket: zmq.Socket[bytes], option: int) -> int:
    return int(socket.getsockopt(option))
