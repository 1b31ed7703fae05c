"""A child that ends with its parent, whatever happened to the parent.

A program of its own instead of a hook between fork and exec, which is unsafe in a process with
threads (gRPC has some). It asks the kernel for a signal at the parent's death and then becomes the
program. Other systems than Linux have no such request: there the child is on its own.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# If the parent died before the request was made, there is nobody left to tell: it ends by itself.
_LAUNCHER = """
import ctypes, os, signal, sys
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


def with_parent(command: Sequence[str]) -> list[str]:
    """The command line that starts `command` (an absolute program path first) tied to us."""
    return [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(os.getpid()), *command]
