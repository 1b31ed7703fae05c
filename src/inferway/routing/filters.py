"""Filters of a rule or backend, checked and resolved.

Problem: a filter that cannot be honoured must refuse its route by name, one whose reference leads
nowhere must not; and no text of a manifest may make the data plane refuse everything. Model: each
filter becomes a part of one `Filters`; what is wrong is collected with its field.

Refused, each because it would not do what it says:

- headers that routing or the picker believes (TRUST_HEADERS, objective, fairness, x-envoy-*):
  filters run after the decision, so a change would not be heard, or would undo the decision
- `Host` (URLRewrite does that) and headers that frame the message (content-length and so on)
- CORS with credentials and `*` for headers: a browser then wants the names, which are not known
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from inferway.observability.names import FAIRNESS_HEADERS, OBJECTIVE_HEADERS, TRUST_HEADERS
from inferway.resources.http_route import BackendRef
from inferway.resources.scalars import HEADER_NAME_PATTERN
from inferway.routing.features import (
    MILLION,
    Cors,
    Filters,
    Mirror,
    PathChange,
    PathChangeKind,
    Redirect,
    Rewrite,
)
from inferway.routing.header_changes import changes_of
from inferway.routing.model import TargetKind
from inferway.routing.status import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from inferway.resources.http_route_filters import Cors as WrittenCors
    from inferway.resources.http_route_filters import (
        HeaderModifier,
        PathModifier,
        RequestMirror,
        RequestRedirect,
        RouteFilter,
        UrlRewrite,
    )
    from inferway.routing.backends import Resolved

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_DECIDED = frozenset((*TRUST_HEADERS, *OBJECTIVE_HEADERS, *FAIRNESS_HEADERS))
_FRAMING = frozenset(
    (
        *("connection", "content-length", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    )
)
_HEADER_NAME = re.compile(HEADER_NAME_PATTERN)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_PATH = re.compile(r"[!-~]*")


@dataclass(frozen=True, slots=True)
class ReadFilters:
    """`problems` refuse the route; `unresolved` are for the status and name their field."""

    filters: Filters | None  # None: there are none
    problems: tuple[str, ...]
    unresolved: tuple[tuple[str, Refusal], ...]
    references: tuple[Resolved, ...]  # of mirrors


def is_own_header(name: str) -> bool:
    """Whether a request header (lower case) means something to the gateway or to HTTP itself."""
    own = name in _DECIDED or name in _FRAMING or name in ("host", "cookie")
    return own or name.startswith("x-envoy-")


def read_filters(
    written: Sequence[RouteFilter], field: str, resolve: Callable[[BackendRef], Resolved]
) -> ReadFilters:
    """The filters of one list, whose path in the manifest is `field`."""
    filters = Filters()
    problems: list[str] = []
    unresolved: list[tuple[str, Refusal]] = []
    references: list[Resolved] = []
    for index, one in enumerate(written):
        place = f"{field}[{index}]"
        problems += [f"{place}.{problem}" for problem in _problems(one)]
        if one.request_mirror is not None:
            reference = resolve(_backend(one.request_mirror))
            references.append(reference)
            mirrored = _mirrored(one.request_mirror, reference)
            filters = filters.then(Filters(mirrors=mirrored))
            if reference.refusal is not None:
                unresolved.append((f"{place}.requestMirror.backendRef", reference.refusal))
        elif one.extension_ref is not None:
            shown = f"{one.extension_ref.group}/{one.extension_ref.kind}"
            words = f"kind {shown} is not supported: these requests are answered 500"
            unresolved.append((f"{place}.extensionRef", Refusal("InvalidKind", words)))
            filters = filters.then(Filters(unknown=f"{shown} {one.extension_ref.name}"))
        else:
            filters = filters.then(_plain(one))
    return ReadFilters(
        filters if written else None, tuple(problems), tuple(unresolved), tuple(references)
    )


def _plain(one: RouteFilter) -> Filters:
    """A filter without references."""
    if one.request_header_modifier is not None:
        return Filters(request=changes_of(one.request_header_modifier))
    if one.response_header_modifier is not None:
        return Filters(response=changes_of(one.response_header_modifier))
    if one.request_redirect is not None:
        return Filters(redirect=_redirect(one.request_redirect))
    if one.url_rewrite is not None:
        return Filters(rewrite=_rewrite(one.url_rewrite))
    return Filters(cors=None if one.cors is None else _cors(one.cors))


def _redirect(written: RequestRedirect) -> Redirect:
    return Redirect(
        scheme=written.scheme,
        hostname=written.hostname,
        port=written.port,
        path=_path_change(written.path),
        status=written.status_code,
    )


def _rewrite(written: UrlRewrite) -> Rewrite:
    return Rewrite(hostname=written.hostname, path=_path_change(written.path))


def _path_change(written: PathModifier | None) -> PathChange | None:
    """A path always starts with a slash. A prefix is replaced by path element: /a/ and /a, and
    nothing and /, are the same replacement.
    """
    if written is None:
        return None
    if written.type == "ReplaceFullPath":
        return PathChange(PathChangeKind.FULL, _slashed(written.replace_full_path or ""))
    value = _slashed((written.replace_prefix_match or "").rstrip("/"))
    return PathChange(PathChangeKind.PREFIX, value)


def _slashed(path: str) -> str:
    return path if path.startswith("/") else f"/{path}"


def _cors(written: WrittenCors) -> Cors:
    methods = _METHODS if "*" in written.allow_methods else written.allow_methods
    return Cors(
        origins=written.allow_origins,
        credentials=bool(written.allow_credentials),
        methods=methods,
        headers=written.allow_headers,
        expose=written.expose_headers,
        max_age_s=written.max_age,
    )


def _backend(mirror: RequestMirror) -> BackendRef:
    reference = mirror.backend_ref
    return BackendRef(
        group=reference.group,
        kind=reference.kind,
        name=reference.name,
        namespace=reference.namespace,
        port=reference.port,
    )


def _mirrored(written: RequestMirror, reference: Resolved) -> tuple[Mirror, ...]:
    """Empty when nothing is mirrored: no share, or nobody to send it to."""
    millionths = MILLION
    if written.percent is not None:
        millionths = written.percent * MILLION // 100
    elif written.fraction is not None:
        fraction = written.fraction
        millionths = round(fraction.numerator * MILLION / fraction.denominator)
    target = reference.target
    if target.kind is TargetKind.ERROR or not millionths:
        return ()
    return (Mirror(target.kind, target.name, millionths),)


def _problems(one: RouteFilter) -> Iterator[str]:
    """What cannot be honoured, each with its field below the filter."""
    if one.request_header_modifier is not None:
        yield from _header_problems("requestHeaderModifier", one.request_header_modifier)
    if one.response_header_modifier is not None:
        yield from _header_problems("responseHeaderModifier", one.response_header_modifier)
    if one.request_redirect is not None:
        yield from _path_problems("requestRedirect", one.request_redirect.path)
    if one.url_rewrite is not None:
        yield from _path_problems("urlRewrite", one.url_rewrite.path)
    if one.cors is not None and one.cors.allow_credentials:
        for field, names in (
            ("allowHeaders", one.cors.allow_headers),
            ("exposeHeaders", one.cors.expose_headers),
        ):
            if "*" in names:
                yield f"cors.{field} (with allowCredentials the names must be listed)"


def _path_problems(field: str, path: PathModifier | None) -> Iterator[str]:
    value = "" if path is None else path.replace_full_path or path.replace_prefix_match or ""
    if not _PATH.fullmatch(value):
        yield f"{field}.path (characters that are not allowed in a URL)"
    elif "?" in value or "#" in value:
        yield f"{field}.path (a path has no query and no fragment)"


def _header_problems(field: str, modifier: HeaderModifier) -> Iterator[str]:
    named = [
        *((f"set[{index}]", one.name, one.value) for index, one in enumerate(modifier.set)),
        *((f"add[{index}]", one.name, one.value) for index, one in enumerate(modifier.add)),
        *((f"remove[{index}]", name, "") for index, name in enumerate(modifier.remove)),
    ]
    for place, written, value in named:
        name = written.lower()
        request = field.startswith("request")
        problem = ""
        if not _HEADER_NAME.fullmatch(written):
            problem = "not a header name"
        elif _CONTROL.search(value):
            problem = "control characters in the value"
        elif name in _FRAMING:
            problem = f"{name} belongs to the connection"
        elif request and name == "host":
            problem = "use a URLRewrite filter with hostname"
        elif request and (name in _DECIDED or name.startswith("x-envoy-")):
            problem = f"{name} is read before filters run"
        if problem:
            yield f"{field}.{place} ({problem})"
