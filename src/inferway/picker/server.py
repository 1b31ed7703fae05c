"""The pick protocol's transport: unix stream sockets, one wake-up, one batch, one send.

Problem: every request waits for this code, and asyncio's streams and protocols cost more than a
decision. Model: the loop watches raw non-blocking sockets; a readable one is read once into a
shared buffer, which bounds a batch; all frames in it are admitted and decided in arrival order, and
all answers leave in one send, before anything that no pick waits for. Heartbeats come from the same
loop, so they stop when decisions stop. Invariants: nothing here blocks or logs per request; what a
filter does not read is kept up to `unsent_bytes_max`, then its connection is closed; a closed
connection's charges are released at once. It does not decide: that is the `Desk`.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from inferway._native import FrameReader, encode_heartbeat
from inferway.observability.logging import get_logger
from inferway.picker.protocol.conversation import Conversation

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from inferway.picker.metrics import PickerMetrics
    from inferway.picker.protocol.conversation import Actions, Admitted

READ_BYTES_MAX: Final = 256 * 1024  # about 1,000 picks of 2 KB prompts: the largest batch
UNSENT_BYTES_MAX: Final = 8 * 1024 * 1024
FILTERS_MAX: Final = 256
ACCEPT_PAUSE_S: Final = 0.2  # after a failed accept (out of file descriptors)


class Desk(Protocol):
    """Decides and accounts. `connection` is a number that is never used twice."""

    def handle(self, connection: int, frames: list[Admitted]) -> list[bytes]:
        """Applies the frames in order; returns the answers to the picks among them."""
        ...

    def settle(self) -> None:
        """Does what no pick has to wait for. Called when the answers of `handle` are sent."""
        ...

    def drop(self, connection: int) -> None:
        """Releases everything that was charged for the connection."""
        ...

    def tick_in_s(self) -> float:
        """In how many seconds `tick` is due; inf while nothing waits."""
        ...

    def tick(self) -> None:
        """What time alone does to requests that wait."""
        ...

    def beat(self) -> None:
        """Called with every heartbeat."""
        ...

    def end(self) -> None:
        """Answers what waits, before the connections are closed."""
        ...


class CloseCause(StrEnum):
    """Why a filter's connection ended; the metric label."""

    FILTER_LEFT = "filter_left"
    BROKEN_FRAME = "broken_frame"
    PROTOCOL = "protocol"
    UNSENT_LIMIT = "unsent_limit"
    SUPERSEDED = "superseded"  # the same filter connected again
    TOO_MANY = "too_many"
    FAILED = "failed"  # a fault of ours
    STOPPED = "stopped"


