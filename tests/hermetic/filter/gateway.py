"""A real Envoy with the two filters and a hand-written static configuration, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import aiohttp

from inferway.envoy.binary import MissingPartError, find_envoy, find_filter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Json: TypeAlias = object

START_S = 20.0
OPEN_POOL = "ns/open"
CLOSED_POOL = "ns/closed"
BODY_BYTES_MAX = 12 << 20
HOLD_MS = 1_500
# The scripted picker shares its loop with the clients: it is late when they are busy, not hung.
ALIVE_MS_MIN = 60_000
_TYPE = "type.googleapis.com/"
_MODULE = {"name": "inferway_filter", "do_not_close": True}


def filter_library() -> Path | None:
    """The built filter: the one that INFERWAY_FILTER names, else the package's. None: not built."""
    if named := os.environ.get("INFERWAY_FILTER"):
        return Path(named)
    with contextlib.suppress(MissingPartError):
        return find_filter()
    return None


def _text(value: Json) -> Json:
    return {"@type": _TYPE + "google.protobuf.StringValue", "value": json.dumps(value)}


def _filter(name: str, config: Json) -> Json:
    return {
        "name": f"inferway.{name}",
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
            "dynamic_module_config": _MODULE,
            "filter_name": name,
            "filter_config": _text(config),
        },
    }


def pool_config(pool: str, *, fail_open: bool, **more: Json) -> Json:
    kind = "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilterPerRoute"
    return {
        "inferway.pick": {
            "@type": _TYPE + kind,
            "dynamic_module_config": _MODULE,
            "per_route_config_name": "pick",
            "filter_config": _text({"pool": pool, "fail_open": fail_open, **more}),
        }
    }


def _tcp(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _cluster(name: str, addresses: list[Json], *, by_pick: bool) -> dict[str, Json]:
    fallback = {
        "name": "envoy.load_balancing_policies.round_robin",
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin"
        },
    }
    policy = {
        "name": "envoy.load_balancing_policies.override_host",
        "typed_config": {
            "@type": _TYPE
            + "envoy.extensions.load_balancing_policies.override_host.v3.OverrideHost",
            "override_host_sources": [{"header": "x-gateway-destination-endpoint"}],
            "fallback_policy": {"policies": [{"typed_extension_config": fallback}]},
        },
    }
    members: list[Json] = [{"endpoint": {"address": address}} for address in addresses]
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "2s",
        "load_balancing_policy": {
            "policies": [{"typed_extension_config": policy if by_pick else fallback}]
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": members}]},
    }


def _by_model(prefix: str) -> Json:
    model = {"name": "x-gateway-model-name", "string_match": {"prefix": prefix}}
    return {"prefix": "/", "headers": [model]}


