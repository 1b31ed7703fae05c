"""The picker as a process: real sockets, a Python filter, the control link, signals, restarts."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import pytest

from inferway.picker.app import run_picker
from inferway.picker.config import EndpointConfig, PickerConfig, PickerStatus, PoolConfig
from inferway.picker.link_server import PickerLink
from inferway.picker.protocol import filter_side
from inferway.picker.protocol.filter_side import Answer, Answers, Endpoints, Heartbeat, Welcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

pytestmark = [pytest.mark.hermetic, pytest.mark.timeout(60)]

POOL = "default/pool"
PATIENCE_S = 20


class Filter:
    """A filter with one connection; everything the picker says ends up in `got`, in order."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._answers = Answers()
        self.got: list[Answer] = []
        self.epoch = 0

    @classmethod
    async def connect(cls, path: Path) -> Filter:
        """Retries until the picker listens, as a filter does."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return cls(*await asyncio.open_unix_connection(path))
                except OSError:
                    await asyncio.sleep(0.01)

    async def greet(self, filter_id: int) -> None:
        self.send(filter_side.hello(filter_id))
        (welcome,) = await self.wait(1, Welcome)
        assert isinstance(welcome, Welcome)
        self.epoch = welcome.epoch

    def send(self, *frames: bytes) -> None:
        self._writer.write(b"".join(frames))

    async def wait(self, count: int, *kinds: type) -> list[Answer]:
        """The first `count` answers of these kinds since the last `wait` for them."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self._of(kinds)) < count:
                data = await self._reader.read(65_536)
                if not data:
                    raise ConnectionResetError("the picker closed the connection")
                self.got += self._answers.feed(data)
        found = self._of(kinds)[:count]
        self.got = [answer for answer in self.got if answer not in found]
        return found

    async def place(self, *picks: bytes) -> list[Endpoints]:
        self.send(*picks)
        answers = await self.wait(len(picks), Endpoints, filter_side.Reject)
        assert all(isinstance(answer, Endpoints) for answer in answers), answers
        return [answer for answer in answers if isinstance(answer, Endpoints)]

    async def close(self) -> None:
        self._writer.transport.abort()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    def _of(self, kinds: tuple[type, ...]) -> list[Answer]:
        return [answer for answer in self.got if isinstance(answer, kinds)]


