"""Snapshots as files change.

Problem: file events are hints. They come in bursts, stop when a directory is replaced (the watch
stays on the old inode) and do not exist behind some links and on network file systems. Model: an
event, or `rescan_s` without one, leads to a refresh that looks at every file and yields a snapshot
only if something changed. So an event makes it fast and the rescan makes it certain. The watcher is
set up before the first reading and again when a path has become another directory, so nothing falls
between; that order is why watchfiles' backend is used here and not its `awatch`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from .directory import DirectorySource
from .snapshot import Snapshot

# How often the watcher looks for events; a batch ends after one step without new ones. Looking
# every 10 ms costs half a per cent of a core; a change waits for 10 to 20 ms of it.
STEP_MS = 10
DEBOUNCE_MS = 50  # longest batch
RESCAN_S = 1.0  # latest notice of what gives no event

Identity = tuple[int, int] | None


class Stop(Protocol):
    """Set to end watching; an asyncio.Event or threading.Event will do."""

    def is_set(self) -> bool: ...


async def watch(
    paths: Sequence[Path],
    clock: Callable[[], float],
    stop: Stop,
    *,
    rescan_s: float = RESCAN_S,
) -> AsyncIterator[Snapshot]:
    """What holds now, at once, then a snapshot per change until `stop` is set."""
    source = DirectorySource(paths)
    halt = _Halt(stop)
    is_first = True
    try:
        while not halt.is_set():
            identities = _identities(source.roots)
            watcher = _watcher(source.roots)
            changed_at, touched = clock(), frozenset[str]()
            while not halt.is_set():
                if await asyncio.to_thread(source.refresh, touched) or is_first:
                    is_first = False
                    yield source.snapshot(changed_at=changed_at)
                if _identities(source.roots) != identities:
                    break
                touched = await asyncio.to_thread(_wait, watcher, halt, rescan_s)
                changed_at = clock() - (DEBOUNCE_MS / 1000 if touched else 0)
    finally:
        halt.is_halted = True


@dataclass(slots=True)
class _Halt:
    """Ends the waiting thread also when the iterator is closed or cancelled."""

    stop: Stop
    is_halted: bool = False

    def is_set(self) -> bool:
        return self.is_halted or self.stop.is_set()


def _watcher(roots: tuple[Path, ...]) -> RustNotify:
    """Of the paths that can be watched now; without any it only waits, and rescanning goes on."""
    watched = [str(root) for root in roots if root.exists()]
    try:
        return _notify(watched)
    except OSError:  # gone meanwhile, or the system's limit of watches is reached
        return _notify([])


def _notify(paths: list[str]) -> RustNotify:
    return RustNotify(
        paths,
        debug=False,
        force_polling=False,
        poll_delay_ms=0,
        recursive=True,
        ignore_permission_denied=True,
    )


def _wait(watcher: RustNotify, halt: _Halt, rescan_s: float) -> frozenset[str]:
    """Names of files with events; none after `rescan_s` without any, or on halt."""
    timeout_ms = max(STEP_MS, round(rescan_s * 1000))
    try:
        events = watcher.watch(DEBOUNCE_MS, STEP_MS, timeout_ms, halt)
    except WatchfilesRustInternalError:  # an event could not be read; look at everything
        return frozenset()
    return (
        frozenset() if isinstance(events, str) else frozenset(Path(path).name for _, path in events)
    )


def _identities(roots: tuple[Path, ...]) -> tuple[Identity, ...]:
    """Which directory or file each path is now; None when there is none."""
    return tuple(_identity(root) for root in roots)


def _identity(root: Path) -> Identity:
    try:
        status = root.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
