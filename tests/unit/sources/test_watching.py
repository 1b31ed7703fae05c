"""Real files, real events. Every wait ends with the event it waits for; nothing sleeps."""

import asyncio
import itertools
import shutil
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from inferway.sources import Snapshot, watch
from inferway.sources.watching import DEBOUNCE_MS

SERVER = """\
apiVersion: inferway.dev/v1alpha1
kind: ModelServer
metadata: {{name: {name}}}
spec: {{addresses: [{{host: {host}}}]}}
"""
NEVER_S = 3600.0  # rescans are out of the picture: only events lead to a snapshot
WAIT_S = 30.0  # a limit for a broken watcher, not a pace


def server(name: str, host: str = "10.0.0.1") -> str:
    return SERVER.format(name=name, host=host)


def hosts(snapshot: Snapshot) -> dict[str, str]:
    return {
        resource.name: resource.spec.addresses[0].host
        for resource in snapshot.resources.model_servers
    }


def put(file: Path, text: str) -> None:
    """In one step, so that no half-written file is seen."""
    new = file.with_name(".new")
    new.write_text(text)
    new.replace(file)


def remove_all(directory: Path) -> None:
    for file in list(directory.iterdir()):
        file.unlink()


class Watched:
    def __init__(self, snapshots: AsyncIterator[Snapshot], stop: asyncio.Event) -> None:
        self.stop = stop
        self._snapshots = snapshots

    async def next(self) -> Snapshot:
        return await asyncio.wait_for(anext(self._snapshots), WAIT_S)

    async def until(self, wanted: dict[str, str]) -> Snapshot:
        """A change of several files may come as several snapshots; the last one counts."""
        while True:
            snapshot = await self.next()
            if hosts(snapshot) == wanted:
                return snapshot


@asynccontextmanager
async def watching(
    *paths: Path, rescan_s: float = NEVER_S, clock: Callable[[], float] = lambda: 0.0
) -> AsyncGenerator[Watched]:
    stop = asyncio.Event()
    snapshots = watch(paths, clock, stop, rescan_s=rescan_s)
    try:
        yield Watched(snapshots, stop)
    finally:
        stop.set()
        await snapshots.aclose()  # type: ignore[attr-defined]


