"""Where resources come from. Today a directory of manifests; later the Kubernetes API beside it.

A source reads, decodes and watches; it gives `Snapshot`s and knows nothing of what they are used
for. Reading a file is the only I/O; everything it finds wrong is a `Problem` in the snapshot.
"""

from .directory import DirectorySource, load
from .snapshot import Snapshot
from .watching import watch

__all__ = ["DirectorySource", "Snapshot", "load", "watch"]
