"""Is a port free? Asked before Envoy starts, because Envoy would share it without a word.

Envoy opens one socket per worker on a listener's port (SO_REUSEPORT), and the kernel lets a second
gateway of the same user join in, which then takes half of the connections. A plain bind finds out.
"""

from __future__ import annotations

import errno
import socket


def port_problem(address: str, port: int) -> str | None:
    """Why nothing can listen there, with a hint; None when it is free. Port 0 is always free."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of an earlier process that are still closing do not matter.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return f"another program is listening on {where} (hint: choose another --port)"
            if error.errno == errno.EACCES:
                return f"no permission to listen on {where} (hint: use a port from 1024 on)"
            return f"cannot listen on {where}: {error.strerror}"
    return None
