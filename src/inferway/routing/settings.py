"""What translation must know besides the resources.

Problem: the same manifests are served by differently configured processes. Model: one frozen value,
built by the command line. Names of policies are passed in because routing may not know the picker.
"""

from __future__ import annotations

from dataclasses import dataclass

CONTROLLER_NAME = "inferway.dev/gateway-controller"
GATEWAY_CLASS = "inferway"


@dataclass(frozen=True, slots=True)
class RoutingSettings:
    """Defaults are those of `inferway run` on a directory."""

    controller_name: str = CONTROLLER_NAME  # GatewayClasses with this controllerName are ours
    listen_address: str = "127.0.0.1"  # where a Gateway without spec.addresses listens
    port: int = 8080  # of the Gateway that is made up when the manifests have none
    default_policy: str = "marginal-cost"  # of pools that name none
    # Of pools that name none and have a configuration written for the reference.
    reference_policy: str = "reference-default"
    policies: tuple[str, ...] = ("marginal-cost",)  # names that a pool may ask for
    plugin_files: bool = False  # a pool may ask for a plugin in a file, FILE.py:NAME
    # As the directory source calls it: its EndpointPickerConfig is for pools that name none.
    picker_config_file: str = ""
    # Addresses that Gateways ask for and this machine cannot listen on.
    unusable_addresses: frozenset[str] = frozenset()
    system_ca_file: str = ""  # of the machine's own authorities, in PEM form; empty: it has none
