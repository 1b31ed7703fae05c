"""What Envoy is told for typical sets of manifests, resource by resource.

`INFERWAY_GOLDEN=refresh` rewrites the files. tests/hermetic/envoy offers each to Envoy itself.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretBytes

from inferway.envoy.bootstrap import RunDirectory, bootstrap
from inferway.envoy.messages import ResourceType, resource_json
from inferway.envoy.model_list import ModelInfo
from inferway.envoy.settings import EnvoySettings
from inferway.envoy.snapshot import Snapshot, build_snapshot
from inferway.resources.decode import decode
from inferway.resources.resource_set import assemble
from inferway.routing.foreign_pickers import ForeignPicker, PickerTls
from inferway.routing.health import CheckKind, HealthCheck
from inferway.routing.model import (
    Certificate,
    ClientValidation,
    Endpoint,
    Listener,
    ListenerTls,
    MatchKind,
    Pool,
    Rewrite,
    RewriteTarget,
    Route,
    RouteMatch,
    RoutingModel,
    ServerGroup,
    Target,
    TargetKind,
    ValueMatch,
    VirtualHost,
)
from inferway.routing.settings import RoutingSettings
from inferway.routing.translate import translate
from tests.certificates import issue

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[2] / "examples"
PICK_SOCKET = Path("/run/inferway/pick.sock")
LISTENER = "demo/gateway/http"


def pool(name: str, *hosts: str, h2c: bool = False, fail_open: bool = True) -> Pool:
    endpoints = tuple(
        Endpoint(host, 8000, f"{name}-{n}", "vllm", "/metrics") for n, host in enumerate(hosts)
    )
    return Pool(name, endpoints, h2c, fail_open, "marginal-cost", ())


def to_pool(name: str, weight: int = 1) -> Target:
    return Target(TargetKind.POOL, name, weight)


def model(
    *hosts: VirtualHost, pools: tuple[Pool, ...] = (), groups: tuple[ServerGroup, ...] = ()
) -> RoutingModel:
    return RoutingModel(
        listeners=(Listener(LISTENER, "127.0.0.1", 8080, hosts),),
        pools={one.name: one for one in pools},
        server_groups={one.name: one for one in groups},
    )


def host(*routes: Route, names: tuple[str, ...] = ("*",)) -> VirtualHost:
    return VirtualHost(names, routes)


def one_pool() -> RoutingModel:
    return model(
        host(Route("demo/llm/0/0", RouteMatch(), (to_pool("demo/llama"),))),
        pools=(pool("demo/llama", "10.0.0.2", "10.0.0.1", "fd00:0::1"),),
    )


def health_and_timeouts() -> RoutingModel:
    """Every kind of health check; a timeout that only one of two backends has."""
    fast = HealthCheck(path="/ready", port=9000, host="probe", interval_s=5.0, status_max=299)
    split = (to_pool("demo/fast", 3), Target(TargetKind.SERVERS, "demo/tcp", 1))
    return model(
        host(Route("demo/llm/0/0", RouteMatch(), split)),
        pools=(
            replace(pool("demo/fast", "10.0.0.1"), health=fast, backend_timeout_s=300.0),
            replace(
                pool("demo/grpc", "10.0.0.2", h2c=True),
                health=HealthCheck(kind=CheckKind.GRPC, service="llm"),
            ),
        ),
        groups=(ServerGroup("demo/tcp", (), health=HealthCheck(kind=CheckKind.TCP)),),
    )


def foreign_pickers() -> RoutingModel:
    """Two pools with pickers of their own, in both failure modes, beside one of ours. Envoy reads
    the authorities of one of them, so that they are a real certificate.
    """
    at = Endpoint("10.0.9.1", 9002, "", "", "")
    authority = (HERE / "authority.crt").read_text()
    verified = ForeignPicker((at,), PickerTls.VERIFY, "epp.demo.svc", authority, timeout_s=2.0)
    targets = (to_pool("demo/open", 1), to_pool("demo/closed", 1), to_pool("demo/ours", 2))
    return model(
        host(Route("demo/llm/0/0", RouteMatch(), targets)),
        pools=(
            replace(pool("demo/open", "10.0.0.1"), picker=ForeignPicker((at,))),
            replace(pool("demo/closed", "10.0.0.2", fail_open=False), picker=verified),
            pool("demo/ours", "10.0.0.3"),
        ),
    )


def split_90_10() -> RoutingModel:
    targets = (to_pool("demo/stable", 90), to_pool("demo/canary", 10))
    alias = Rewrite("llm", (RewriteTarget("llm-v1", 9), RewriteTarget("llm-v2", 1)))
    return model(
        host(Route("demo/llm/0/0", RouteMatch(), targets, backend_timeout_s=30.0)),
        pools=(
            replace(pool("demo/stable", "10.0.0.1"), rewrites=(alias,)),
            replace(pool("demo/canary", "10.0.1.1", fail_open=False), rewrites=(alias,)),
        ),
    )


def pools_by_header() -> RoutingModel:
    def asks_for(name: str) -> RouteMatch:
        return RouteMatch(headers=(ValueMatch("x-gateway-model-name", MatchKind.EXACT, name),))

    return model(
        host(
            Route("demo/llm/0/0", asks_for("llama"), (to_pool("demo/llama"),)),
            Route("demo/llm/1/0", asks_for("gemma"), (to_pool("demo/gemma"),)),
        ),
        pools=(pool("demo/llama", "10.0.0.1"), pool("demo/gemma", "gemma.internal", h2c=True)),
    )


def plain_model_server() -> RoutingModel:
    match = RouteMatch(
        MatchKind.REGEX,
        "/v[0-9]+/embeddings",
        method="POST",
        headers=(ValueMatch("x-team", MatchKind.REGEX, "a|b"),),
        query=(ValueMatch("debug", MatchKind.EXACT, "1"),),
    )
    group = ServerGroup(
        "demo/embed", (Endpoint("10.0.0.1", 8000, "demo/embed", "vllm", "/metrics"),)
    )
    return model(
        host(
            Route(
                "demo/embed/0/0",
                match,
                (Target(TargetKind.SERVERS, "demo/embed", 1),),
                request_timeout_s=10.0,
            )
        ),
        groups=(group,),
    )


def unresolved_share() -> RoutingModel:
    targets = (
        to_pool("demo/llama", 70),
        Target(TargetKind.ERROR, "demo/missing", 20),
        to_pool("demo/gemma", 10),
        to_pool("demo/unused", 0),
    )
    return model(
        host(
            Route("demo/llm/0/0", RouteMatch(MatchKind.EXACT, "/v1/completions"), targets),
            Route("demo/llm/1/0", RouteMatch(path="/nothing/"), ()),
            Route("demo/llm/2/0", RouteMatch(path="/zero"), (to_pool("demo/llama", 0),)),
        ),
        pools=(
            pool("demo/llama", "10.0.0.1"),
            pool("demo/gemma", "10.0.0.2"),
            pool("demo/unused"),
        ),
    )


def hostnames() -> RoutingModel:
    def route(name: str) -> Route:
        return Route(f"demo/{name}/0/0", RouteMatch(), (to_pool("demo/llama"),))

    return model(
        host(route("exact"), names=("llm.example.com", "api.example.com")),
        host(route("wildcard"), names=("*.example.com",)),
        host(names=("empty.example.com",)),
        pools=(pool("demo/llama", "10.0.0.1"),),
    )


def route_features() -> RoutingModel:
    """The manifests of the golden case of the same name in tests/golden/routing."""
    text = (HERE.parent / "routing/cases/route_features.yaml").read_bytes()
    resources, problems = assemble(decode(text, file="route_features.yaml").entries)
    assert not problems
    return translate(resources, settings=RoutingSettings()).model


def in_words(name: str) -> Certificate:
    """A certificate that is the same in every run."""
    return Certificate(
        name,
        b"chain of " + name.encode(),
        SecretBytes(b"key of " + name.encode()),
        datetime(2026, 1, 1, tzinfo=UTC),
        datetime(2026, 4, 1, tzinfo=UTC),
    )


def example(name: str) -> RoutingModel:
    """The manifests of an example, and the Secret that one of them has made by a script."""
    secret = issue("example.com").secret("example-com", namespace="infra")
    files = sorted((EXAMPLES / name / "manifests").glob("*.yaml"))
    texts = [file.read_bytes() for file in files if file.name != "secret.yaml"]
    decoded = [decode(text, file=name) for text in (*texts, secret.encode())]
    resources, problems = assemble(entry for one in decoded for entry in one.entries)
    assert not problems
    found = translate(resources, settings=RoutingSettings()).model
    return replace(found, certificates={name: in_words(name) for name in found.certificates})


def https() -> RoutingModel:
    """Two listeners on one port, one of them with two certificates; a backend with HTTP/2."""

    def listener(name: str, hostname: str, *certificates: str, elsewhere: str) -> Listener:
        names = () if hostname == "*" else (hostname,)
        target = Target(TargetKind.SERVERS, "service/demo/web:80", 1)
        route = Route(f"demo/{name}/0/0", RouteMatch(), (target,))
        return Listener(
            f"demo/gateway/{name}",
            "127.0.0.1",
            8443,
            (host(route, names=(hostname,)),),
            ListenerTls(names, certificates),
            elsewhere=(elsewhere,),
        )

    group = ServerGroup("service/demo/web:80", (Endpoint("10.0.0.1", 80, "", "", ""),), h2c=True)
    return RoutingModel(
        listeners=(
            listener("any", "*", "demo/rsa", "demo/ecdsa", elsewhere="*.example.com"),
            listener("wild", "*.example.com", "demo/wild", elsewhere="*"),
        ),
        server_groups={group.name: group},
        certificates={name: in_words(name) for name in ("demo/ecdsa", "demo/rsa", "demo/wild")},
    )


def client_certificates() -> RoutingModel:
    """Two ports that validate their clients, one of them in the lenient mode."""
    found = https()
    authority = (HERE / "authority.crt").read_text()

    def asking(listener: Listener, port: int, *, required: bool) -> Listener:
        assert listener.tls is not None
        clients = ClientValidation(f"clients/demo/gateway:{port}", authority, required)
        return replace(listener, port=port, tls=replace(listener.tls, clients=clients))

    strict, lenient = found.listeners
    return replace(
        found,
        listeners=(asking(strict, 8443, required=True), asking(lenient, 8444, required=False)),
    )


CASES = {
    "route-features": route_features,
    "one-pool": one_pool,
    "foreign-pickers": foreign_pickers,
    "health-and-timeouts": health_and_timeouts,
    "split-90-10": split_90_10,
    "pools-by-header": pools_by_header,
    "plain-model-server": plain_model_server,
    "unresolved-share": unresolved_share,
    "hostnames": hostnames,
    "https": https,
    "client-certificates": client_certificates,
    **{
        f"example-{folder.name}": partial(example, folder.name)
        for folder in sorted(EXAMPLES.iterdir())
        if folder.is_dir()
    },
}
MODELS = {
    LISTENER: (
        ModelInfo("meta-llama/Llama-3", 1_700_000_000),
        ModelInfo("support", 1_700_000_000, root="/adapters/support", parent="meta-llama/Llama-3"),
    )
}


def snapshot_of(case: str) -> Snapshot:
    return build_snapshot(
        CASES[case](),
        resolved={"gemma.internal": ("10.0.9.2", "10.0.9.1")},
        models=MODELS if case == "one-pool" else {},
        settings=EnvoySettings(),
        pick_socket=PICK_SOCKET,
    )


def check(path: Path, text: str) -> None:
    if os.environ.get("INFERWAY_GOLDEN") == "refresh":
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("case", CASES)
def test_resources_are_as_recorded(case: str) -> None:
    snapshot = snapshot_of(case)
    plain = {
        kind.name.lower(): [
            json.loads(resource_json(one)) for one in snapshot.of(kind).resources.values()
        ]
        for kind in ResourceType
        if snapshot.of(kind).resources
    }
    text = json.dumps(plain, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    check(HERE / f"{case}.json", text)


def test_private_keys_are_not_recorded() -> None:
    found = list(snapshot_of("https").secrets.resources.values())
    assert len(found) == 3
    for one in found:
        assert b"key of" in one.body
        assert "key of" not in repr(one)
        assert "private_key" not in json.loads(resource_json(one))["tls_certificate"]


def test_bootstrap_is_as_recorded() -> None:
    text = bootstrap(RunDirectory(Path("/run/inferway")), EnvoySettings())
    check(HERE / "bootstrap.json", text)
