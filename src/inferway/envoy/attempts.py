"""Failed attempts → our access logger, which tells the picker.

Problem: the router tries a request on the next endpoint by itself, so the `pick` filter never sees
an attempt that another one made good, and the picker would go on choosing a server that refuses
every connection. Model: the router's upstream log, which sees each attempt, with a filter that lets
only failures through; so an attempt that succeeds costs the look of that filter.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from inferway.envoy.filters import MODULE_CONFIG
from inferway.envoy.messages import Json, typed

if TYPE_CHECKING:
    from pathlib import Path

LOGGER = "inferway.attempts"
_MESSAGE = "envoy.extensions.access_loggers.dynamic_modules.v3.DynamicModuleAccessLog"
# Connect failure, connection ended, reset, time is up, no HTTP. What blames the server, without
# what Envoy or the client ended.
_FLAGS = ("UF", "UC", "UR", "UT", "UPE")
_BUSY = (408, 429)


def attempts_log(pick_socket: Path) -> Json:
    """An entry of the router's `upstream_log`."""
    settings = json.dumps({"socket": str(pick_socket)})
    return {
        "name": LOGGER,
        "filter": {
            "or_filter": {
                "filters": [
                    _status("GE", 500),
                    *(_status("EQ", status) for status in _BUSY),
                    {"response_flag_filter": {"flags": list(_FLAGS)}},
                ]
            }
        },
        # The API package has no such message yet; Envoy reads it out of a Struct.
        "typed_config": typed(
            "xds.type.v3.TypedStruct",
            type_url=f"type.googleapis.com/{_MESSAGE}",
            value={
                "dynamic_module_config": MODULE_CONFIG,
                "logger_name": "attempts",
                "logger_config": typed("google.protobuf.StringValue", value=settings),
            },
        ),
    }


def _status(comparison: str, status: int) -> Json:
    # Envoy wants a name by which the value could be overridden at run time; nobody does.
    value: Json = {"default_value": status, "runtime_key": f"{LOGGER}.{status}"}
    return {"status_code_filter": {"comparison": {"op": comparison, "value": value}}}
