"""The string and number types that Kubernetes and Gateway API resources are made of.

Problem: names, label values, host names and durations have exact grammars upstream; a manifest that
the Kubernetes API refuses must not load from a directory either. Model: each type is `str` or `int`
with the upstream limits attached, so they also appear in the JSON schema. Numbers and booleans are
strict: `"90"` is not 90. `PATTERN_MEANING` says every grammar in words for error messages.
"""

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    PlainValidator,
    StringConstraints,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

OUT_OF_RANGE_TYPE = "out_of_range"

_LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"

DNS_LABEL_PATTERN = rf"^{_LABEL}$"
DNS_SUBDOMAIN_PATTERN = rf"^{_SUBDOMAIN}$"
DATA_KEY_PATTERN = r"^[-._a-zA-Z0-9]+$"
PORT_NAME_PATTERN = rf"^$|^{_LABEL}$"
GROUP_PATTERN = rf"^$|^{_SUBDOMAIN}$"
HOSTNAME_PATTERN = rf"^(\*\.)?{_SUBDOMAIN}$"
KIND_PATTERN = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
LABEL_KEY_PATTERN = rf"^({_SUBDOMAIN}/)?([A-Za-z0-9][-A-Za-z0-9_.]{{0,61}})?[A-Za-z0-9]$"
LABEL_VALUE_PATTERN = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
COOKIE_NAME_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
HEADER_NAME_PATTERN = r"^[A-Za-z0-9!#$%&'*+\-.^_\x60|~]+$"
URL_PATH_PATTERN = r"^/[!-~]*$"
DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
GO_DURATION_PATTERN = r"^(0|([0-9]{1,9}(\.[0-9]{1,9})?(ns|us|µs|ms|s|m|h)){1,6})$"
PERCENT_PATTERN = r"^(100(\.0{1,3})?|[0-9]{1,2}(\.[0-9]{1,3})?)%$"
INCREASE_PATTERN = r"^[0-9]{1,5}(\.[0-9]{1,3})?%$"
CONTROLLER_PATTERN = rf"^{_SUBDOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$"
PROTOCOL_PATTERN = rf"^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|^{_SUBDOMAIN}\/[A-Za-z0-9]+$"
ADDRESS_TYPE_PATTERN = (
    rf"^(Hostname|IPAddress|NamedAddress|{_SUBDOMAIN}\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+)$"
)
CORS_ORIGIN_PATTERN = r"^(\*|https?:\/\/(\*|(\*\.)?([a-zA-Z0-9-]+\.)*[a-zA-Z0-9-]+)(:[0-9]{1,5})?)$"

PATTERN_MEANING = {
    DNS_LABEL_PATTERN: "lower-case letters, digits and '-', with a letter or digit at both ends",
    DNS_SUBDOMAIN_PATTERN: (
        "lower-case letters, digits, '-' and '.', every part with a letter or digit at both ends"
    ),
    DATA_KEY_PATTERN: "letters, digits, '-', '_' and '.'",
    PORT_NAME_PATTERN: "lower-case letters, digits and '-', or empty",
    GROUP_PATTERN: "an API group such as gateway.networking.k8s.io, or empty for core",
    HOSTNAME_PATTERN: "a lower-case DNS name, optionally starting with '*.'",
    KIND_PATTERN: "letters, digits and '-', starting with a letter",
    COOKIE_NAME_PATTERN: "1 to 64 letters, digits, '-', '_' and '.'",
    LABEL_KEY_PATTERN: "[dns-prefix/]name with up to 63 letters, digits, '-', '_' and '.'",
    LABEL_VALUE_PATTERN: (
        "up to 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends"
    ),
    HEADER_NAME_PATTERN: "an HTTP token: letters, digits and !#$%&'*+-.^_`|~",
    URL_PATH_PATTERN: "a path such as /metrics, without spaces",
    DURATION_PATTERN: "a duration such as 300s, 1m30s or 500ms: units h, m, s, ms, no fractions",
    GO_DURATION_PATTERN: "a duration such as 60s, 1m30s, 0.5s or 100ms; 0s is none",
    PERCENT_PATTERN: "a share such as 5% or 0.1%, at most 100%",
    INCREASE_PATTERN: "an increase such as 20% or 0.5%",
    CONTROLLER_PATTERN: "a domain and a path, such as inferway.dev/gateway",
    PROTOCOL_PATTERN: "a protocol such as HTTP or HTTPS, or domain/name",
    ADDRESS_TYPE_PATTERN: "IPAddress, Hostname, NamedAddress or domain/name",
    CORS_ORIGIN_PATTERN: "'*' or scheme://host[:port] with scheme http or https",
}

ObjectName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
DnsName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=DNS_SUBDOMAIN_PATTERN)
]
Namespace = Annotated[
    str, StringConstraints(min_length=1, max_length=63, pattern=DNS_LABEL_PATTERN)
]
SectionName = DnsName
PreciseHostname = DnsName
Hostname = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=HOSTNAME_PATTERN)]
Group = Annotated[str, StringConstraints(max_length=253, pattern=GROUP_PATTERN)]
Kind = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=KIND_PATTERN)]
# Prefix up to 253, the slash, name up to 63.
LabelKey = Annotated[
    str, StringConstraints(min_length=1, max_length=317, pattern=LABEL_KEY_PATTERN)
]
LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=LABEL_VALUE_PATTERN)]
AnnotationValue = Annotated[str, StringConstraints(max_length=4096)]
HeaderName = Annotated[
    str, StringConstraints(min_length=1, max_length=256, pattern=HEADER_NAME_PATTERN)
]
HeaderValue = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Duration = Annotated[str, StringConstraints(pattern=DURATION_PATTERN)]
CookieName = Annotated[str, StringConstraints(pattern=COOKIE_NAME_PATTERN)]
GoDuration = Annotated[str, StringConstraints(max_length=64, pattern=GO_DURATION_PATTERN)]
Percent = Annotated[str, StringConstraints(pattern=PERCENT_PATTERN)]
Increase = Annotated[str, StringConstraints(pattern=INCREASE_PATTERN)]
ControllerName = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=CONTROLLER_PATTERN)
]
Protocol = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=PROTOCOL_PATTERN)]
AddressType = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=ADDRESS_TYPE_PATTERN)
]
CorsOrigin = Annotated[
    str, StringConstraints(min_length=1, max_length=253, pattern=CORS_ORIGIN_PATTERN)
]


