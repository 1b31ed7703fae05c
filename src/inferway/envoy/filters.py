"""Our two in-process filters, as Envoy's configuration names them.

The configuration of `route` knows base models, which come and go with adapters. It travels by
itself (ECDS), so a change of it touches no listener, route or connection.

`route` reads the body and sets the model header before a route is chosen; `pick` asks the picker
where an in-pool request goes. Both live in one dynamic module. Their own settings are JSON text
(docs/filter-config.md). A route that does not lead to a pool has no `pick` settings and passes it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from inferway.envoy.base_models import base_models
from inferway.envoy.messages import Json, Resource, ResourceType, resource, typed
from inferway.resources.picker_conduct import Conduct

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from inferway.envoy.routes import Models
    from inferway.envoy.settings import EnvoySettings
    from inferway.routing.model import Pool, RoutingModel

MODULE = "inferway_filter"
ROUTE_FILTER = "inferway.route"
PICK_FILTER = "inferway.pick"

MODULE_CONFIG: Json = {"name": MODULE, "do_not_close": True}
_PACKAGE = "envoy.extensions.filters.http.dynamic_modules.v3"
_FILTER = f"{_PACKAGE}.DynamicModuleFilter"


def http_filters(
    settings: EnvoySettings,
    pick_socket: Path,
    between: Sequence[Json] = (),
    relay: str | None = None,
) -> list[Json]:
    """The filters of a listener in order, without the router. Those `between` ours see the final
    route, and answer without a pick if they answer. `relay`: the cluster that takes streams which
    wait for long.
    """
    more: Json = {"relay": relay} if relay else {}
    discovery: Json = {
        "config_source": {"ads": {}, "resource_api_version": "V3"},
        "type_urls": [f"type.googleapis.com/{_FILTER}"],
    }
    return [
        {"name": ROUTE_FILTER, "config_discovery": discovery},
        *between,
        _pick_filter(settings, pick_socket, more),
    ]


def relayed_filters(settings: EnvoySettings, pick_socket: Path) -> list[Json]:
    """The filters of a listener where only requests come in that `pick` sends through a relay."""
    return [_pick_filter(settings, pick_socket, {"relayed": True})]


def _pick_filter(settings: EnvoySettings, pick_socket: Path, more: Json) -> Json:
    pick: Json = {"socket": str(pick_socket), "hold_ms": settings.hold_ms, **more}
    return {"name": PICK_FILTER, "typed_config": _filter("pick", pick)}


def filter_configurations(
    model: RoutingModel, models: Models, settings: EnvoySettings
) -> tuple[Resource, ...]:
    """What listeners look up by the name of a filter; nothing without listeners."""
    if not model.listeners:
        return ()
    route: Json = {
        "body_bytes_max": settings.body_bytes_max,
        # The listener itself removes headers that a client must not set, before anything looks.
        "strip_headers": [],
        "base_models": base_models(model, models),
    }
    content: Json = {"name": ROUTE_FILTER, "typed_config": _filter("route", route)}
    return (resource(ResourceType.EXTENSION, content),)


def pick_settings(pool: Pool, *, relay: bool) -> Json:
    """`typed_per_filter_config` of a route (or weighted entry) that leads to the pool. `relay`: a
    request that matches it once does so again.
    """
    return {
        PICK_FILTER: typed(
            f"{_PACKAGE}.DynamicModuleFilterPerRoute",
            dynamic_module_config=MODULE_CONFIG,
            # Envoy 1.40 also calls it filter_name; the API package has only this name so far.
            per_route_config_name="pick",
            filter_config=_text(
                {
                    "pool": pool.name,
                    "fail_open": pool.fail_open,
                    **_fallback(pool),
                    **_headers(pool),
                    **_conduct(pool),
                    **({"relay": True} if relay else {}),
                }
            ),
        )
    }


def _fallback(pool: Pool) -> Json:
    """Targets of aliases, for requests that go on without the picker."""
    if not pool.fail_open or not pool.rewrites:
        return {}
    return {
        "rewrites": {
            rewrite.model: [[target.model, target.weight] for target in rewrite.targets]
            for rewrite in pool.rewrites
        }
    }


def _headers(pool: Pool) -> Json:
    """What the picker is told of each request beside what it always is."""
    names = pool.picker_config.request_headers if pool.picker_config is not None else ()
    return {"headers": list(names)} if names else {}


def _conduct(pool: Pool) -> Json:
    """What differs from the filter's defaults."""
    config = pool.picker_config
    if config is None:
        return {}
    conduct = config.conduct or Conduct()
    wanted: Json = {
        "response_headers": conduct.response_headers,
        "include_usage": conduct.include_usage,
        "session_cookie": config.session_cookie,
    }
    return {name: value for name, value in wanted.items() if value}


def _filter(filter_name: str, config: Json) -> Json:
    return typed(
        _FILTER,
        dynamic_module_config=MODULE_CONFIG,
        filter_name=filter_name,
        filter_config=_text(config),
    )


def _text(config: Json) -> Json:
    return typed("google.protobuf.StringValue", value=json.dumps(config))
