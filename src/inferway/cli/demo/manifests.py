"""The demo's manifests, copied to where the user can look at them and change them while the gateway
runs.

The shipped files name fixed ports so that they read like a real set-up. When those ports are taken
(or for a test), every port is replaced by a free one; nothing else differs.
"""

from __future__ import annotations

import re
import socket
from contextlib import ExitStack, suppress
from importlib.resources import files
from random import SystemRandom
from typing import TYPE_CHECKING

from inferway.envoy.ports import port_problem

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("gateway.yaml", "pools.yaml", "servers.yaml")
PORT = re.compile(r"(?P<key>\bport: )(?P<port>\d+)")
# Below those from which the kernel takes one for every outgoing connection (32,768 and up): so none
# is taken between the look here and its use.
_PORTS = range(10_240, 32_768)
_TAKEN_MAX = 1000  # ports that may be found in use before we give up
POLICY = re.compile(r"(inferway\.dev/policy: )\S+")


def free_ports(count: int) -> list[int]:
    """Different free ports; all are held at once, so that none is given twice. OSError: too few."""
    held: list[int] = []
    with ExitStack() as probes:
        for port in SystemRandom().sample(_PORTS, count + _TAKEN_MAX):
            if len(held) == count:
                break
            probe = probes.enter_context(socket.socket())
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                held.append(port)
    if len(held) < count:
        raise OSError(f"not enough free ports on 127.0.0.1: {count} wanted")
    return held


def write(folder: Path, *, keep_ports: bool) -> int:
    """Writes the manifests into `folder`; returns the gateway's port."""
    texts = {name: (files("inferway.cli.demo") / name).read_text() for name in NAMES}
    shipped = sorted({int(m["port"]) for text in texts.values() for m in PORT.finditer(text)})
    ports = {port: port for port in shipped}
    if not keep_ports or any(port_problem("127.0.0.1", port) for port in shipped):
        ports = dict(zip(shipped, free_ports(len(shipped)), strict=True))
    for name, text in texts.items():
        (folder / name).write_text(
            PORT.sub(lambda found: f"{found['key']}{ports[int(found['port'])]}", text)
        )
    return next(
        int(found["port"]) for found in PORT.finditer((folder / "gateway.yaml").read_text())
    )


def set_policy(folder: Path, policy: str) -> None:
    """Edits the pool's policy in the file, as a person would."""
    path = folder / "pools.yaml"
    path.write_text(POLICY.sub(rf"\g<1>{policy}", path.read_text()))