@dataclass(frozen=True, slots=True)
class Between:
    """A whole number in a closed range; unlike pydantic's own, the error names both ends."""

    minimum: int
    maximum: int

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        in_range = core_schema.custom_error_schema(
            core_schema.int_schema(ge=self.minimum, le=self.maximum),
            custom_error_type=OUT_OF_RANGE_TYPE,
            custom_error_message="must be from {minimum} to {maximum}",
            custom_error_context={"minimum": self.minimum, "maximum": self.maximum},
        )
        return core_schema.chain_schema([core_schema.int_schema(strict=True), in_range])

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "minimum": self.minimum, "maximum": self.maximum}


@dataclass(frozen=True, slots=True)
class Within:
    """A number in a closed range; the error names both ends."""

    minimum: float
    maximum: float

    def __get_pydantic_core_schema__(
        self, _source: object, _handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        in_range = core_schema.custom_error_schema(
            core_schema.float_schema(ge=self.minimum, le=self.maximum, allow_inf_nan=False),
            custom_error_type=OUT_OF_RANGE_TYPE,
            custom_error_message="must be from {minimum} to {maximum}",
            custom_error_context={
                "minimum": f"{self.minimum:g}",
                "maximum": f"{self.maximum:g}",
            },
        )
        return core_schema.chain_schema([core_schema.float_schema(strict=True), in_range])

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "minimum": self.minimum, "maximum": self.maximum}


INT32_MAX = 2**31 - 1

PORT_MAX = 65535
PortNumber = Annotated[int, Between(1, PORT_MAX)]
PortName = Annotated[str, StringConstraints(max_length=63, pattern=PORT_NAME_PATTERN)]
Int32 = Annotated[int, Between(-INT32_MAX - 1, INT32_MAX)]
Count = Annotated[int, Between(0, INT32_MAX)]
PositiveCount = Annotated[int, Between(1, INT32_MAX)]
INT64_MAX = 2**63 - 1
Int64Count = Annotated[int, Between(0, INT64_MAX)]
Ratio = Annotated[float, Within(0, 1)]
# What people weigh and scale with: large enough for every use, small enough to stay exact.
FACTOR_MAX = 1e9
Factor = Annotated[float, Within(0, FACTOR_MAX)]
Number = Annotated[float, Within(-1e18, 1e18)]
Boolean = Annotated[bool, Field(strict=True)]

_PORT_NAME = re.compile(PORT_NAME_PATTERN)


def _port_or_name(value: object) -> int | str:
    """Validated by hand: pydantic would report a union once per member."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= PORT_MAX:
        return value
    if isinstance(value, str) and value and _PORT_NAME.fullmatch(value):
        return value
    message = f"must be a port from 1 to {PORT_MAX} or the name of one"
    raise PydanticCustomError("port_or_name", message)


_BYTES = re.compile(r"([0-9]+)(|k|M|G|T|Ki|Mi|Gi|Ti)")
_BYTES_PER_UNIT: dict[str, int] = {
    "": 1,
    **{unit: 1000**power for power, unit in enumerate(("k", "M", "G", "T"), 1)},
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), 1)},
}


def _bytes(value: object) -> int:
    """A Kubernetes quantity of whole bytes. Validated by hand for the same reason."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= INT64_MAX:
        return value
    found = _BYTES.fullmatch(value) if isinstance(value, str) and len(value) <= 32 else None
    size = int(found[1]) * _BYTES_PER_UNIT[found[2]] if found is not None else INT64_MAX + 1
    if size <= INT64_MAX:
        return size
    message = "must be a number of bytes such as 1048576, 512Mi or 1G"
    raise PydanticCustomError("bytes", message)


Bytes = Annotated[
    int,
    PlainValidator(_bytes),
    WithJsonSchema({"x-kubernetes-int-or-string": True, "title": "bytes"}),
]

PortOrName = Annotated[
    int | str,
    PlainValidator(_port_or_name),
    WithJsonSchema({"x-kubernetes-int-or-string": True}),
]

_DURATION_PART = re.compile(r"([0-9]+)(ms|h|m|s)")
_MS_PER_UNIT = {"h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}


def duration_s(duration: str) -> float:
    """Seconds of a validated Gateway API duration (GEP-2257): the sum of its parts."""
    parts = _DURATION_PART.findall(duration)
    return sum(int(number) * _MS_PER_UNIT[unit] for number, unit in parts) / 1000


_GO_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ns|us|µs|ms|s|m|h)")
_S_PER_UNIT = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def go_duration_s(duration: str) -> float:
    """Seconds of a validated Go duration, which knows fractions and smaller units."""
    parts = _GO_DURATION_PART.findall(duration)
    return sum(float(number) * _S_PER_UNIT[unit] for number, unit in parts)


def percent_ratio(percent: str) -> float:
    """The ratio that a validated percentage stands for: 0.05 for 5%."""
    return float(percent.removesuffix("%")) / 100
