"""Parts of a Gateway that decode but have no effect here, one warning each.

What would make a gateway less safe than it was written is refused instead (gateway_listeners.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from inferway.routing.status import RoutingWarning

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from inferway.resources import Gateway


def gateway_warnings(gateways: Iterable[Gateway]) -> tuple[RoutingWarning, ...]:
    """For Gateways of ours."""
    return tuple(
        RoutingWarning(words, gateway.key, field)
        for gateway in gateways
        for field, words in _without_effect(gateway)
    )


def _without_effect(gateway: Gateway) -> Iterator[tuple[str, str]]:
    spec = gateway.spec
    for index, listener in enumerate(spec.listeners):
        if listener.tls is not None and listener.tls.options and listener.tls.certificate_refs:
            options = ", ".join(listener.tls.options)
            yield f"spec.listeners[{index}].tls.options", f"no effect: {options}"
    if spec.allowed_listeners is not None and spec.allowed_listeners.namespaces.from_ != "None":
        yield "spec.allowedListeners", "no effect: ListenerSets are not read"
    if spec.tls is not None and spec.tls.backend is not None:
        yield "spec.tls.backend", "no effect: backends are reached without TLS"
