"""Secret: certificates with their private keys, as core/v1 has it.

Invariant: no value of a Secret is ever shown. Values are wrapped, so that neither a message, a log,
nor `inferway get` can print one, and the copy of the whole manifest that `kubectl apply` leaves in
an annotation is dropped. What is in the values is checked where they are used.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    PlainSerializer,
    PlainValidator,
    SecretBytes,
    StringConstraints,
    model_validator,
)
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

from .meta import Object, ObjectMeta
from .scalars import DATA_KEY_PATTERN, Boolean
from .violations import Violation, reject

TLS_TYPE = "kubernetes.io/tls"
CERTIFICATE_KEY = "tls.crt"
PRIVATE_KEY_KEY = "tls.key"
HIDDEN_TEXT = "**********"  # stands for every value; no base64, so it does not load again
TOTAL_BYTES_MAX = 1024 * 1024
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def _from_base64(value: object) -> SecretBytes:
    if isinstance(value, SecretBytes):
        return value
    try:
        if isinstance(value, str):
            return SecretBytes(base64.b64decode("".join(value.split()), validate=True))
    except (binascii.Error, ValueError):
        pass
    raise PydanticCustomError("base64", "must be base64 text; plain text goes into stringData")


def _from_text(value: object) -> SecretBytes:
    if isinstance(value, SecretBytes):
        return value
    if isinstance(value, str):
        return SecretBytes(value.encode())
    raise PydanticCustomError("text", "must be a string")


DataKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=DATA_KEY_PATTERN)]
Hidden = PlainSerializer(lambda _value: HIDDEN_TEXT, return_type=str)
Base64Value = Annotated[
    SecretBytes,
    PlainValidator(_from_base64),
    Hidden,
    WithJsonSchema({"type": "string", "format": "byte"}),
]
TextValue = Annotated[
    SecretBytes, PlainValidator(_from_text), Hidden, WithJsonSchema({"type": "string"})
]


class SecretMeta(ObjectMeta):
    """Without the annotation in which kubectl keeps the whole manifest."""

    @model_validator(mode="before")
    @classmethod
    def _drop_applied(cls, value: object) -> object:
        annotations = value.get("annotations") if isinstance(value, dict) else None
        if not isinstance(annotations, dict) or _APPLIED not in annotations:
            return value
        kept = {key: text for key, text in annotations.items() if key != _APPLIED}
        return {**value, "annotations": kept}  # type: ignore[dict-item]


class Secret(Object):
    api_version: Literal["v1"] = "v1"
    kind: Literal["Secret"] = "Secret"
    metadata: SecretMeta
    type: Annotated[str, StringConstraints(max_length=253)] = Field(
        default="Opaque", description="certificates are of type `kubernetes.io/tls`"
    )
    data: Mapping[DataKey, Base64Value] = Field(
        default_factory=dict, description="`tls.crt`: the chain; `tls.key`: its private key; PEM"
    )
    string_data: Mapping[DataKey, TextValue] = Field(
        default_factory=dict, description="the same as plain text; counts before `data`"
    )
    immutable: Boolean | None = Field(default=None, description="no effect")

    def value(self, key: str) -> bytes | None:
        """One of the values; `stringData` counts before `data`."""
        values = self.string_data if key in self.string_data else self.data
        return values[key].get_secret_value() if key in values else None

    @model_validator(mode="before")
    @classmethod
    def _values_are_mappings(cls, value: object) -> object:
        """Here, because the general message would show what stands there instead."""
        if isinstance(value, dict):
            reject(
                [
                    Violation("must be a mapping", (part,))
                    for part in ("data", "stringData")
                    if not isinstance(value.get(part, {}), Mapping | None)
                ]
            )
        return value

    @model_validator(mode="after")
    def _content_fits_type(self) -> Self:
        found = []
        if self.type == TLS_TYPE:
            found = [
                Violation(f"type {TLS_TYPE} needs {key}", ("data",))
                for key in (CERTIFICATE_KEY, PRIVATE_KEY_KEY)
                if self.value(key) is None
            ]
        values = (*self.data.values(), *self.string_data.values())
        size = sum(len(value.get_secret_value()) for value in values)
        if size > TOTAL_BYTES_MAX:
            message = f"at most {TOTAL_BYTES_MAX} bytes are allowed over all values: {size}"
            found.append(Violation(message, ("data",)))
        reject(found)
        return self
