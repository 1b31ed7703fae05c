"""`inferway get` and `inferway describe`: resources and their status, from the running gateway's
admin API.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from inferway.cli.conditions import Document, summary, told

if TYPE_CHECKING:
    from rich.table import Table

ADMIN_URL = "http://127.0.0.1:9090"
AdminOption = Annotated[
    str, typer.Option(envvar="INFERWAY_ADMIN", help="Admin address of the running gateway.")
]
NamespaceOption = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Only this namespace.", show_default=False)
]
TIMEOUT_S = 10.0
TABLE_WIDTH_MAX = 10_000  # when nobody's screen limits it: one object, one line
# What `describe` tells in its own words, or not at all; the rest of a manifest is shown as it is.
NOT_CONTENT = frozenset({"apiVersion", "kind", "metadata", "status", "origin"})
WORDS = {"True": "Ready", "False": "NotReady", "Unknown": "Pending"}
STYLES = {"True": "green", "False": "red", "Unknown": "yellow"}


class Format(StrEnum):
    TABLE = "table"
    YAML = "yaml"
    JSON = "json"


def complete_kind(incomplete: str) -> list[str]:
    from inferway.resources.kinds import KINDS

    return [info.plural for info in KINDS if info.plural.startswith(incomplete.lower())]


def get(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="Kind, plural or short name; all kinds when left out.",
            autocompletion=complete_kind,
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="One object of that kind.", show_default=False)
    ] = None,
    output: Annotated[Format, typer.Option("-o", "--output", help="How to print.")] = Format.TABLE,
    namespace: NamespaceOption = None,
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Show resources with their status.

    Examples: inferway get · inferway get infpool chat -o yaml · inferway get httproutes -n
    genai-inference
    """
    from rich.console import Console

    items = fetch_resources(admin, kind, name, namespace)
    if name and not items:
        raise typer.Exit(not_found(kind, name))
    if output is not Format.TABLE:
        typer.echo(manifests(items, output, alone=name is not None), nl=False)
    elif not items:
        typer.echo("no resources found", err=True)
    else:
        on_screen = Console().is_terminal
        Console(width=None if on_screen else TABLE_WIDTH_MAX).print(table(items))


