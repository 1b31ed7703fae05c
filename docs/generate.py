"""Writes the generated parts of the pages in this directory.

Problem: a reference page that is written by hand is wrong after a month. Model: a page may hold
blocks between `<!-- generated: NAME -->` and `<!-- end -->`; what stands between is made from the
code (resource models, policies, commands, metrics) and replaced as a whole; everything else on the
page is left alone. `make docs` writes, a test fails when a page is stale.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import sys
import types
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from inferway._native import PrefixIndex, hash_seed
from inferway.adapters.metrics import SyncMetrics
from inferway.cli.main import app
from inferway.control.metrics import ControlMetrics
from inferway.picker.config import PickerStatus
from inferway.picker.datalayer.state import DataLayer
from inferway.picker.exposition import Sources, families
from inferway.picker.metrics import PickerMetrics
from inferway.picker.outcome import REPLIES, Reply
from inferway.picker.scheduling.engine_constants import EngineConstants
from inferway.picker.scheduling.registry import PLUGINS, POLICIES
from inferway.resources.kinds import KINDS, KindInfo
from inferway.resources.picker_plugins.registry import PLUGIN_TYPES
from inferway.resources.scalars import FACTOR_MAX, PATTERN_MEANING
from inferway.resources.schema import json_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import typer

    from inferway.resources.picker_plugins.plugin_type import PluginType

HERE = Path(__file__).parent
BLOCK = re.compile(
    r"(?P<start><!-- generated: (?P<name>[a-z-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
Schema = dict[str, Any]
ABSENT = "–"  # noqa: RUF001 - a dash is what a table shows for nothing

# Parts of the upstream shape that decode and are checked, but that nothing is done with yet. Their
# fields would fill pages and are those of the Gateway API.
NOT_SERVED = {
    "BackendTls": "no effect: backends are reached without TLS",
    "FrontendTls": "`validation`: HTTPS ports ask clients for certificates",
    "GatewayInfrastructure": "`parametersRef` is refused; labels and annotations have no effect",
    "AllowedListeners": "no effect: ListenerSets are not read",
    "ParametersReference": "a class with parameters is not accepted",
}
# Shown in full in one place only.
SHOWN_ELSEWHERE = {
    "spec.rules[].backendRefs[].filters": (
        "as `spec.rules[].filters`, for requests that go to this backend"
    ),
}


def refreshed(page: str) -> str:
    """The page with every block made anew. KeyError for a block that nobody makes."""

    def block(found: re.Match[str]) -> str:
        text = "\n".join(BLOCKS[found["name"]]()).strip()
        return f"{found['start']}\n{text}\n\n{found['end']}"

    return BLOCK.sub(block, page)


def pages() -> list[Path]:
    """Every page that has a generated part."""
    return [path for path in sorted(HERE.glob("*.md")) if BLOCK.search(path.read_text())]


def table(titles: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    titles = list(titles)
    yield line(titles)
    yield "|" + "---|" * len(titles)
    yield from (line(row) for row in rows)


# Manifests


def kinds() -> Iterator[str]:
    """The overview, then the fields of every kind."""
    yield from table(
        ("kind", "apiVersion", "names for `inferway get`", "namespaced"),
        (
            (
                f"[{info.kind}](#{info.kind.lower()})",
                ", ".join(f"`{one}`" for one in info.api_versions),
                ", ".join(f"`{name}`" for name in (info.plural, *info.short_names)),
                "yes" if info.namespaced else "no",
            )
            for info in KINDS
        ),
    )
    yield from ("", "### metadata", "", "The same for every kind.", "")
    yield from fields(json_schema(KINDS[-1]), "metadata")
    for info in KINDS:
        yield from ("", f"### {info.kind}", "", module_summary(info), "")
        yield from fields(json_schema(info), *content_of(json_schema(info)))


def module_summary(info: KindInfo) -> str:
    """The first paragraph of the module that defines a kind, without the kind's name."""
    text = first_paragraph(sys.modules[info.model.__module__].__doc__)
    text = text.removeprefix(f"{info.kind}: ")
    return text[0].upper() + text[1:]


def first_paragraph(text: str | None) -> str:
    return camel(" ".join((text or "").strip().split("\n\n")[0].split()))