class PickServer:
    """Serves any number of filters on one listening socket. Made and used on one event loop."""

    def __init__(
        self,
        desk: Desk,
        metrics: PickerMetrics,
        *,
        epoch: int,
        heartbeat_ms: int,
        clock: Callable[[], float],
        unsent_bytes_max: int = UNSENT_BYTES_MAX,
    ) -> None:
        self.desk = desk
        self.metrics = metrics
        self.clock = clock
        self.heartbeat_ms = heartbeat_ms
        self.unsent_bytes_max = unsent_bytes_max
        self.buffer = memoryview(bytearray(READ_BYTES_MAX))
        self.log = get_logger("pick-server")
        self._epoch = epoch
        self._connections: dict[int, Connection] = {}
        self._last_number = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._beat_due_s = 0.0
        self._tick: asyncio.TimerHandle | None = None

    def start(self, listener: socket.socket) -> None:
        """Serves on a non-blocking listening socket from now on; the server owns it."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._loop.add_reader(listener, self._accept)
        self._beat_due_s = self._loop.time()
        self._beat()

    def stop(self) -> None:
        """Closes the listener and every connection."""
        if self._loop is None or self._listener is None:
            return
        self.desk.end()
        for timer in (self._timer, self._tick):
            if timer is not None:
                timer.cancel()
        self._loop.remove_reader(self._listener)
        self._listener.close()
        self._listener = None
        for connection in list(self._connections.values()):
            connection.close(CloseCause.STOPPED)

    def send(self, connection: int, data: bytes) -> None:
        """Sends answers that come later, if the connection is still there."""
        found = self._connections.get(connection)
        if found is not None:
            found.send(data)

    def look_again(self) -> None:
        """Has the desk look at what waits when it is time to. To be called whenever something may
        wait that did not.
        """
        loop, tick = self._loop, self._tick
        if loop is None or self._listener is None:
            return
        due_s = self.desk.tick_in_s()
        if due_s == float("inf"):
            return
        if tick is not None:
            if tick.when() <= loop.time() + due_s:
                return
            tick.cancel()
        self._tick = loop.call_later(due_s, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        self.desk.tick()
        self.look_again()

    @property
    def connections(self) -> int:
        return len(self._connections)

    @property
    def filters(self) -> int:
        """Connections that have introduced themselves."""
        return sum(c.filter_id is not None for c in self._connections.values())

    @property
    def open_streams(self) -> int:
        return sum(c.open_streams for c in self._connections.values())

    def _accept(self) -> None:
        listener, loop = self._listener, self._loop
        if listener is None or loop is None:
            return
        try:
            accepted, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as problem:
            self.log.error("accept_failed", problem=str(problem))
            loop.remove_reader(listener)
            loop.call_later(ACCEPT_PAUSE_S, self._resume_accepting)
            return
        accepted.setblocking(False)
        if len(self._connections) >= FILTERS_MAX:
            accepted.close()
            self.metrics.closed[CloseCause.TOO_MANY] = (
                self.metrics.closed.get(CloseCause.TOO_MANY, 0) + 1
            )
            return
        self._last_number += 1
        conversation = Conversation(epoch=self._epoch, heartbeat_ms=self.heartbeat_ms)
        connection = Connection(self, loop, accepted, conversation, self._last_number)
        self._connections[connection.number] = connection
        self.metrics.connected += 1
        loop.add_reader(accepted, connection.on_readable)

    def _resume_accepting(self) -> None:
        if self._loop is not None and self._listener is not None:
            self._loop.add_reader(self._listener, self._accept)

    def greeted(self, greeted: Connection) -> None:
        """HELLO came: a filter that connects again has given up its older connection."""
        for other in list(self._connections.values()):
            if other is not greeted and other.filter_id == greeted.filter_id:
                other.close(CloseCause.SUPERSEDED)
        self.log.info("filter_connected", connection=greeted.number)

    def forget(self, connection: Connection, cause: CloseCause) -> None:
        del self._connections[connection.number]
        self.metrics.connection_closed(cause)
        self.metrics.dropped_frames += connection.dropped_frames
        self.desk.drop(connection.number)
        self.log.info("filter_disconnected", connection=connection.number, cause=cause.value)

    def _beat(self) -> None:
        """Sends every greeted filter a heartbeat, at the pace of the most demanding promise."""
        loop = self._loop
        if loop is None:
            return
        now_s = loop.time()
        self.metrics.lag_seconds.observe(max(now_s - self._beat_due_s, 0.0))
        self.desk.beat()
        self.look_again()
        frame = encode_heartbeat()
        interval_ms = self.heartbeat_ms
        for connection in list(self._connections.values()):
            interval_ms = min(interval_ms, connection.heartbeat_ms)
            if connection.filter_id is not None:
                connection.send(frame)
        self._beat_due_s = max(self._beat_due_s + interval_ms / 1_000, now_s)
        self._timer = loop.call_at(self._beat_due_s, self._beat)


class Connection:
    """One filter's socket."""

    __slots__ = (
        "_conversation",
        "_loop",
        "_reader",
        "_server",
        "_socket",
        "_unsent",
        "heartbeat_ms",
        "number",
    )

    def __init__(
        self,
        server: PickServer,
        loop: asyncio.AbstractEventLoop,
        accepted: socket.socket,
        conversation: Conversation,
        number: int,
    ) -> None:
        self._server = server
        self._loop = loop
        self._socket = accepted
        self._conversation = conversation
        self._reader = FrameReader()
        self._unsent = bytearray()
        self.number = number
        self.heartbeat_ms = server.heartbeat_ms  # what WELCOME promises this filter

    @property
    def filter_id(self) -> int | None:
        return self._conversation.filter_id

    @property
    def open_streams(self) -> int:
        return len(self._conversation)

    @property
    def dropped_frames(self) -> int:
        return self._conversation.dropped

    def on_readable(self) -> None:
        """One wake-up: read once, decide all of it, send once."""
        server = self._server
        try:
            count = self._socket.recv_into(server.buffer)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            self.close(CloseCause.FILTER_LEFT)
            return
        try:
            frames = self._reader.feed(server.buffer[:count])
        except ValueError as problem:
            server.log.warning("broken_frame", connection=self.number, problem=str(problem))
            self.close(CloseCause.BROKEN_FRAME)
            return
        if not frames:
            return
        greeted = self._conversation.filter_id is not None
        try:
            actions = self._conversation.receive(frames)
            if not greeted and not actions.close:
                server.greeted(self)
            self._carry_out(actions)
        except Exception:
            server.log.exception("batch_failed", connection=self.number, frames=len(frames))
            self.close(CloseCause.FAILED)

    def _carry_out(self, actions: Actions) -> None:
        server, data = self._server, actions.send
        started_s = server.clock()
        answers = server.desk.handle(self.number, actions.apply) if actions.apply else []
        decided_s = server.clock()
        if answers:
            data += answers[0] if len(answers) == 1 else b"".join(answers)
        if data:
            self.send(data)
        if answers:
            server.metrics.batch(len(answers), decided_s - started_s)
        server.desk.settle()
        server.look_again()
        if actions.close:
            server.log.warning("protocol_violated", connection=self.number, problem=actions.close)
            self.close(CloseCause.PROTOCOL)

    def send(self, data: bytes) -> None:
        """Sends now what the socket takes; the rest follows when it is writable."""
        if self._socket.fileno() < 0:
            return
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > self._server.unsent_bytes_max:
                self.close(CloseCause.UNSENT_LIMIT)
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self.close(CloseCause.FILTER_LEFT)
            return
        if sent < len(data):
            self._unsent += data[sent:]
            self._loop.add_writer(self._socket, self._on_writable)
            if len(self._unsent) > self._server.unsent_bytes_max:
                self.close(CloseCause.UNSENT_LIMIT)

    def _on_writable(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except BlockingIOError:
            return
        except OSError:
            self.close(CloseCause.FILTER_LEFT)
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._socket)

    def close(self, cause: CloseCause) -> None:
        """Ends the connection and releases what it holds; harmless when it has ended."""
        if self._socket.fileno() < 0:
            return
        self._loop.remove_reader(self._socket)
        if self._unsent:
            self._loop.remove_writer(self._socket)
        self._socket.close()
        self._server.forget(self, cause)
