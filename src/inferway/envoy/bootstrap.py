"""What Envoy is told at its start: where it finds us, and the limits of the process.

Problem: everything about traffic comes over the discovery stream, but Envoy needs a few fixed facts
before it can open one. Model: a small static file. Invariants: the discovery and the admin side are
unix sockets in the run directory, never a port; connections are limited; only those statistics
exist that somebody reads, because each costs memory and start-up time per cluster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.envoy.ads import KEEPALIVE_INTERVAL_S, KEEPALIVE_TIMEOUT_S
from inferway.envoy.messages import Json, bootstrap_json, typed
from inferway.routing.expressions import PROGRAM_SIZE_MAX

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.envoy.settings import EnvoySettings

_ADS_CLUSTER = "inferway_control"
# The kernel's limit for the name of a unix socket, without its final zero byte.
SOCKET_PATH_BYTES_MAX = 107

_STATISTICS = (
    r"^http\.listener_\d+\.(downstream_(cx|rq)_.*|no_route|.*filter.*)$",
    r"^cluster\.(pool|servers|mirror|picked|picker)/.*\.(upstream_(cx|rq)_.*|membership_.*|lb_healthy_panic)$",
    r"^cluster_manager\..*",
    r"^control_plane\..*",
    r"^listener_manager\..*",
    r"^server\..*",
    r"^overload\..*",
    r"^(dynamicmodulescustom|inferway).*",
)


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Where one Envoy and its neighbours meet. The directory is private to the user."""

    path: Path

    @property
    def discovery_socket(self) -> Path:
        """The ADS server listens here."""
        return self.path / "ads.sock"

    @property
    def admin_socket(self) -> Path:
        """Envoy's admin interface listens here."""
        return self.path / "admin.sock"

    @property
    def pick_socket(self) -> Path:
        """The picker listens here, the filter connects."""
        return self.path / "pick.sock"

    @property
    def bootstrap_file(self) -> Path:
        """Envoy's start-up configuration."""
        return self.path / "envoy.json"

    @property
    def modules(self) -> Path:
        """Envoy looks for dynamic modules here."""
        return self.path / "modules"

    def prepare(self) -> None:
        """Makes the directory. Raises OSError, also when its path is too long for a socket."""
        longest = max(len(str(one).encode()) for one in self._sockets())
        if longest > SOCKET_PATH_BYTES_MAX:
            raise OSError(
                f"run directory path is too long for unix sockets: {self.path}"
                f" ({longest} bytes with the socket's name, at most {SOCKET_PATH_BYTES_MAX})"
            )
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.modules.mkdir(mode=0o700, exist_ok=True)

    def _sockets(self) -> tuple[Path, ...]:
        return (self.discovery_socket, self.admin_socket, self.pick_socket)


def bootstrap(run: RunDirectory, settings: EnvoySettings, *, node: str = "inferway") -> str:
    """JSON text for Envoy's `-c`."""
    return bootstrap_json(
        {
            "node": {"id": node, "cluster": "inferway"},
            "admin": {"address": {"pipe": {"path": str(run.admin_socket), "mode": 0o600}}},
            "dynamic_resources": {
                "ads_config": {
                    "api_type": "GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{"envoy_grpc": {"cluster_name": _ADS_CLUSTER}}],
                },
                "cds_config": {"ads": {}, "resource_api_version": "V3"},
                "lds_config": {"ads": {}, "resource_api_version": "V3"},
            },
            "static_resources": {"clusters": [_discovery_cluster(run)]},
            "layered_runtime": {"layers": [_fixed_runtime()]},
            "stats_config": {
                "stats_matcher": {
                    "inclusion_list": {
                        "patterns": [{"safe_regex": {"regex": one}} for one in _STATISTICS]
                    }
                }
            },
            "bootstrap_extensions": [_internal_listeners()],
            "overload_manager": {"resource_monitors": [_connection_limit(settings)]},
        }
    )


def _fixed_runtime() -> Json:
    """Expressions are judged before they come here, by a limit far above Envoy's own of 100."""
    return {
        "name": "inferway",
        "static_layer": {"re2.max_program_size.error_level": PROGRAM_SIZE_MAX},
    }


def _internal_listeners() -> Json:
    """Mirrored requests go through listeners inside the process."""
    return {
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": typed("envoy.extensions.bootstrap.internal_listener.v3.InternalListener"),
    }


def _connection_limit(settings: EnvoySettings) -> Json:
    package = "envoy.extensions.resource_monitors.downstream_connections.v3"
    return {
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": typed(
            f"{package}.DownstreamConnectionsConfig",
            max_active_downstream_connections=settings.connections_max,
        ),
    }


def _discovery_cluster(run: RunDirectory) -> Json:
    keepalive: Json = {
        "interval": f"{KEEPALIVE_INTERVAL_S}s",
        "timeout": f"{KEEPALIVE_TIMEOUT_S}s",
    }
    socket: Json = {"address": {"pipe": {"path": str(run.discovery_socket)}}}
    return {
        "name": _ADS_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                explicit_http_config={
                    "http2_protocol_options": {"connection_keepalive": keepalive}
                },
            )
        },
        "load_assignment": {
            "cluster_name": _ADS_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": socket}]}],
        },
    }
