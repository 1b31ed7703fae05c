"""`GET /v1/models` and `GET /v1/models/{id}`, answered by Envoy from its configuration.

Problem: a client asks which models the gateway serves; no single model server knows. Model: fixed
bodies in routes that stand before all others of a virtual host. Cost: a request passes one string
comparison per listed model, some tens of nanoseconds; a change of the list is a route update.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from inferway.envoy.replies import JSON_TYPE, error_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.envoy.messages import Json

PATH = "/v1/models"
_GET: Json = {"name": ":method", "string_match": {"exact": "GET"}}


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model or adapter that clients may ask for."""

    id: str
    created: int  # Unix time, seconds
    root: str | None = None  # what is loaded under this name; None: the id itself
    parent: str | None = None  # base model of an adapter


def model_routes(models: Sequence[ModelInfo]) -> list[Json]:
    """Routes for the list, each model, and any other id (404). A repeated id counts once."""
    unique = {model.id: model for model in models}
    objects = [_object(unique[name]) for name in sorted(unique)]
    listing = json.dumps({"object": "list", "data": objects}, ensure_ascii=False)
    routes = [fixed_reply({"path": PATH, "headers": [_GET]}, 200, listing)]
    for name in sorted(unique):
        body = json.dumps(_object(unique[name]), ensure_ascii=False)
        # Clients send an id with a slash or a colon as it is, or percent-encoded.
        for spelling in dict.fromkeys((quote(name, safe="/:@"), quote(name, safe=""))):
            match: Json = {"path": f"{PATH}/{spelling}", "headers": [_GET]}
            routes.append(fixed_reply(match, 200, body))
    unknown = error_text(
        "The model does not exist or is not served at this address.",
        kind="invalid_request_error",
        code="model_not_found",
        param="model",
    )
    routes.append(fixed_reply({"prefix": f"{PATH}/", "headers": [_GET]}, 404, unknown))
    return routes


def fixed_reply(match: Json, status: int, body: str) -> Json:
    """A route that answers with this JSON text."""
    return {
        "match": match,
        "direct_response": {"status": status, "body": {"inline_string": body}},
        "response_headers_to_add": [
            {
                "header": {"key": "content-type", "value": JSON_TYPE},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
        ],
    }


def _object(model: ModelInfo) -> Json:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": "inferway",
        "root": model.root or model.id,
        "parent": model.parent,
    }
