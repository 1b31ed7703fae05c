"""The transport on real sockets: batches, partial sends, limits, several filters."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from inferway._native import Pick, encode_endpoints
from inferway.picker.metrics import PickerMetrics
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.filter_side import Answer, Answers, Endpoints, Heartbeat, Welcome
from inferway.picker.server import FILTERS_MAX, CloseCause, PickServer
from inferway.picker.unix_socket import listening_unix_socket, remove_unix_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from inferway.picker.protocol.conversation import Admitted


class RecordingDesk:
    """Answers every pick with one address; remembers batches and drops."""

    def __init__(self, address: str = "10.0.0.1:8000") -> None:
        self.address = address
        self.batches: list[tuple[int, list[str]]] = []
        self.dropped: list[int] = []
        self.fails = False
        self.ticks: list[float] = []  # what the next looks at the time shall say
        self.ticked = self.beats = 0
        self.ended = False

    def handle(self, connection: int, frames: list[Admitted]) -> list[bytes]:
        self.batches.append((connection, [type(frame).__name__ for frame in frames]))
        if self.fails:
            raise ZeroDivisionError
        return [
            encode_endpoints(frame.stream, 1, 2, self.address, "")
            for frame in frames
            if isinstance(frame, Pick)
        ]

    def settle(self) -> None:
        pass

    def drop(self, connection: int) -> None:
        self.dropped.append(connection)

    def tick_in_s(self) -> float:
        return self.ticks.pop(0) if self.ticks else float("inf")

    def tick(self) -> None:
        self.ticked += 1

    def beat(self) -> None:
        self.beats += 1

    def end(self) -> None:
        self.ended = True


class Filter:
    """A filter's end of one connection."""

    def __init__(self, path: Path) -> None:
        self._loop = asyncio.get_running_loop()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        self.socket.connect(str(path))
        self._answers = Answers()
        self.got: list[Answer] = []

    async def send(self, *frames: bytes) -> None:
        await self._loop.sock_sendall(self.socket, b"".join(frames))

    async def receive(self, count: int, *kinds: type) -> list[Answer]:
        """The next `count` answers of these kinds."""
        found: list[Answer] = []
        async with asyncio.timeout(5):
            while True:
                while self.got and len(found) < count:
                    answer = self.got.pop(0)
                    if isinstance(answer, kinds):
                        found.append(answer)
                if len(found) == count:
                    return found
                data = await self._loop.sock_recv(self.socket, 65_536)
                assert data, "the picker closed the connection"
                self.got += self._answers.feed(data)

    async def closed(self) -> bool:
        """Waits until the picker has closed the connection."""
        async with asyncio.timeout(5):
            try:
                while await self._loop.sock_recv(self.socket, 1 << 20):
                    pass
            except ConnectionResetError:
                pass
        return True

    async def greet(self, filter_id: int = 1) -> Welcome:
        await self.send(filter_side.hello(filter_id))
        (welcome,) = await self.receive(1, Welcome)
        assert isinstance(welcome, Welcome)
        return welcome

    def close(self) -> None:
        self.socket.close()


class Place:
    """A running server and the filters that a test connected to it."""

    def __init__(self, path: Path, *, heartbeat_ms: int = 10_000, unsent: int = 1 << 20) -> None:
        self.path = path
        self.desk = RecordingDesk()
        self.metrics = PickerMetrics()
        self.server = PickServer(
            self.desk,
            self.metrics,
            epoch=42,
            heartbeat_ms=heartbeat_ms,
            clock=lambda: 0.0,
            unsent_bytes_max=unsent,
        )
        self.filters: list[Filter] = []

    def start(self) -> Place:
        self.server.start(listening_unix_socket(self.path))
        return self

    def filter(self) -> Filter:
        self.filters.append(Filter(self.path))
        return self.filters[-1]

    async def dropped(self, count: int) -> list[int]:
        async with asyncio.timeout(5):
            while len(self.desk.dropped) < count:
                await asyncio.sleep(0)
        return self.desk.dropped


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "pick.sock")
    yield made
    made.server.stop()
    for connected in made.filters:
        connected.close()


async def test_a_filter_is_welcomed_and_answered(place: Place) -> None:
    envoy = place.start().filter()
    welcome = await envoy.greet()
    assert (welcome.major, welcome.epoch, welcome.heartbeat_ms) == (1, 42, 10_000)
    await envoy.send(filter_side.pick(3))
    assert await envoy.receive(1, Endpoints) == [Endpoints(3, 1, 2, ("10.0.0.1:8000",), "")]


