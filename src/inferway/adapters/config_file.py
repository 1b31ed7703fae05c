"""The configuration file as it changes.

Problem: a mounted ConfigMap is a chain of symbolic links of which Kubernetes swaps one in the
middle, which gives no event at the file; and a file may be read half written. Model: the caller
asks again and again; the file's identity (which follows links) or its content having changed is a
change. A version that is bad, or a file that is gone, leaves the last good configuration in force:
counted as empty, as upstream does, a misspelt field would take the adapters from every server that
restarts until somebody notices.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from inferway.adapters.config import read_config
from inferway.resources.problems import Problem, Severity

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.adapters.config import SyncConfig

FILE_BYTES_MAX = 4 * 1024 * 1024  # a ConfigMap holds 1 MiB

Identity = tuple[int, int, int, int]


class ConfigFile:
    """Remembers the last good configuration, and what is wrong with the present version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: SyncConfig | None = None
        self.problems: tuple[Problem, ...] = ()
        self._identity: Identity | None = None
        self._digest: bytes | None = None

    def refresh(self, *, certainly: bool) -> bool:
        """Read it if it changed; whether it did. `certainly`: read it even if it looks unchanged,
        since two writes within one tick of the file system look the same.
        """
        try:
            status = self.path.stat()
            identity = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
            if identity == self._identity and not certainly:
                return False
            if status.st_size > FILE_BYTES_MAX:
                message = f"file is too large: {status.st_size} bytes, {FILE_BYTES_MAX} allowed"
                return self._cannot(message)
            data = self.path.read_bytes()
        except OSError as error:
            return self._cannot(f"cannot be read: {error.strerror}")
        digest = hashlib.blake2b(data, digest_size=16).digest()
        self._identity = identity
        if digest == self._digest:
            return False
        self._digest = digest
        read = read_config(data, file=str(self.path))
        self.problems = read.problems
        if read.config is not None:
            self.config = read.config
        return True

    def _cannot(self, message: str) -> bool:
        before = self.problems
        self.problems = (Problem(Severity.ERROR, str(self.path), 1, 1, "", message),)
        self._identity = self._digest = None
        return self.problems != before
