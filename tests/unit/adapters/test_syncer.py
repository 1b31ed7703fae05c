"""Servers kept as a configuration says, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from inferway.adapters.config import SyncConfig, Unwanted, UnwantedAdapter, Wanted, WantedAdapter
from inferway.adapters.metrics import SyncMetrics
from inferway.adapters.model_server import ServerError
from inferway.adapters.syncer import Syncer

from .fake_server import Counted, FakeServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from typing import Any

    from inferway.adapters.plan import Call

    Run = Callable[[Coroutine[Any, Any, Any]], Any]


def config(*wanted: str, unwanted: tuple[str, ...] = ()) -> SyncConfig:
    return SyncConfig(
        ensure_exist=Wanted(
            models=tuple(WantedAdapter(id=one, source=f"/{one}") for one in wanted)
        ),
        ensure_not_exist=Unwanted(models=tuple(UnwantedAdapter(id=one) for one in unwanted)),
    )


def syncer_of(
    servers: dict[str, FakeServer],
    wanted: SyncConfig | None,
    counted: Counted | None = None,
    dry_run: Callable[[str, Call], None] | None = None,
) -> Syncer:
    syncer = Syncer(
        servers.__getitem__,
        counts=counted or Counted(),
        clock=asyncio.get_running_loop().time,
        dry_run=dry_run,
    )
    if wanted is not None:
        syncer.set_config(wanted)
    syncer.set_targets(servers)
    return syncer


@asynccontextmanager
async def running(syncer: Syncer) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(syncer.run())
        await asyncio.sleep(0.1)
        yield
        syncer.stop()


def test_loads_at_once_and_after_a_restart_within_five_seconds(virtually: Run) -> None:
    server = FakeServer(adapters={"old": "/old", "foreign": "/f"})

    async def work() -> None:
        syncer = syncer_of({"http://a": server}, config("one", "two", unwanted=("old",)))
        assert not syncer.in_sync
        async with running(syncer):
            assert server.adapters == {"foreign": "/f", "one": "/one", "two": "/two"}
            assert syncer.in_sync
            server.restart()
            await asyncio.sleep(5)
            assert server.adapters == {"one": "/one", "two": "/two"}
            calls = len(server.called)
            await asyncio.sleep(60)
            assert len(server.called) == calls, "nothing to do, nothing called"
            assert server.lists >= 12

    virtually(work())


def test_a_change_is_in_force_at_once(virtually: Run) -> None:
    server = FakeServer()

    async def work() -> None:
        syncer = syncer_of({"http://a": server}, None)
        async with running(syncer):
            assert server.lists == 0, "without a configuration nothing is done"
            syncer.set_config(config("v1"))
            await asyncio.sleep(0.01)
            assert [*server.adapters] == ["v1"]
            syncer.set_config(config("v1", "v2"))
            assert not syncer.in_sync, "nobody has looked yet"
            await asyncio.sleep(0.01)
            assert syncer.in_sync
            syncer.set_config(config("v2", unwanted=("v1",)))
            await asyncio.sleep(0.01)
            assert [*server.adapters] == ["v2"]

    virtually(work())


def test_waits_for_health_every_two_seconds_then_less_often(virtually: Run) -> None:
    server, counted = FakeServer(up=False), Counted()

    async def work() -> None:
        syncer = syncer_of({"http://a": server}, config("one"), counted)
        async with running(syncer):
            await asyncio.sleep(299)
            assert server.asked_health_at_s[:4] == [0, 2, 4, 6]
            assert counted.unhealthy_servers == 0
            await asyncio.sleep(10)
            assert counted.unhealthy_servers == 1
            await asyncio.sleep(600)
            late = server.asked_health_at_s[-5:]
            assert {b - a for a, b in itertools.pairwise(late)} == {30}
            assert counted.unhealthy_servers == 1, "reported once"
            server.up = True
            await asyncio.sleep(31)
            assert server.adapters == {"one": "/one"}

    virtually(work())


def test_a_call_that_fails_is_repeated_ever_less_often_and_holds_up_nothing(
    virtually: Run,
) -> None:
    server, counted = FakeServer(), Counted()
    server.troubles["bad"] = ServerError("answers 500", refused=False)

    async def work() -> None:
        syncer = syncer_of({"http://a": server}, config("bad", "good"), counted)
        async with running(syncer):
            await asyncio.sleep(1000)
            times = [round(at_s) for at_s, call in server.called if call.startswith("load bad")]
            pauses = [b - a for a, b in itertools.pairwise(times)]
            assert pauses[:4] == [5, 10, 20, 40]
            assert max(pauses) <= 305
            assert server.adapters == {"good": "/good"}
            assert not syncer.in_sync
            server.restart()
            await asyncio.sleep(5.1)
            assert server.adapters == {"good": "/good"}, "a restart is seen as soon as ever"
            del server.troubles["bad"]
            syncer.set_config(config("bad", "good"))
            await asyncio.sleep(300)
            assert syncer.in_sync
            assert ("bad", "failed") in counted.calls

    virtually(work())


def test_the_list_is_the_truth_not_the_answer(virtually: Run) -> None:
    """400 because somebody loaded it in between is success; 200 without effect is not."""

    class Racing(FakeServer):
        async def apply(self, call: Call) -> None:
            if call.adapter == "raced":
                self.adapters["raced"] = "/raced"
                raise ServerError("answers 400: has already been loaded", refused=True)
            self.called.append((0.0, str(call)))  # and nothing happens

    server, counted = Racing(), Counted()

    async def work() -> None:
        syncer = syncer_of({"http://a": server}, config("raced"), counted)
        assert await syncer.once()
        assert counted.calls == [("raced", "refused")]
        syncer.set_config(config("raced", "ignored"))
        assert not await syncer.once()
        assert counted.calls[-1] == ("ignored", "ok")

    virtually(work())


def test_one_server_that_hangs_does_not_delay_another(virtually: Run) -> None:
    servers = {"http://a": FakeServer(hangs=True), "http://b": FakeServer()}

    async def work() -> None:
        syncer = syncer_of(servers, config("one"))
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(syncer.run())
            await asyncio.sleep(1)
            assert servers["http://b"].adapters == {"one": "/one"}
            assert not syncer.in_sync
            task.cancel()

    virtually(work())


def test_servers_come_and_go(virtually: Run) -> None:
    servers = {f"http://{name}": FakeServer() for name in "abc"}

    async def work() -> None:
        syncer = syncer_of(servers, config("one"))
        syncer.set_targets(["http://a", "http://b"])
        async with running(syncer):
            syncer.set_targets(["http://b", "http://c"])
            await asyncio.sleep(0.1)
            assert servers["http://c"].adapters == {"one": "/one"}
            servers["http://a"].restart()
            servers["http://b"].restart()
            await asyncio.sleep(6)
            assert servers["http://a"].adapters == {}, "left as it is"
            assert servers["http://b"].adapters == {"one": "/one"}

    virtually(work())


def test_a_server_that_goes_away_is_not_in_sync_until_it_is_back(virtually: Run) -> None:
    server = FakeServer()

    async def work() -> None:
        syncer = syncer_of({"http://a": server}, config("one", unwanted=("old",)))
        async with running(syncer):
            assert syncer.in_sync
            assert [*syncer.adapters()] == [("one", "http://a", True), ("old", "http://a", False)]
            server.up = False
            await asyncio.sleep(6)
            assert not syncer.in_sync
            assert ("one", "http://a", False) in [*syncer.adapters()]
            server.up = True
            server.restart()
            await asyncio.sleep(8)
            assert syncer.in_sync

    virtually(work())


def test_once(virtually: Run) -> None:
    servers = {"http://a": FakeServer(), "http://b": FakeServer(up=False)}

    async def work() -> None:
        loop = asyncio.get_running_loop()
        syncer = syncer_of(servers, config("one"))
        assert not await syncer.once()
        assert loop.time() == 300, "the time a server has to become healthy"
        assert servers["http://a"].adapters == {"one": "/one"}
        servers["http://b"].up = True
        assert await syncer.once()

    virtually(work())


def test_dry_run_calls_nothing(virtually: Run) -> None:
    server, told = FakeServer(adapters={"old": "/old"}), []

    async def work() -> None:
        wanted = config("one", unwanted=("old",))
        syncer = syncer_of(
            {"http://a": server}, wanted, dry_run=lambda url, call: told.append(f"{url} {call}")
        )
        assert not await syncer.once()
        assert told == ["http://a load one from /one", "http://a unload old"]
        assert server.called == []
        server.adapters = {"one": "/one"}
        assert await syncer.once(), "nothing to do"

    virtually(work())


def test_metrics() -> None:
    metrics = SyncMetrics()
    text = metrics.text(
        [("a", "http://x", True), ("a", "http://y", False), ("b", "http://x", True)]
    )
    assert 'lora_syncer_adapter_status{adapter_name="a"} 0.0' in text
    assert 'lora_syncer_adapter_status{adapter_name="b"} 1.0' in text
    assert 'inferway_adapter_loaded{adapter_name="a",server="http://x"} 1.0' in text
    assert "adapter_name" not in metrics.text([]), "what is no longer wanted is not shown"