def _routes() -> Json:
    timeout: Json = {"timeout": "0s"}
    assert isinstance(timeout, dict)
    weighted = {
        "clusters": [
            {
                "name": "pool",
                "weight": 1,
                "typed_per_filter_config": pool_config("ns/weighted", fail_open=True),
            },
            {"name": "plain", "weight": 0},
        ]
    }
    return [
        {"match": _by_model("plain"), "route": {"cluster": "plain", **timeout}},
        {"match": _by_model("weighted"), "route": {"weighted_clusters": weighted, **timeout}},
        {
            "match": _by_model("closed"),
            "route": {"cluster": "pool", **timeout},
            "typed_per_filter_config": pool_config(CLOSED_POOL, fail_open=False),
        },
        {
            "match": _by_model("told"),
            "route": {"cluster": "pool", **timeout},
            "typed_per_filter_config": pool_config(
                OPEN_POOL,
                fail_open=True,
                headers=["x-tenant"],
                response_headers=True,
                include_usage=True,
                session_cookie="inferway-session",
            ),
        },
        {
            # Streams that wait are kept alive.
            "match": _by_model("patient"),
            "route": {
                "cluster": "pool",
                "retry_policy": {"retry_on": "connect-failure"},
                **timeout,
            },
            "typed_per_filter_config": pool_config(
                OPEN_POOL,
                fail_open=True,
                relay=True,
                include_usage=True,
                session_cookie="inferway-session",
            ),
        },
        {
            "match": _by_model("shut-patient"),
            "route": {"cluster": "pool", **timeout},
            "typed_per_filter_config": pool_config(CLOSED_POOL, fail_open=False, relay=True),
        },
        {
            "match": _by_model("brief"),
            "route": {"cluster": "pool", "idle_timeout": "0.3s", **timeout},
            "typed_per_filter_config": pool_config(OPEN_POOL, fail_open=True),
        },
        {
            # What Envoy keeps for a retry is also what a request starts anew with.
            "match": _by_model("kept"),
            "route": {
                "cluster": "pool",
                "retry_policy": {"retry_on": "connect-failure"},
                **timeout,
            },
            "typed_per_filter_config": pool_config(OPEN_POOL, fail_open=True, include_usage=True),
        },
        {
            "match": _by_model("impatient"),
            "route": {"cluster": "pool", "timeout": "1s"},
            "typed_per_filter_config": pool_config(OPEN_POOL, fail_open=True),
        },
        {
            "match": _by_model("nobody"),
            "route": {"cluster": "refusing", **timeout},
            "typed_per_filter_config": pool_config(OPEN_POOL, fail_open=True),
        },
        {
            "match": {"prefix": "/unrouted"},
            "direct_response": {"status": 404, "body": {"inline_string": "unrouted"}},
        },
        {
            "match": {"prefix": "/"},
            "route": {"cluster": "pool", **timeout},
            "typed_per_filter_config": pool_config(OPEN_POOL, fail_open=True),
        },
    ]


def _listener(name: str, address: Json, routes: Json, filters: list[Json]) -> dict[str, Json]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": _TYPE + "envoy.extensions.filters.http.router.v3.Router"},
    }
    kind = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
    manager = {
        "@type": _TYPE + kind,
        "stat_prefix": name,
        "codec_type": "AUTO",
        "stream_idle_timeout": "0s",
        "delayed_close_timeout": "0.1s",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [*filters, router],
    }
    network_filter = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": manager,
    }
    return {
        "name": name,
        **({"address": address} if address else {}),
        "filter_chains": [{"filters": [network_filter]}],
    }


def _subset_filter() -> Json:
    """Another filter, which restricts requests: a text in one header, a list (as a message) in
    another.
    """
    place = {
        "metadata_namespace": "envoy.lb.subset_hint",
        "key": "x-gateway-destination-endpoint-subset",
    }
    kinds = {
        "x-test-subset": {"type": "STRING"},
        "x-test-subset-list": {"type": "PROTOBUF_VALUE", "encode": "BASE64"},
    }
    return {
        "name": "subset",
        "typed_config": {
            "@type": _TYPE + "envoy.extensions.filters.http.header_to_metadata.v3.Config",
            "request_rules": [
                {"header": header, "on_header_present": {**place, **kind}}
                for header, kind in kinds.items()
            ],
        },
    }


