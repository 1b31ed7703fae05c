"""Rules over several fields of Service, EndpointSlice and Namespace, and readable errors."""

from __future__ import annotations

import pytest

from inferway.resources.decode import decode

SERVICE = "{apiVersion: v1, kind: Service, metadata: {name: web}, spec: SPEC}"
SLICE = (
    "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web-1}, "
    "addressType: TYPE, endpoints: [{addresses: [ADDRESS]}]}"
)


def problems(text: str) -> list[str]:
    return [f"{one.field}: {one.message}" for one in decode(text.encode(), file="m.yaml").problems]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{ports: [{port: 80}]}", []),
        ("{ports: [{port: 80, protocol: UDP, name: a}, {port: 80, name: b}]}", []),
        ("{type: ExternalName, externalName: a.org}", []),
        ("{ports: []}", ["spec.ports: needs at least 1: 0"]),
        ("{type: ExternalName}", ["spec.externalName: type ExternalName needs externalName"]),
        (
            "{ports: [{port: 80, name: a}, {port: 81}]}",
            ["spec.ports[1].name: a name is needed when there are several ports"],
        ),
        (
            "{ports: [{port: 80, name: a}, {port: 81, name: a}]}",
            ["spec.ports[1].name: port name must be unique: a"],
        ),
        (
            "{ports: [{port: 80, name: a}, {port: 80, name: b}]}",
            ["spec.ports[1].port: port and protocol must be unique: 80 TCP"],
        ),
        (
            "{ports: [{port: 80, targetPort: 70000}]}",
            ["spec.ports[0].targetPort: must be a port from 1 to 65535 or the name of one"],
        ),
        (
            "{ports: [{port: 80, targetPort: Web}]}",
            ["spec.ports[0].targetPort: must be a port from 1 to 65535 or the name of one"],
        ),
    ],
)
def test_service(spec: str, expected: list[str]) -> None:
    assert problems(SERVICE.replace("SPEC", spec)) == expected


@pytest.mark.parametrize(
    ("type_", "address", "fits"),
    [
        ("IPv4", "10.0.0.1", True),
        ("IPv6", "'fd00::1'", True),
        ("FQDN", "server.internal", True),
        ("IPv4", "'fd00::1'", False),
        ("IPv6", "10.0.0.1", False),
        ("FQDN", "10.0.0.1", False),
        ("IPv4", "server.internal", False),
        ("FQDN", "'http://server'", False),
        ("FQDN", "under_score", False),
    ],
)
def test_addresses_fit_their_type(type_: str, address: str, fits: bool) -> None:
    found = problems(SLICE.replace("TYPE", type_).replace("ADDRESS", address))
    bare = address.strip("'")
    wrong = f"endpoints[0].addresses[0]: not an address of type {type_}: {bare}"
    assert found == ([] if fits else [wrong])


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ("{name: apps}", None),
        ("{name: a.b}", "metadata.name"),
        (f"{{name: {'a' * 64}}}", "metadata.name"),
        ("{name: a, namespace: b}", "metadata.namespace"),
    ],
)
def test_namespace(metadata: str, field: str | None) -> None:
    text = f"{{apiVersion: v1, kind: Namespace, metadata: {metadata}}}"
    found = [one.partition(": ")[0] for one in problems(text)]
    assert found == ([] if field is None else [field])