def closed_ports(count: int) -> list[str]:
    """Addresses where nobody listens: the picker places requests, it does not send them."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{server.getsockname()[1]}" for server in held]
    for server in held:
        server.close()
    return addresses


def config(version: int, addresses: list[str], **more: object) -> PickerConfig:
    endpoints = tuple(EndpointConfig(address=a, server="default/s") for a in addresses)
    return PickerConfig.model_validate(
        {"version": version, "pools": (PoolConfig(name=POOL, endpoints=endpoints),), **more}
    )


class Filters:
    """Connects filters and closes them all when the test ends, however it ends."""

    def __init__(self) -> None:
        self._connected: list[Filter] = []

    async def connect(self, path: Path, filter_id: int = 1) -> Filter:
        connected = await Filter.connect(path)
        self._connected.append(connected)
        await connected.greet(filter_id)
        return connected

    async def close(self) -> None:
        for connected in self._connected:
            await connected.close()


@pytest.fixture
async def filters() -> AsyncIterator[Filters]:
    made = Filters()
    yield made
    await made.close()


@asynccontextmanager
async def in_process(path: Path, initial: PickerConfig) -> AsyncIterator[None]:
    """A picker on this loop with one configuration and no control."""
    stop, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(run_picker(path, None, initial, stop=stop, ready=ready))
        await ready.wait()
        try:
            yield
        finally:
            stop.set()


class Process:
    """`inferway picker` as control starts it."""

    def __init__(self, pick: Path, control: Path) -> None:
        self._command = (sys.executable, "-m", "inferway", "picker", "--pick-socket", str(pick))
        self._control = str(control)
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            *("--control-socket", self._control),
            stderr=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )

    async def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()


@asynccontextmanager
async def controlled(pick: Path, link: PickerLink, control: Path) -> AsyncIterator[Process]:
    """A picker process that follows `link`."""
    picker = Process(pick, control)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(link.serve(control))
        await picker.start()
        try:
            yield picker
        finally:
            if picker.process is not None and picker.process.returncode is None:
                picker.process.kill()
                await picker.process.wait()
            serving.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


def in_flight(status: PickerStatus | None) -> dict[str, int]:
    pools = status.pools if status is not None else ()
    return {e.address: e.in_flight for pool in pools for e in pool.endpoints if e.in_flight}


async def test_a_burst_spreads_over_equal_endpoints(tmp_path: Path, filters: Filters) -> None:
    addresses = closed_ports(4)
    async with in_process(tmp_path / "pick.sock", config(1, addresses)):
        envoy = await filters.connect(tmp_path / "pick.sock")
        answers = await envoy.place(*(filter_side.pick(s, seed=s) for s in range(400)))
        assert Counter(a.endpoints[0] for a in answers) == dict.fromkeys(addresses, 100)


async def test_a_conversation_that_goes_on_stays(tmp_path: Path, filters: Filters) -> None:
    async with in_process(tmp_path / "pick.sock", config(1, closed_ports(4))):
        envoy = await filters.connect(tmp_path / "pick.sock")
        stream = 0
        for chat in range(8):
            places = set()
            for turn in range(1, 5):
                stream += 1
                (answer,) = await envoy.place(
                    filter_side.pick(stream, seed=chat << 32, blocks=8 * turn)
                )
                envoy.send(filter_side.first(stream), filter_side.done(stream))
                places.add(answer.endpoints[0])
            assert len(places) == 1


async def test_refusals_reach_the_filter(tmp_path: Path, filters: Filters) -> None:
    async with in_process(tmp_path / "pick.sock", config(1, [])):
        envoy = await filters.connect(tmp_path / "pick.sock")
        envoy.send(filter_side.pick(1, pool="default/nobody"), filter_side.pick(2))
        answers = await envoy.wait(2, filter_side.Reject)
        codes = [a.code for a in answers if isinstance(a, filter_side.Reject)]
        assert codes == ["pool_not_found", "no_endpoint"]


async def test_heartbeats_go_on_under_load(tmp_path: Path, filters: Filters) -> None:
    initial = config(1, closed_ports(4), heartbeat_ms=20)
    async with in_process(tmp_path / "pick.sock", initial):
        envoy = await filters.connect(tmp_path / "pick.sock")
        beats = 0
        stream = 0
        while beats < 5:
            picks = [filter_side.pick(stream + n, seed=stream + n) for n in range(200)]
            await envoy.place(*picks)
            envoy.send(*(filter_side.done(stream + n) for n in range(200)))
            stream += 200
            beats += len(envoy._of((Heartbeat,)))
            envoy.got.clear()
            assert stream < 100_000, "the picker answers but its heart does not beat"


async def test_stop_leaves_nothing_behind(tmp_path: Path, filters: Filters) -> None:
    path = tmp_path / "pick.sock"
    async with in_process(path, config(1, closed_ports(1))):
        envoy = await filters.connect(path)
    with pytest.raises(ConnectionResetError):
        await envoy.wait(1, Endpoints)
    assert not path.exists()


async def test_a_bad_start_is_an_error(tmp_path: Path) -> None:
    bad = PickerConfig(version=1, pools=(PoolConfig(name=POOL, policy="luck"),))
    with pytest.raises(ValueError, match="luck"):
        await run_picker(tmp_path / "pick.sock", None, bad, stop=asyncio.Event())


async def test_the_life_of_a_process(tmp_path: Path, filters: Filters) -> None:
    """Waits for control, picks, reports, takes changes, refuses nonsense, ends on SIGTERM."""
    pick, control = tmp_path / "pick.sock", tmp_path / "control.sock"
    addresses = closed_ports(2)
    link = PickerLink()
    async with controlled(pick, link, control) as picker:
        await until(lambda: link.connected)
        assert not pick.exists(), "no filter may ask before there is a configuration"
        link.publish(config(1, addresses[:1]))
        envoy = await filters.connect(pick)
        assert (await envoy.place(filter_side.pick(1)))[0].endpoints == (addresses[0],)
        await until(lambda: in_flight(link.status) == {addresses[0]: 1})

        link.publish(config(2, addresses[1:]))
        await until(lambda: link.status is not None and link.status.version == 2)
        assert (await envoy.place(filter_side.pick(2)))[0].endpoints == (addresses[1],)

        link.publish(PickerConfig(version=3, pools=(PoolConfig(name=POOL, policy="luck"),)))
        await until(lambda: link.status is not None and link.status.error)
        assert link.status is not None
        assert "luck" in link.status.error
        assert link.status.version == 2
        assert (await envoy.place(filter_side.pick(3)))[0].endpoints == (addresses[1],)

        await until(
            lambda: link.status is not None and "inferway_picks_total" in link.status.metrics
        )
        envoy.send(filter_side.done(1), filter_side.done(2), filter_side.done(3))
        await until(lambda: in_flight(link.status) == {})
        assert await picker.end(signal.SIGTERM) == 0
        assert not pick.exists()


async def test_control_away_and_hung(tmp_path: Path, filters: Filters) -> None:
    pick, control = tmp_path / "pick.sock", tmp_path / "control.sock"
    addresses = closed_ports(1)
    picker = Process(pick, control)
    first = PickerLink()
    first.publish(config(1, addresses))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(first.serve(control))
        await picker.start()
        envoy = await filters.connect(pick)
        serving.cancel()
    assert await envoy.place(filter_side.pick(1)), "control is away"

    async def hang(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hung.append(writer)

    hung: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(hang, control)
    await until(lambda: hung)
    assert await envoy.place(filter_side.pick(2)), "control hangs"
    server.close()
    for writer in hung:
        writer.transport.abort()
    control.unlink(missing_ok=True)

    second = PickerLink()
    second.publish(config(7, addresses))
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(second.serve(control))
        await until(lambda: second.status is not None and second.status.version == 7)
        await until(lambda: in_flight(second.status) == {addresses[0]: 2})
        assert await picker.end(signal.SIGTERM) == 0
        serving.cancel()


async def test_a_filter_that_goes_releases_everything(tmp_path: Path, filters: Filters) -> None:
    pick, control = tmp_path / "pick.sock", tmp_path / "control.sock"
    link = PickerLink()
    link.publish(config(1, closed_ports(3)))
    async with controlled(pick, link, control):
        gone, stays = await filters.connect(pick, 1), await filters.connect(pick, 2)
        await gone.place(*(filter_side.pick(s, seed=s) for s in range(300)))
        gone.send(*(filter_side.first(s) for s in range(0, 300, 2)))
        gone.send(*(filter_side.done(s) for s in range(0, 300, 3)))
        (kept,) = await stays.place(filter_side.pick(1))
        await until(lambda: sum(in_flight(link.status).values()) == 201)
        await gone.close()
        await until(lambda: in_flight(link.status) == {kept.endpoints[0]: 1})
        await stays.close()
        await until(lambda: in_flight(link.status) == {})


async def test_a_restarted_picker_learns_what_runs(tmp_path: Path, filters: Filters) -> None:
    """Killed under work; the filter replays placed and pending streams; nothing leaks."""
    pick, control = tmp_path / "pick.sock", tmp_path / "control.sock"
    addresses = closed_ports(2)
    link = PickerLink()
    link.publish(config(1, addresses))
    async with controlled(pick, link, control) as picker:
        envoy = await filters.connect(pick)
        answers = await envoy.place(*(filter_side.pick(s, seed=s) for s in range(10)))
        assert await picker.end(signal.SIGKILL) == -signal.SIGKILL
        link.status = None
        await picker.start()
        with pytest.raises(ConnectionResetError):
            await envoy.wait(1, Endpoints)
        epoch_before = envoy.epoch

        envoy = await filters.connect(pick)
        assert envoy.epoch != epoch_before
        envoy.send(
            *(
                filter_side.opened(
                    answer.stream,
                    endpoint=answer.endpoints[0],
                    uncached=answer.charged_uncached,
                    context=answer.charged_context,
                    phase=answer.stream % 2,
                )
                for answer in answers
            )
        )
        pending = await envoy.place(filter_side.pick(10, repeated=True, seed=10))
        assert pending[0].stream == 10
        expected = Counter(answer.endpoints[0] for answer in [*answers, *pending])
        await until(lambda: in_flight(link.status) == expected)
        envoy.send(*(filter_side.done(s) for s in range(11)), filter_side.done(0))
        await until(lambda: link.status is not None and in_flight(link.status) == {})
