"""Servers that listen on some of their pool's ports only.

Problem: with data parallelism every rank has a port of its own, and not every server of a pool has
as many ranks. Model: an annotation, the reference's or its older name, lists the ports that count;
of the pool's target ports the others give no endpoint. A list that cannot be read is a warning,
and all ports count. Addresses that have a port of their own are not concerned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.routing.status import RoutingWarning

if TYPE_CHECKING:
    from inferway.resources import ModelServer

ACTIVE_PORTS_ANNOTATIONS = ("llm-d.ai/active-ports", "inference.networking.k8s.io/active-ports")


def active_ports(server: ModelServer) -> tuple[frozenset[int] | None, RoutingWarning | None]:
    """The ports of its pool that the server's annotation leaves it; None: all of them."""
    annotations = server.metadata.annotations
    name = next((one for one in ACTIVE_PORTS_ANNOTATIONS if one in annotations), None)
    if name is None:
        return None, None
    written = [part.strip() for part in annotations[name].split(",")]
    if all(part.isascii() and part.isdigit() for part in written):
        return frozenset(int(part) for part in written), None
    words = f"not a comma-separated list of ports: {annotations[name]}; every targetPort is used"
    return None, RoutingWarning(words, server.key, f"metadata.annotations[{name}]")