async def test_the_first_snapshot_comes_at_once_even_if_empty(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        snapshot = await watched.next()
    assert (hosts(snapshot), snapshot.problems) == ({}, ())


async def test_edits_new_files_and_deletions(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    put(file, server("a"))
    async with watching(tmp_path) as watched:
        assert hosts(await watched.next()) == {"a": "10.0.0.1"}
        put(file, server("a", "10.0.0.2"))
        await watched.until({"a": "10.0.0.2"})
        (tmp_path / "sub").mkdir()
        put(
            tmp_path / "sub" / "b.json",
            '{"apiVersion": "inferway.dev/v1alpha1", "kind": "ModelServer", "metadata": '
            '{"name": "b"}, "spec": {"addresses": [{"host": "b"}]}}',
        )
        await watched.until({"a": "10.0.0.2", "b": "b"})
        file.unlink()
        await watched.until({"b": "b"})


async def test_a_broken_file_is_reported_and_keeps_its_objects(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    put(file, server("a"))
    async with watching(tmp_path) as watched:
        await watched.next()
        put(file, server("a") + "typo: 1\n")
        snapshot = await watched.next()
        assert hosts(snapshot) == {"a": "10.0.0.1"}
        assert [problem.field for problem in snapshot.problems] == ["typo"]
        put(file, server("a", "10.0.0.2"))
        await watched.until({"a": "10.0.0.2"})


async def test_a_file_replaced_by_renaming(tmp_path: Path) -> None:
    """How editors save, for a file that is watched by its own name."""
    file = tmp_path / "a.yaml"
    put(file, server("a"))
    async with watching(file) as watched:
        await watched.next()
        for host in ("10.0.0.2", "10.0.0.3"):
            put(tmp_path / "a.yaml.new", server("a", host))
            (tmp_path / "a.yaml.new").replace(file)
            await watched.until({"a": host})


async def test_what_does_not_change_anything_gives_no_snapshot(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    put(file, server("a"))
    async with watching(tmp_path) as watched:
        await watched.next()
        file.touch()
        put(tmp_path / "notes.txt", "x")
        put(tmp_path / ".a.yaml.swp", "x")
        put(tmp_path / "b.yaml", server("b"))
        assert hosts(await watched.next()) == {"a": "10.0.0.1", "b": "10.0.0.1"}


async def test_a_config_map_is_swapped(tmp_path: Path) -> None:
    for version, host in (("..v1", "10.0.0.1"), ("..v2", "10.0.0.2")):
        (tmp_path / version).mkdir()
        put(tmp_path / version / "a.yaml", server("a", host))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with watching(tmp_path) as watched:
        assert hosts(await watched.next()) == {"a": "10.0.0.1"}
        (tmp_path / "..data_tmp").symlink_to("..v2")
        (tmp_path / "..data_tmp").replace(tmp_path / "..data")
        shutil.rmtree(tmp_path / "..v1")
        snapshot = await watched.until({"a": "10.0.0.2"})
        assert snapshot.resources.model_servers[0].metadata.generation == 2


async def test_a_directory_is_replaced_and_watched_again(tmp_path: Path) -> None:
    root = tmp_path / "manifests"
    root.mkdir()
    put(root / "a.yaml", server("a"))
    async with watching(root, rescan_s=0.05) as watched:
        await watched.next()
        for host in ("10.0.0.2", "10.0.0.3"):
            fresh = tmp_path / "fresh"
            fresh.mkdir()
            put(fresh / "a.yaml", server("a", host))
            root.rename(tmp_path / f"before-{host}")
            # In between the directory is missing: what it held stays.
            snapshot = await watched.next()
            assert len(snapshot.resources) == 1
            fresh.rename(root)
            snapshot = await watched.until({"a": host})
        put(root / "b.yaml", server("b"))
        await watched.until({"a": "10.0.0.3", "b": "10.0.0.1"})


async def test_a_link_to_a_release_is_moved(tmp_path: Path) -> None:
    """Nothing changes below the watched path, so only the rescan can see it."""
    for version, host in (("v1", "10.0.0.1"), ("v2", "10.0.0.2")):
        (tmp_path / version).mkdir()
        put(tmp_path / version / "a.yaml", server("a", host))
    current = tmp_path / "current"
    current.symlink_to("v1")
    async with watching(current, rescan_s=0.05) as watched:
        await watched.next()
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").replace(current)
        await watched.until({"a": "10.0.0.2"})
        put(tmp_path / "v2" / "a.yaml", server("a", "10.0.0.3"))
        await watched.until({"a": "10.0.0.3"})


async def test_a_path_that_appears_later(tmp_path: Path) -> None:
    root = tmp_path / "later"
    async with watching(root, rescan_s=0.05) as watched:
        first = await watched.next()
        assert (hosts(first), first.has_errors) == ({}, True)
        root.mkdir()
        put(root / "a.yaml", server("a"))
        snapshot = await watched.until({"a": "10.0.0.1"})
        assert snapshot.problems == ()


async def test_the_time_of_a_change_is_before_it_is_seen(tmp_path: Path) -> None:
    ticks = itertools.count(100.0, 100.0)
    async with watching(tmp_path, clock=lambda: next(ticks)) as watched:
        assert (await watched.next()).changed_at == 100.0
        put(tmp_path / "a.yaml", server("a"))
        changed_at = (await watched.until({"a": "10.0.0.1"})).changed_at
        assert changed_at % 100 == pytest.approx(100 - DEBOUNCE_MS / 1000)


async def test_stopping_ends_the_iterator(tmp_path: Path) -> None:
    stop = asyncio.Event()
    seen = []
    async for snapshot in watch([tmp_path], lambda: 0.0, stop):
        seen.append(snapshot)
        stop.set()
    assert len(seen) == 1


async def test_cancelling_leaves_no_thread_waiting(tmp_path: Path) -> None:
    async def follow() -> None:
        async for _snapshot in watch([tmp_path], lambda: 0.0, asyncio.Event(), rescan_s=NEVER_S):
            started.set()

    started = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(follow())
        await asyncio.wait_for(started.wait(), WAIT_S)
        task.cancel()
    await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), WAIT_S)
    assert not [thread for thread in threading.enumerate() if "asyncio" in thread.name]


async def test_many_files_at_once(tmp_path: Path) -> None:
    async with watching(tmp_path) as watched:
        await watched.next()
        for number in range(50):
            put(tmp_path / f"{number:02}.yaml", server(f"s{number}"))
        await watched.until({f"s{number}": "10.0.0.1" for number in range(50)})
        remove_all(tmp_path)
        await watched.until({})