def describe(
    kind: Annotated[
        str,
        typer.Argument(
            help="Kind, plural or short name.", autocompletion=complete_kind, show_default=False
        ),
    ],
    name: Annotated[
        str | None, typer.Argument(help="One object; all of the kind when left out.")
    ] = None,
    namespace: NamespaceOption = None,
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Tell about resources in full: where they were read, every condition with its reason, live
    endpoints of pools.

    Example: inferway describe infpool chat
    """
    items = fetch_resources(admin, kind, name, namespace)
    if not items:
        raise typer.Exit(not_found(kind, name))
    shown = fetch(admin, "/admin/status", {}).get("pools", [])
    pools = {pool["name"]: pool for pool in shown}
    for number, item in enumerate(items):
        if number:
            typer.echo("---")
        typer.echo(description(item, pools), nl=False)


def fetch_resources(
    admin: str, kind: str | None, name: str | None, namespace: str | None
) -> list[Document]:
    wanted = {"kind": kind, "name": name, "namespace": namespace}
    query = {key: value for key, value in wanted.items() if value is not None}
    items = fetch(admin, "/admin/resources", query).get("items")
    if not isinstance(items, list):
        typer.echo(not_ours(admin), err=True)
        raise typer.Exit(1)
    return items


class AdminError(Exception):
    """There is no answer from the admin API. The text is for people."""


def fetch(admin: str, path: str, query: dict[str, str]) -> Document:
    """A JSON document of the admin API; a clear message and exit 1 when it cannot be had."""
    try:
        return fetched(admin, path, query)
    except AdminError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from error


def fetched(admin: str, path: str, query: dict[str, str]) -> Document:
    """A JSON document of the admin API. AdminError when it cannot be had."""
    import http.client
    import urllib.error
    import urllib.parse
    import urllib.request

    url = f"{admin.rstrip('/')}{path}?{urllib.parse.urlencode(query)}"
    if not url.startswith(("http://", "https://")):
        typer.echo(f"not an http address: {admin} (hint: http://127.0.0.1:9090)", err=True)
        raise typer.Exit(2)
    # A proxy of the environment is for the world outside, not for the gateway's own admin port.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=TIMEOUT_S) as reply:
            return document(reply.read(), admin)
    except urllib.error.HTTPError as error:
        text = document(error.read(), admin).get("error", str(error))
        raise AdminError(text) from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AdminError(
            f"no gateway answers at {admin}: {error}\n"
            "hint: start one with `inferway run`, or name it with --admin"
        ) from error


def document(data: bytes, admin: str) -> Document:
    """A JSON object. AdminError when it is none: somebody else listens there."""
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise AdminError(not_ours(admin))
    return found


def not_ours(admin: str) -> str:
    return f"what answers at {admin} is not inferway's admin API"


def not_found(kind: str | None, name: str | None) -> int:
    typer.echo(f"not found: {' '.join(part for part in (kind, name) if part)}", err=True)
    return 1


def manifests(items: list[Document], output: Format, *, alone: bool) -> str:
    """Manifests that `inferway run` takes again. `alone`: one object was asked for by name."""
    import yaml

    plain = [{key: value for key, value in item.items() if key != "origin"} for item in items]
    if output is Format.YAML:
        return yaml.safe_dump_all(plain, sort_keys=False)
    if alone and len(plain) == 1:
        return json.dumps(plain[0], indent=2) + "\n"
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": plain}, indent=2) + "\n"


def table(items: list[Document]) -> Table:
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("KIND", "NAMESPACE", "NAME", "STATE", "WHY", "FROM"):
        rows.add_column(title, overflow="fold")
    for item in items:
        state, why = summary(item["kind"], item.get("status", {}))
        meta = item["metadata"]
        rows.add_row(
            item["kind"],
            meta.get("namespace", ""),
            meta["name"],
            Text(WORDS[state], style=STYLES[state]),
            why,
            Text(item.get("origin", "")),  # a path may have brackets, which are no markup
        )
    return rows


def description(item: Document, pools: dict[str, Document]) -> str:
    import yaml

    meta = item["metadata"]
    name = "/".join(part for part in (meta.get("namespace"), meta["name"]) if part)
    lines = [f"{item['kind']} {name}", f"  from: {item.get('origin', 'unknown')}"]
    found = told(item.get("status", {}))
    lines.append("  conditions:" if found else "  conditions: none")
    for level, one in found:
        place = f" ({level})" if level else ""
        lines.append(f"    {one['type']}{place}: {one['status']}, {one['reason']}")
        if one.get("message"):
            lines.append(f"      {one['message']}")
        if one.get("lastTransitionTime"):
            lines.append(f"      since {one['lastTransitionTime']}")
    if item["kind"] == "InferencePool":
        lines += endpoint_lines(pools.get(name))
    content = {part: value for part, value in item.items() if part not in NOT_CONTENT}
    text = yaml.safe_dump(content, sort_keys=False)
    lines += [f"  {line}" for line in text.splitlines()]
    return "\n".join(lines) + "\n"


def endpoint_lines(pool: Document | None) -> list[str]:
    if pool is None:
        return ["  endpoints: unknown, the picker has not told yet"]
    endpoints = pool.get("endpoints", [])
    if not endpoints:
        return ["  endpoints: none"]
    lines = ["  endpoints:"]
    for one in endpoints:
        reachable = {None: "not tried", True: "reachable", False: "not reachable"}[one["reachable"]]
        if not one["ready"]:
            reachable += ", UNHEALTHY (gets no picks)"
        age = "never scraped" if one["age_s"] is None else f"scraped {one['age_s']:.1f} s ago"
        lines.append(f"    {one['address']}: {reachable}, {age}, {one['in_flight']} in flight")
        facts = {
            "waiting": one["waiting"],
            "running": one["running"],
            "kv cache": one["kv_usage_ratio"],
        }
        known = [f"{key} {value:g}" for key, value in facts.items() if value is not None]
        lines.append("      " + ", ".join([*known, f"{one['picks']} picks"]))
        if (speed := one.get("speed")) is not None:
            lines.append(
                f"      learnt: prefill {speed['prefill_tokens_per_s']:,.0f} tokens/s,"
                f" step {speed['step_s'] * 1e3:.1f} ms,"
                f" first token {speed['first_token_s'] * 1e3:.0f} ms + prefill"
            )
        if one["models"]:
            lines.append(f"      models: {', '.join(one['models'])}")
    return lines