def camel(text: str) -> str:
    """Names of fields in backticks as a manifest spells them."""

    def name(found: re.Match[str]) -> str:
        head, *rest = found[1].split("_")
        return f"`{head}{''.join(word.capitalize() for word in rest)}`"

    return re.sub(r"`([a-z_]+)`", name, text).replace("` None", "` unset")


def content_of(schema: Schema) -> Iterator[str]:
    """What a kind has besides the parts that every kind has."""
    return (part for part in schema["properties"] if part not in ("apiVersion", "kind", "metadata"))


def fields(schema: Schema, *parts: str) -> Iterator[str]:
    needed = schema["required"]
    rows = [
        row
        for part in parts
        for row in field_rows(schema, schema["properties"][part], part, required=part in needed)
    ]
    yield from table(("field", "value", "default", "meaning"), rows)


def field_rows(
    root: Schema, node: Schema, path: str, *, required: bool
) -> Iterator[tuple[str, str, str, str]]:
    """One row for a field and one for everything below it."""
    inner = unwrapped(node)
    target, suffix = inner, ""
    if inner.get("type") == "array":
        target, suffix = unwrapped(inner["items"]), "[]"
    name = target.get("$ref", "").rpartition("/")[2]
    if name:
        target = root["$defs"][name]
    meaning = camel(" ".join((node.get("description") or target.get("description", "")).split()))
    default = "required" if required else default_words(node.get("default"))
    value = value_words(inner, target, is_list=bool(suffix))
    if name in NOT_SERVED or path in SHOWN_ELSEWHERE:
        words = NOT_SERVED.get(name) or SHOWN_ELSEWHERE[path]
        yield f"`{path}{suffix}`", value, default, words
        return
    if meaning or "." in path or value != "object":
        yield f"`{path}{suffix}`", value, default, meaning
    for field, below in target.get("properties", {}).items():
        needed = field in target.get("required", ())
        yield from field_rows(root, below, f"{path}{suffix}.{field}", required=needed)


def unwrapped(node: Schema) -> Schema:
    """A field that may be unset, without that."""
    options: list[Schema] = [one for one in node.get("anyOf", ()) if one.get("type") != "null"]
    return options[0] if len(options) == 1 else node


def default_words(default: object) -> str:
    if default in (None, [], {}) or isinstance(default, dict | list):
        return ABSENT
    if default == "":
        return "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def value_words(node: Schema, target: Schema, *, is_list: bool) -> str:
    words = map_words(target) if "patternProperties" in target else scalar_words(target)
    if not is_list:
        return words
    return f"list{count_words(node.get('minItems'), node.get('maxItems'))}" + (
        f": {words}" if words != "object" else ""
    )


def count_words(low: int | None, high: int | None) -> str:
    if low is None and high is None:
        return ""
    return f" of {low or 0} to {high}" if high is not None else f" of {low} or more"


def map_words(node: Schema) -> str:
    limits = count_words(node.get("minProperties"), node.get("maxProperties"))
    (values,) = node["patternProperties"].values()
    words = "keys to base64 text" if values.get("format") == "byte" else "label names to text"
    return f"map{limits}: {words}"