def bootstrap(
    directory: Path, ports: list[int], refusing_port: int, *, alive_ms_min: int = ALIVE_MS_MIN
) -> Json:
    """Listener 0 is the gateway; listener 1 sends everything to the same filters over HTTP/2."""
    any_port = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    inner = {"pipe": {"path": str(directory / "inner.sock")}}
    inside: Json = {"envoy_internal_address": {"server_listener_name": "relay"}}
    pick: dict[str, Json] = {
        "socket": str(directory / "pick.sock"),
        "hold_ms": HOLD_MS,
        "alive_ms_min": alive_ms_min,
    }
    filters = [
        _filter("route", {"body_bytes_max": BODY_BYTES_MAX}),
        _subset_filter(),
        _filter("pick", {**pick, "relay": "relay"}),
    ]
    relayed = _listener("relay", {}, _routes(), [_filter("pick", {**pick, "relayed": True})])
    to_inner = [{"match": {"prefix": "/"}, "route": {"cluster": "inner", "timeout": "0s"}}]
    options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    http2 = {
        options: {
            "@type": _TYPE + options,
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    return {
        "admin": {"address": any_port},
        "bootstrap_extensions": [
            {
                "name": "envoy.bootstrap.internal_listener",
                "typed_config": {
                    "@type": _TYPE
                    + "envoy.extensions.bootstrap.internal_listener.v3.InternalListener"
                },
            }
        ],
        "static_resources": {
            "listeners": [
                _listener("gateway", any_port, _routes(), filters),
                _listener("to_http2", any_port, to_inner, []),
                _listener("inner", inner, _routes(), filters),
                {**relayed, "internal_listener": {}},
            ],
            "clusters": [
                _cluster("plain", [_tcp(ports[0])], by_pick=False),
                _cluster("pool", [_tcp(port) for port in ports], by_pick=True),
                _cluster("refusing", [_tcp(refusing_port)], by_pick=True),
                _cluster("relay", [inside], by_pick=False),
                _cluster("inner", [inner], by_pick=False)
                | {"typed_extension_protocol_options": http2},
            ],
        },
    }


class Gateway:
    """Where the gateway listens, and its counters."""

    def __init__(self, addresses: dict[str, str], admin: str) -> None:
        self.url = f"http://{addresses['gateway']}"
        self.http2_url = f"http://{addresses['to_http2']}"
        self.port = int(addresses["gateway"].rpartition(":")[2])
        self._admin = admin

    async def counters(self) -> dict[str, int]:
        """The module's counters by their own names."""
        url = f"http://{self._admin}/stats?filter=inferway&format=json"
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            stats = (await response.json())["stats"]
        return {one["name"].rpartition(".")[2]: one["value"] for one in stats if "name" in one}


def _read(file: Path) -> str:
    return file.read_text()


def _prepare(directory: Path, library: Path, config: Json) -> Path:
    (directory / "libinferway_filter.so").symlink_to(library.resolve())
    config_file = directory / "envoy.json"
    config_file.write_text(json.dumps(config))
    return config_file


async def _addresses(admin_file: Path) -> tuple[dict[str, str], str]:
    """Where the listeners by name and the admin server were put."""
    async with asyncio.timeout(START_S):
        while True:
            with contextlib.suppress(OSError, aiohttp.ClientError, KeyError):
                admin = _read(admin_file)
                url = f"http://{admin}/listeners?format=json"
                async with aiohttp.ClientSession() as session, session.get(url) as response:
                    listeners = (await response.json())["listener_statuses"]
                found = {}
                for listener in listeners:
                    address = listener["local_address"].get("socket_address", {})
                    found[listener["name"]] = (
                        f"{address.get('address')}:{address.get('port_value')}"
                    )
                if len(found) == 4:
                    return found, admin
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def run_gateway(
    directory: Path, library: Path, config: Json, *, concurrency: int = 1
) -> AsyncIterator[Gateway]:
    config_file, admin_file = _prepare(directory, library, config), directory / "admin"
    log = (directory / "envoy.log").open("wb")
    process = await asyncio.create_subprocess_exec(
        find_envoy(),
        *("-c", config_file, "--concurrency", str(concurrency), "--use-dynamic-base-id"),
        *("--admin-address-path", admin_file, "--log-level", "warning"),
        *("--component-log-level", os.environ.get("ENVOY_LOG", "dynamic_modules:info")),
        env={"ENVOY_DYNAMIC_MODULES_SEARCH_PATH": str(directory)},
        stdout=log,
        stderr=log,
    )
    try:
        yield Gateway(*await _addresses(admin_file))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(20):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
            raise
        finally:
            log.close()
        assert status == 0, (directory / "envoy.log").read_text()[-4000:]
