"""Which files the given paths stand for.

A path that is a file is that file, whatever its name. A directory stands for every *.yaml, *.yml
and *.json below it, symbolic links followed; hidden entries and the temporary files of editors are
left out. The order is that of the paths, then by name, so that "first" means something.

What cannot be listed is told apart from what is not there: a directory in the middle of being
replaced must not look like one whose files were all deleted.
"""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from inferway.resources.problems import Problem, Severity

FILES_MAX = 10_000  # a directory with more is not a manifest directory but a mistake

SUFFIXES = (".yaml", ".yml", ".json")

Order = tuple[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Signature:
    """Changes when the content of a file does, as far as the file system can tell."""

    modified_ns: int
    size_bytes: int
    device: int
    inode: int


@dataclass(frozen=True, slots=True)
class FoundFile:
    """`name` is the path as the user would write it."""

    name: str
    order: Order
    signature: Signature


@dataclass(slots=True)
class Listing:
    """`unlisted`: paths whose content is unknown now, each with a problem."""

    files: list[FoundFile] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def is_unknown(self, name: str) -> bool:
        """Whether that file may still be there."""
        return any(name == path or name.startswith(path + os.sep) for path in self.unlisted)


def list_files(roots: tuple[Path, ...]) -> Listing:
    """Never raises; what fails is a problem."""
    listing = Listing()
    seen: set[tuple[int, int]] = set()
    for index, root in enumerate(roots):
        for found in _walk(root, (index, ()), listing, seen, is_root=True):
            if len(listing.files) >= FILES_MAX:
                message = f"too many manifest files: only the first {FILES_MAX} are read"
                _fail(listing, root, message)
                return listing
            listing.files.append(found)
    return listing


def signature_of(status: os.stat_result) -> Signature:
    return Signature(status.st_mtime_ns, status.st_size, status.st_dev, status.st_ino)


def _walk(
    path: Path,
    order: Order,
    listing: Listing,
    seen: set[tuple[int, int]],
    *,
    is_root: bool = False,
) -> Iterator[FoundFile]:
    """`seen` keeps what is reachable twice, such as a link to a parent, from being read again."""
    try:
        status = path.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        if not stat.S_ISDIR(status.st_mode):
            if is_root or (_is_manifest(path.name) and stat.S_ISREG(status.st_mode)):
                seen.add((status.st_dev, status.st_ino))
                yield FoundFile(str(path), order, signature_of(status))
            return
        seen.add((status.st_dev, status.st_ino))
        names = sorted(entry.name for entry in path.iterdir())
    except OSError as error:
        # A file or a link below a root that is gone was deleted; a missing root is a mistake.
        if is_root or not isinstance(error, FileNotFoundError):
            _fail(listing, path, f"cannot be read: {error.strerror}")
        return
    index, parts = order
    for name in names:
        if not name.startswith("."):
            yield from _walk(path / name, (index, (*parts, name)), listing, seen)


def _is_manifest(name: str) -> bool:
    """Backups such as a.yaml~ and a.yaml.swp end otherwise; #a.yaml# and .#a.yaml do not."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(("#", "~"))


def _fail(listing: Listing, path: Path, message: str) -> None:
    listing.unlisted.append(str(path))
    listing.problems.append(Problem(Severity.ERROR, str(path), 1, 1, "", message))
