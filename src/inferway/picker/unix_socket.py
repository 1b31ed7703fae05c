"""A listening unix socket that only its owner may use.

Problem: a process that was killed leaves its socket file behind, and a fresh bind fails; removing
the file blindly would take the address from a process that still listens. Model: try to connect
first; only a file that nobody answers on is stale. The mode is 0600 from the first moment,
because the umask is in force at bind.
"""

from __future__ import annotations

import os
import socket
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

BACKLOG: Final = 64


def listening_unix_socket(path: Path) -> socket.socket:
    """A non-blocking stream socket that listens at `path`.

    OSError when the path is no socket, is in use, is too long (107 bytes) or cannot be written.
    """
    if _is_socket(path):
        _refuse_if_answered(path)
        path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    except OSError:
        listener.close()
        raise
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return listener


def remove_unix_socket(path: Path) -> None:
    """Removes the file of a socket that we listened on; harmless when it is gone."""
    path.unlink(missing_ok=True)


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _refuse_if_answered(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
    raise OSError(f"another process listens on this socket: {path}")