async def test_what_arrived_together_is_decided_together(place: Place) -> None:
    envoy = place.start().filter()
    await envoy.greet()
    await envoy.send(*(filter_side.pick(s) for s in range(20)), filter_side.done(0))
    answers = await envoy.receive(20, Endpoints)
    assert [a.stream for a in answers if isinstance(a, Endpoints)] == list(range(20))
    assert place.desk.batches[-1] == (1, ["Pick"] * 20 + ["Done"])
    assert place.metrics.batch_requests.total == 20
    assert len(place.metrics.batch_requests) == 1


async def test_frames_may_come_in_any_pieces(place: Place) -> None:
    envoy = place.start().filter()
    await envoy.greet()
    frame = filter_side.pick(3)
    for byte in range(len(frame)):
        await envoy.send(frame[byte : byte + 1])
        await asyncio.sleep(0)
    assert len(await envoy.receive(1, Endpoints)) == 1


async def test_several_filters_have_their_own_conversations(place: Place) -> None:
    place.start()
    first, second = place.filter(), place.filter()
    await first.greet(1)
    await second.greet(2)
    await first.send(filter_side.pick(1))
    await second.send(filter_side.pick(1))
    assert await first.receive(1, Endpoints)
    assert await second.receive(1, Endpoints)
    assert {connection for connection, _ in place.desk.batches} == {1, 2}
    first.close()
    assert await place.dropped(1) == [1]
    assert place.server.connections == 1
    await second.send(filter_side.pick(2))
    assert await second.receive(1, Endpoints)


async def test_a_filter_that_connects_again_gives_up_its_old_connection(place: Place) -> None:
    place.start()
    old, other, new = place.filter(), place.filter(), place.filter()
    await old.greet(1)
    await other.greet(2)
    await new.greet(1)
    assert await old.closed()
    assert place.desk.dropped == [1]
    assert place.metrics.closed == {CloseCause.SUPERSEDED: 1}
    assert place.server.connections == 2


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        (b"\xff\xff\xff\xff", CloseCause.BROKEN_FRAME),
        (filter_side.pick(1), CloseCause.PROTOCOL),
        (filter_side.hello(major=2), CloseCause.PROTOCOL),
        (filter_side.hello() * 2, CloseCause.PROTOCOL),
    ],
)
async def test_a_broken_filter_is_cut_off(place: Place, sent: bytes, cause: CloseCause) -> None:
    place.start()
    broken, sound = place.filter(), place.filter()
    await sound.greet(2)
    await broken.send(sent)
    assert await broken.closed()
    assert place.metrics.closed == {cause: 1}
    await sound.send(filter_side.pick(2))
    assert await sound.receive(1, Endpoints)


async def test_a_fault_of_ours_costs_one_connection(place: Place) -> None:
    place.start()
    unlucky, sound = place.filter(), place.filter()
    await unlucky.greet(1)
    await sound.greet(2)
    place.desk.fails = True
    await unlucky.send(filter_side.pick(1))
    assert await unlucky.closed()
    place.desk.fails = False
    await sound.send(filter_side.pick(2))
    assert await sound.receive(1, Endpoints)
    assert place.metrics.closed == {CloseCause.FAILED: 1}
    assert place.desk.dropped == [1]


async def test_answers_wait_for_a_slow_reader(place: Place) -> None:
    """More answers than a socket buffer holds arrive whole and in order."""
    place.desk.address = ",".join(f"10.0.0.{n}:8000" for n in range(50))
    envoy = place.start().filter()
    await envoy.greet()
    count = 1_000
    await envoy.send(*(filter_side.pick(s, blocks=0) for s in range(count)))
    async with asyncio.timeout(5):
        while sum(len(names) for _, names in place.desk.batches) < count:
            await asyncio.sleep(0)
    answers = await envoy.receive(count, Endpoints)
    assert [a.stream for a in answers if isinstance(a, Endpoints)] == list(range(count))


async def test_a_reader_that_never_reads_is_cut_off(tmp_path: Path) -> None:
    place = Place(tmp_path / "pick.sock", unsent=10_000).start()
    place.desk.address = "x" * 10_000
    envoy = place.filter()
    await envoy.greet()
    await envoy.send(*(filter_side.pick(s, blocks=0) for s in range(200)))
    assert await place.dropped(1) == [1]
    assert place.metrics.closed == {CloseCause.UNSENT_LIMIT: 1}
    place.server.stop()
    envoy.close()