def scalar_words(node: Schema) -> str:
    if node.get("title") == "bytes":
        return "bytes: a number, or one with k, M, G, Ki, Mi, Gi"
    if node.get("x-kubernetes-int-or-string"):
        return "1 … 65535, or the name of a port"
    if "enum" in node:
        return ", ".join(f"`{one}`" for one in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    if "pattern" in node:
        return PATTERN_MEANING[node["pattern"]]
    match node.get("type"):
        case "integer":
            if "minimum" in node:
                return f"{node['minimum']} … {node['maximum']}"
            return "whole number"
        case "number":
            low, high = node["minimum"], node["maximum"]
            return "number" if high >= FACTOR_MAX else f"{low:g} … {high:g}"
        case "boolean":
            return "`true`, `false`"
        case "string":
            if node.get("format") == "date-time":
                return "timestamp"
            limit = node.get("maxLength")
            return f"text, at most {limit} characters" if limit else "text"
        case _:
            return "object"


def plugin_types() -> Iterator[str]:
    """What becomes of every plugin type of an EndpointPickerConfig."""
    served = [one for one in PLUGIN_TYPES.values() if one.is_served]
    yield from ("### Served", "")
    yield from table(
        ("type", "is a", "parameters and defaults", "meaning"),
        (
            (
                f"`{one.name}`",
                ", ".join(sorted(one.roles)),
                "; ".join(parameter_list(one)) or ABSENT,
                one.meaning,
            )
            for one in served
        ),
    )
    yield from ("", "### Built in", "", "Accepted; the gateway does it without being told.", "")
    yield from table(
        ("type", "is a", "why nothing happens"),
        (
            (f"`{one.name}`", ", ".join(sorted(one.roles)), one.built_in)
            for one in PLUGIN_TYPES.values()
            if one.built_in
        ),
    )
    yield from ("", "### Refused", "", "An error at its line, in these words.", "")
    yield from table(
        ("type", "is a", "why", "instead"),
        (
            (f"`{one.name}`", ", ".join(sorted(one.roles)), one.refused, one.instead)
            for one in PLUGIN_TYPES.values()
            if one.refused
        ),
    )


def parameter_list(of: PluginType) -> Iterator[str]:
    """Parameters that have an effect, each with its default and meaning."""
    schema = of.parameters.model_json_schema(by_alias=True)
    for name, node in schema.get("properties", {}).items():
        if name not in of.ignored:
            default = "required" if name in schema.get("required", ()) else node.get("default")
            shown = f" {default_words(default)}" if default not in (None, "required") else ""
            shown = " required" if default == "required" else shown.replace(f" {ABSENT}", "")
            meaning = node.get("description", "")
            yield f"`{name}`{shown}" + (f": {meaning}" if meaning else "")


# Policies


def policies() -> Iterator[str]:
    """What each policy is made of."""
    yield from table(
        ("policy", "profile"),
        (
            (
                f"`{name}`",
                ", ".join(
                    f"[`{one.type}`](#{plugin_anchor(one.type)})"
                    + (f" × {one.weight:g}" if one.weight != 1 else "")  # noqa: RUF001
                    for one in profile.plugins
                ),
            )
            for name, profile in POLICIES.items()
        ),
    )


def plugins() -> Iterator[str]:
    """Every plugin in the words of its own module, which several may share."""
    by_module: dict[str, list[str]] = {}
    for name, factory in PLUGINS.items():
        by_module.setdefault(factory.__module__, []).append(name)
    sections = {"Costs": "", "Scorers": "scorers", "Filters": "filters", "Pickers": "pickers"}
    for title, folder in sections.items():
        yield from (f"## {title}", "")
        for module, names in by_module.items():
            if module.removeprefix("inferway.picker.scheduling.").rpartition(".")[0] == folder:
                heading = ", ".join(f"`{name}`" for name in names)
                yield from (f"### {heading}", "", inspect.getdoc(sys.modules[module]) or "", "")


def plugin_anchor(name: str) -> str:
    """Where GitHub puts the heading of a plugin's module."""
    module = PLUGINS[name].__module__
    return "-".join(one for one, factory in PLUGINS.items() if factory.__module__ == module)


def engine_constants() -> Iterator[str]:
    yield (inspect.getdoc(EngineConstants) or "") + "\n"
    yield from table(
        ("constant", "value"),
        ((f"`{one.name}`", f"{one.default:g}") for one in dataclasses.fields(EngineConstants)),
    )


# Commands


def commands(of: typer.Typer = app, prefix: str = "") -> Iterator[str]:
    """Every command, those of groups under their whole name."""
    for info in of.registered_commands:
        if info.callback is not None:
            yield from command(prefix + (info.name or info.callback.__name__), info.callback)
    for group in of.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{prefix}{group.name} ")


def command(name: str, callback: Callable[..., object]) -> Iterator[str]:
    text = inspect.getdoc(callback) or ""
    description, _, examples = re.sub(r"\n\nExamples?:", "\0", text).partition("\0")
    yield from (f"## inferway {name}", "", description, "")
    if examples:
        shown = " ".join(examples.split()).split(" · ")
        yield from ("```console", *(f"$ {one.strip()}" for one in shown), "```", "")
    hints = typing.get_type_hints(callback, include_extras=True)
    rows = [
        parameter(one, hints[one.name]) for one in inspect.signature(callback).parameters.values()
    ]
    yield from table(("argument or option", "value", "default", "meaning"), rows)
    yield ""


def parameter(one: inspect.Parameter, hint: Any) -> tuple[str, str, str, str]:
    kind, info = typing.get_args(hint)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        (kind,) = [option for option in typing.get_args(kind) if option is not type(None)]
    many = typing.get_origin(kind) is list
    plain = typing.get_args(kind)[0] if many else kind
    if type(info).__name__ == "ArgumentInfo":
        shown = one.name.upper().removesuffix("S" if many else "") + (" …" if many else "")
        name = f"`{info.metavar or shown}`"
    else:
        # Typer takes the first spelling for a default until it builds the command.
        written = [info.default] if isinstance(info.default, str) else []
        spellings = [*written, *(info.param_decls or ())] or ["--" + one.name.replace("_", "-")]
        name = ", ".join(f"`{text}`" for text in spellings)
    meaning = info.help or ""
    if info.envvar:
        meaning += f" Environment: `{info.envvar}`."
    return name, parameter_words(plain, info), parameter_default(one), meaning


def parameter_words(kind: type, info: Any) -> str:
    if info.metavar and type(info).__name__ == "OptionInfo":
        return f"`{info.metavar}`"
    if kind is bool:
        return "flag"
    if info.autocompletion:
        return ", ".join(f"`{text}`" for text in info.autocompletion(""))
    if issubclass(kind, enum.Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    words = {int: "whole number", float: "number", Path: "path"}.get(kind, "text")
    if info.min is not None and info.max is not None:
        return f"{info.min} … {info.max}"
    return f"{words}, at least {info.min}" if info.min is not None else words


def parameter_default(one: inspect.Parameter) -> str:
    if one.default is inspect.Parameter.empty:
        return "required"
    if one.default is None or one.default is False or one.default == "":
        return ABSENT
    return f"`{one.default}`"


# Metrics and replies


class NoIndex:
    def __len__(self) -> int:
        return 0

    def memory_bytes(self) -> int:
        return 0


class NobodyFollowed:
    publishers = connected = strange = slices_full = 0

    def sequence_counts(self) -> tuple[int, int, int]:
        return 0, 0, 0


def picker_metrics() -> Iterator[str]:
    events = (DataLayer(PrefixIndex(1), hash_seed).kv_events, NobodyFollowed())
    sources = Sources(PickerMetrics(), PickerStatus(version=0), NoIndex(), 0, events, {})
    found = [
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            family._labelnames,  # type: ignore[attr-defined]  # noqa: SLF001
            family.documentation,
        )
        for family in families(sources)
    ]
    yield from metric_table(found)


def control_metrics() -> Iterator[str]:
    yield from registry_metrics(ControlMetrics())


def adapter_metrics() -> Iterator[str]:
    yield from registry_metrics(SyncMetrics())


def registry_metrics(metrics: ControlMetrics | SyncMetrics) -> Iterator[str]:
    labels = {
        one._name: one._labelnames  # noqa: SLF001
        for one in vars(metrics).values()
        if hasattr(one, "_labelnames")
    }
    found = [
        (
            family.name + ("_total" if family.type == "counter" else ""),
            family.type,
            labels[family.name],
            family.documentation,
        )
        for family in metrics.registry.collect()
    ]
    yield from metric_table(found)


def metric_table(found: Iterable[tuple[str, str, Iterable[str], str]]) -> Iterator[str]:
    yield from table(
        ("name", "type", "labels", "meaning"),
        (
            (f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels) or ABSENT, text)
            for name, kind, labels, text in found
        ),
    )


def _retry_after(reply: Reply) -> str:
    if reply.status == 429:
        return "computed"
    return f"{reply.retry_after_ms // 1000}" if reply.retry_after_ms else ABSENT


def picker_replies() -> Iterator[str]:
    yield from table(
        ("outcome", "status", "`type`", "`code`", "`Retry-After`", "`x-inferway-dropped-reason`"),
        (
            (
                f"`{outcome.value}`",
                str(reply.status),
                f"`{reply.type}`",
                f"`{reply.code}`",
                _retry_after(reply),
                f"`{reply.reason}`" if reply.reason else ABSENT,
            )
            for outcome, reply in REPLIES.items()
        ),
    )


BLOCKS: dict[str, Callable[[], Iterator[str]]] = {
    "kinds": kinds,
    "plugin-types": plugin_types,
    "policies": policies,
    "plugins": plugins,
    "engine-constants": engine_constants,
    "commands": commands,
    "picker-metrics": picker_metrics,
    "control-metrics": control_metrics,
    "adapter-metrics": adapter_metrics,
    "picker-replies": picker_replies,
}


def main() -> None:
    for page in pages():
        page.write_text(refreshed(page.read_text()))


if __name__ == "__main__":
    main()
