"""Which of the addresses that Gateways ask for this machine has.

Problem: a Gateway may ask for an address of another machine; Envoy would refuse the whole update of
listeners for it. Model: before translation each address that is asked for is tried with a bind to
no particular port, some 20 µs; translation gets the ones that failed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from inferway.envoy.ports import port_problem
from inferway.routing.gateway_listeners import requested_addresses

if TYPE_CHECKING:
    from inferway.resources import ResourceSet
    from inferway.routing.settings import RoutingSettings


def on_this_machine(settings: RoutingSettings, resources: ResourceSet) -> RoutingSettings:
    """The settings, with what cannot be listened on here."""
    asked = requested_addresses(resources.gateways)
    unusable = frozenset(one for one in asked if port_problem(one, 0) is not None)
    return replace(settings, unusable_addresses=unusable)