async def test_a_backlog_that_grows_bit_by_bit_is_limited_too(tmp_path: Path) -> None:
    place = Place(tmp_path / "pick.sock", unsent=100_000).start()
    place.desk.address = "x" * 10_000
    envoy = place.filter()
    await envoy.greet()
    for stream in range(200):
        batches = len(place.desk.batches)
        try:
            await envoy.send(filter_side.pick(stream, blocks=0))
        except OSError:
            break  # cut off
        async with asyncio.timeout(5):
            while len(place.desk.batches) == batches and not place.desk.dropped:
                await asyncio.sleep(0)
    assert place.desk.dropped == [1]
    assert place.metrics.closed == {CloseCause.UNSENT_LIMIT: 1}
    place.server.stop()
    envoy.close()


async def test_heartbeats_come_by_themselves(tmp_path: Path) -> None:
    place = Place(tmp_path / "pick.sock", heartbeat_ms=10).start()
    silent, envoy = place.filter(), place.filter()
    await envoy.greet()
    assert len(await envoy.receive(3, Heartbeat)) == 3
    with pytest.raises(BlockingIOError):
        silent.socket.recv(1)  # one that did not say HELLO is told nothing
    assert (place.server.connections, place.server.filters) == (2, 1)
    place.server.stop()
    envoy.close()
    silent.close()


async def test_a_slower_pace_keeps_the_promise_made_in_welcome(tmp_path: Path) -> None:
    place = Place(tmp_path / "pick.sock", heartbeat_ms=10).start()
    envoy = place.filter()
    await envoy.greet()
    place.server.heartbeat_ms = 10_000
    assert len(await envoy.receive(3, Heartbeat)) == 3
    place.server.stop()
    envoy.close()


async def test_too_many_filters_are_refused(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    assert FILTERS_MAX > 2
    monkeypatch.setattr("inferway.picker.server.FILTERS_MAX", 2)
    place.start()
    first, second = place.filter(), place.filter()
    await first.greet(1)
    await second.greet(2)
    assert await place.filter().closed()
    assert place.metrics.closed == {CloseCause.TOO_MANY: 1}
    assert place.server.connections == 2


async def test_stop_closes_and_releases(place: Place) -> None:
    envoy = place.start().filter()
    await envoy.greet()
    place.server.stop()
    assert await envoy.closed()
    assert place.desk.dropped == [1]
    place.server.stop()


def test_only_the_owner_may_connect(tmp_path: Path) -> None:
    path = tmp_path / "pick.sock"
    before = os.umask(0)
    try:
        with listening_unix_socket(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert os.umask(0) == 0, "the process's umask is put back"
    finally:
        os.umask(before)


def test_a_stale_socket_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "pick.sock"
    listening_unix_socket(path).close()
    assert path.exists()
    with listening_unix_socket(path):
        pass


def test_a_socket_in_use_is_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "pick.sock"
    with (
        listening_unix_socket(path),
        pytest.raises(OSError, match="another process listens"),
    ):
        listening_unix_socket(path)
    assert path.exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "pick.sock"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        listening_unix_socket(path)
    assert path.read_text() == "precious"


def test_removing_a_socket_twice_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "pick.sock"
    listening_unix_socket(path).close()
    remove_unix_socket(path)
    remove_unix_socket(path)
    assert not path.exists()


async def test_answers_may_come_later(place: Place) -> None:
    envoy = place.start().filter()
    await envoy.greet()
    place.server.send(1, encode_endpoints(7, 1, 2, "10.0.0.1:8000", ""))
    place.server.send(99, b"to nobody")
    (answer,) = await envoy.receive(1, Endpoints)
    assert answer.stream == 7


async def test_the_desk_is_asked_to_look_when_it_wants_to(place: Place) -> None:
    envoy = place.start().filter()
    await envoy.greet()
    place.desk.ticks = [60.0, 0.001, 0.002]  # the first is put off by the second; then once more
    await envoy.send(filter_side.pick(1))
    await envoy.receive(1, Endpoints)
    await envoy.send(filter_side.pick(2))
    await envoy.receive(1, Endpoints)
    async with asyncio.timeout(5):
        while place.desk.ticked < 2:
            await asyncio.sleep(0.001)
    assert place.desk.ticks == []


async def test_stop_answers_what_waits_first(place: Place) -> None:
    envoy = place.start().filter()
    await envoy.greet()
    assert place.desk.beats >= 1
    place.server.stop()
    assert place.desk.ended
