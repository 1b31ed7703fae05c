"""Filters of an HTTPRoute: what happens to a request or response besides being forwarded.

A filter is a tagged union: `type` names the one other field that must be set. Which types are
served is decided in routing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .meta import Model
from .references import BackendObjectReference, LocalObjectReference
from .scalars import (
    Between,
    Boolean,
    CorsOrigin,
    Count,
    HeaderName,
    HeaderValue,
    PortNumber,
    PositiveCount,
    PreciseHostname,
)
from .violations import Violation, reject

Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"]
MethodOrAny = Literal[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "*"
]


def repeated(values: Iterable[str]) -> list[tuple[int, str]]:
    """Index and value of every entry that stood in the list before."""
    seen: set[str] = set()
    found = []
    for index, value in enumerate(values):
        if value in seen:
            found.append((index, value))
        seen.add(value)
    return found


class Header(Model):
    name: HeaderName
    value: HeaderValue


class HeaderModifier(Model):
    set: Annotated[tuple[Header, ...], Field(max_length=16)] = ()
    add: Annotated[tuple[Header, ...], Field(max_length=16)] = ()
    remove: Annotated[tuple[str, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        found = [
            Violation(f"header name must be unique: {name}", (part, index, "name"))
            for part, headers in (("set", self.set), ("add", self.add))
            for index, name in repeated(header.name for header in headers)
        ]
        found += [
            Violation(f"header name must be unique: {name}", ("remove", index))
            for index, name in repeated(self.remove)
        ]
        reject(found)
        return self


class Fraction(Model):
    numerator: Count
    denominator: PositiveCount = 100

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.numerator > self.denominator:
            message = (
                f"numerator must be at most the denominator: {self.numerator} of {self.denominator}"
            )
            reject([Violation(message, ("numerator",))])
        return self


class RequestMirror(Model):
    """Neither `percent` nor `fraction`: every request is mirrored."""

    backend_ref: BackendObjectReference
    percent: Annotated[int, Between(0, 100)] | None = None
    fraction: Fraction | None = None

    @model_validator(mode="after")
    def _one_share(self) -> Self:
        if self.percent is not None and self.fraction is not None:
            reject([Violation("only one of percent and fraction may be set", ("fraction",))])
        return self


class PathModifier(Model):
    type: Literal["ReplaceFullPath", "ReplacePrefixMatch"]
    replace_full_path: Annotated[str, Field(max_length=1024)] | None = None
    replace_prefix_match: Annotated[str, Field(max_length=1024)] | None = None

    @model_validator(mode="after")
    def _value_fits_type(self) -> Self:
        values = {
            "ReplaceFullPath": ("replaceFullPath", self.replace_full_path),
            "ReplacePrefixMatch": ("replacePrefixMatch", self.replace_prefix_match),
        }
        reject(_union_violations(self.type, values))
        return self


class RequestRedirect(Model):
    scheme: Literal["http", "https"] | None = None
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None
    port: PortNumber | None = None
    status_code: Literal[301, 302, 303, 307, 308] = 302


class UrlRewrite(Model):
    hostname: PreciseHostname | None = None
    path: PathModifier | None = None


class Cors(Model):
    allow_origins: Annotated[tuple[CorsOrigin, ...], Field(max_length=64)] = ()
    allow_credentials: Boolean | None = None
    allow_methods: Annotated[tuple[MethodOrAny, ...], Field(max_length=9)] = ()
    allow_headers: Annotated[tuple[HeaderName, ...], Field(max_length=64)] = ()
    expose_headers: Annotated[tuple[HeaderName, ...], Field(max_length=64)] = ()
    max_age: PositiveCount = 5

    @model_validator(mode="after")
    def _lists_are_sets(self) -> Self:
        lists: tuple[tuple[str, tuple[str, ...]], ...] = (
            ("allowOrigins", self.allow_origins),
            ("allowMethods", self.allow_methods),
            ("allowHeaders", self.allow_headers),
            ("exposeHeaders", self.expose_headers),
        )
        found = [
            Violation(f"{field} must not repeat: {value}", (field, index))
            for field, values in lists
            for index, value in repeated(values)
        ]
        found += [
            Violation(f"{field} cannot hold '*' beside other entries", (field,))
            for field, values in lists[:3]
            if "*" in values and len(values) > 1
        ]
        reject(found)
        return self


class RouteFilter(Model):
    type: Literal[
        "RequestHeaderModifier",
        "ResponseHeaderModifier",
        "RequestMirror",
        "RequestRedirect",
        "URLRewrite",
        "CORS",
        "ExtensionRef",
    ]
    request_header_modifier: HeaderModifier | None = None
    response_header_modifier: HeaderModifier | None = None
    request_mirror: RequestMirror | None = None
    request_redirect: RequestRedirect | None = None
    url_rewrite: UrlRewrite | None = None
    cors: Cors | None = None
    extension_ref: LocalObjectReference | None = None

    @property
    def replaces_prefix(self) -> bool:
        """Needs exactly one PathPrefix match to know which prefix."""
        actions = (self.request_redirect, self.url_rewrite)
        return any(
            action is not None
            and action.path is not None
            and action.path.type == "ReplacePrefixMatch"
            for action in actions
        )

    @model_validator(mode="after")
    def _configuration_fits_type(self) -> Self:
        values = {
            "RequestHeaderModifier": ("requestHeaderModifier", self.request_header_modifier),
            "ResponseHeaderModifier": ("responseHeaderModifier", self.response_header_modifier),
            "RequestMirror": ("requestMirror", self.request_mirror),
            "RequestRedirect": ("requestRedirect", self.request_redirect),
            "URLRewrite": ("urlRewrite", self.url_rewrite),
            "CORS": ("cors", self.cors),
            "ExtensionRef": ("extensionRef", self.extension_ref),
        }
        reject(_union_violations(self.type, values))
        return self


_ONCE_PER_RULE = (
    "CORS",
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestRedirect",
    "URLRewrite",
)


def filter_list_violations(filters: tuple[RouteFilter, ...]) -> list[Violation]:
    """Rules over all filters of one rule or one backend; paths start at the object that has
    `filters`.
    """
    count = Counter(filter_.type for filter_ in filters)
    found = []
    for index, filter_ in enumerate(filters):
        if filter_.type in _ONCE_PER_RULE and count[filter_.type] > 1:
            message = f"{filter_.type} filter cannot be repeated"
            found.append(Violation(message, ("filters", index, "type")))
            count[filter_.type] = 1
    if count["RequestRedirect"] and count["URLRewrite"]:
        found.append(
            Violation("RequestRedirect and URLRewrite cannot be used together", ("filters",))
        )
    return found


def _union_violations(selected: str, values: Mapping[str, tuple[str, object]]) -> list[Violation]:
    """`values`: for every type, the field it needs and what that field holds."""
    found = []
    for type_, (field, value) in values.items():
        if type_ == selected and value is None:
            found.append(Violation(f"{field} must be set when type is {type_}", (field,)))
        if type_ != selected and value is not None:
            hint = f"set type: {type_}, or remove {field}"
            found.append(
                Violation(f"{field} must not be set when type is {selected}", (field,), hint)
            )
    return found
