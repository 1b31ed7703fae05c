"""Manifests in files and directories, with the last good state of each file.

Problem: people edit manifests of a gateway that is serving. A typing error, a half-written file or
a directory that is being swapped must not take routes away. Model: per file the objects of its last
good version and the problems of its present one. A snapshot is the last good objects of all files.

Rules: a file with an error keeps its last good objects, other files take effect; a file that was
never good contributes nothing; a deleted file takes its objects along; an empty file, or a given
path that is missing, keeps them, because the writer may not be done. Of two objects with one
identity the first by file order wins, the second is a problem. The generation of an object counts
up when its spec changes. A file is decoded again only when its content changed.
"""

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from inferway.resources import Entry, ResourceKey, ResourceSet
from inferway.resources.decode import decode
from inferway.resources.problems import Problem, Severity
from inferway.resources.resource_set import Resource, assemble

from .listing import FoundFile, Order, Signature, list_files
from .snapshot import Snapshot

FILE_BYTES_MAX = 16 * 1024 * 1024  # about 500,000 lines; protects memory from a wrong path


@dataclass(frozen=True, slots=True)
class _FileState:
    """`signature` and `digest` None: not read yet, try again."""

    order: Order
    signature: Signature | None
    digest: bytes | None
    entries: tuple[Entry, ...]  # of the last good version
    problems: tuple[Problem, ...]  # of the present one


class DirectorySource:
    """Remembers what the files held. `refresh` reads what changed, `snapshot` says what holds now.

    Not for concurrent use: one owner calls both.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._files: dict[str, _FileState] = {}
        self._listing_problems: tuple[Problem, ...] = ()
        self._generations: dict[ResourceKey, tuple[int, Resource]] = {}

    def refresh(self, touched: Set[str] = frozenset()) -> bool:
        """Read what changed; whether anything did. Files with a name in `touched` are read even if
        they look unchanged: two writes within one tick of the file system leave the same time.
        """
        listing = list_files(self.roots)
        states: dict[str, _FileState] = {}
        for found in listing.files:
            old = self._files.get(found.name)
            state = _read(found, old, is_touched=Path(found.name).name in touched)
            if state is not None:
                states[found.name] = state
        for name, old in self._files.items():
            if name not in states and listing.is_unknown(name):
                states[name] = old
        states = dict(sorted(states.items(), key=lambda item: item[1].order))
        problems = tuple(listing.problems)
        changed = problems != self._listing_problems or not _same(states, self._files)
        self._files, self._listing_problems = states, problems
        return changed

    def snapshot(self, *, changed_at: float) -> Snapshot:
        """What holds now. Call it once per refresh that changed something."""
        entries = (entry for state in self._files.values() for entry in state.entries)
        resources, conflicts = assemble(entries)
        in_files = (problem for state in self._files.values() for problem in state.problems)
        problems = (*self._listing_problems, *in_files, *conflicts)
        return Snapshot(self._numbered(resources), problems, changed_at)

    def _numbered(self, resources: ResourceSet) -> ResourceSet:
        """The same objects with their generations, which files do not carry."""
        generations: dict[ResourceKey, tuple[int, Resource]] = {}
        numbered: list[Entry] = []
        for entry in resources.entries.values():
            resource = entry.resource
            number, before = self._generations.get(resource.key, (1, resource))
            if resource is not before and not resource.says_the_same(before):
                number += 1
            generations[resource.key] = number, resource
            numbered.append(Entry(_with_generation(resource, number), entry.origin))
        self._generations = generations
        return assemble(numbered)[0]


def load(paths: Sequence[Path], *, changed_at: float = 0.0) -> Snapshot:
    """Everything under `paths`, once: for start-up and for validation."""
    source = DirectorySource(paths)
    source.refresh()
    return source.snapshot(changed_at=changed_at)


def _read(found: FoundFile, old: _FileState | None, *, is_touched: bool) -> _FileState | None:
    """The state of one file; the very same object when nothing changed; None when it vanished."""
    if old is not None and old.signature == found.signature and not is_touched:
        return old
    entries = old.entries if old is not None else ()
    if found.signature.size_bytes > FILE_BYTES_MAX:
        message = f"file is too large: {found.signature.size_bytes} bytes, {FILE_BYTES_MAX} allowed"
        return _unread(found, entries, message, found.signature)
    try:
        data = Path(found.name).read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        return _unread(found, entries, f"cannot be read: {error.strerror}", None)
    digest = hashlib.blake2b(data, digest_size=16).digest()
    if old is not None and old.digest == digest:
        return old if old.signature == found.signature else replace(old, signature=found.signature)
    if entries and not data.strip():
        message = "the file is empty; its objects stay"
        hint = "delete the file to remove them"
        problem = Problem(Severity.WARNING, found.name, 1, 1, "", message, hint)
        return _FileState(found.order, found.signature, digest, entries, (problem,))
    decoded = decode(data, file=found.name)
    good = entries if decoded.has_errors else decoded.entries
    return _FileState(found.order, found.signature, digest, good, decoded.problems)


def _unread(
    found: FoundFile, entries: tuple[Entry, ...], message: str, signature: Signature | None
) -> _FileState:
    problem = Problem(Severity.ERROR, found.name, 1, 1, "", message)
    return _FileState(found.order, signature, None, entries, (problem,))


def _same(new: dict[str, _FileState], old: dict[str, _FileState]) -> bool:
    """Equal but for the time stamps. Entries are compared by identity: decoding makes new ones."""
    return list(new) == list(old) and all(
        new[name].entries is old[name].entries and new[name].problems == old[name].problems
        for name in new
    )


def _with_generation(resource: Resource, number: int) -> Resource:
    if resource.metadata.generation == number:
        return resource
    metadata = resource.metadata.model_copy(update={"generation": number})
    return resource.model_copy(update={"metadata": metadata})
