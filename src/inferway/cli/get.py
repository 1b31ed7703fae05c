"""`inferway get` and `inferway describe`: resources and their status, from the running gateway's
admin API.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any

import typer

ADMIN_URL = "http://127.0.0.1:9090"
AdminOption = Annotated[
    str, typer.Option(envvar="INFERWAY_ADMIN", help="Admin address of the running gateway.")
]
NamespaceOption = Annotated[
    str | None, typer.Option("-n", "--namespace", help="Only this namespace.", show_default=False)
]
Document = dict[str, Any]
WORDS = {"True": "Ready", "False": "NotReady", "Unknown": "Pending"}


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

    Examples: inferway get · inferway get infpool chat -o yaml · inferway get routes -n
    genai-inference
    """
    import yaml
    from rich.console import Console

    items = fetch_resources(admin, kind, name, namespace)
    if name and not items:
        raise typer.Exit(not_found(kind, name))
    if output is Format.JSON:
        typer.echo(json.dumps(items[0] if name else {"kind": "List", "items": items}, indent=2))
    elif output is Format.YAML:
        typer.echo(yaml.safe_dump_all(items, sort_keys=False), nl=False)
    elif not items:
        typer.echo("no resources found", err=True)
    else:
        Console().print(table(items))


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
        raise typer.Exit(not_found(kind, name or ""))
    pools = {pool["name"]: pool for pool in fetch(admin, "/admin/status", {})["pools"]}
    for number, item in enumerate(items):
        if number:
            typer.echo("---")
        typer.echo(description(item, pools), nl=False)


def fetch_resources(
    admin: str, kind: str | None, name: str | None, namespace: str | None
) -> list[Document]:
    wanted = {"kind": kind, "name": name, "namespace": namespace}
    query = {key: value for key, value in wanted.items() if value is not None}
    items: list[Document] = fetch(admin, "/admin/resources", query)["items"]
    return items


def fetch(admin: str, path: str, query: dict[str, str]) -> Document:
    """A JSON document of the admin API; a clear message and exit 1 when it cannot be had."""
    import urllib.error
    import urllib.parse
    import urllib.request

    url = f"{admin.rstrip('/')}{path}?{urllib.parse.urlencode(query)}"
    if not url.startswith(("http://", "https://")):
        typer.echo(f"not an http address: {admin}", err=True)
        raise typer.Exit(2)
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:  # noqa: S310 - checked above
            document: Document = json.load(reply)
            return document
    except urllib.error.HTTPError as error:
        typer.echo(json.load(error).get("error", str(error)), err=True)
    except (OSError, ValueError) as error:
        typer.echo(
            f"no gateway answers at {admin}: {error}\n"
            "hint: start one with `inferway run`, or name it with --admin",
            err=True,
        )
    raise typer.Exit(1)


def not_found(kind: str | None, name: str) -> int:
    typer.echo(f"not found: {kind} {name}", err=True)
    return 1


def table(items: list[Document]) -> Any:
    from rich.table import Table

    rows = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("KIND", "NAMESPACE", "NAME", "STATE", "WHY", "FROM"):
        rows.add_column(title, overflow="fold")
    for item in items:
        state, why = summary(item)
        style = {"True": "green", "False": "red"}.get(state, "yellow")
        meta = item["metadata"]
        rows.add_row(
            item["kind"],
            meta.get("namespace", ""),
            meta["name"],
            f"[{style}]{WORDS[state]}[/]",
            why,
            item.get("origin", ""),
        )
    return rows


def conditions(item: Document) -> list[tuple[str, Document]]:
    """Every condition of every level, with the level's name."""
    status = item.get("status", {})
    found = [("", one) for one in status.get("conditions", [])]
    for listener in status.get("listeners", []):
        found += [(f"listener {listener['name']}", one) for one in listener["conditions"]]
    for parent in status.get("parents", []):
        place = f"parent {parent['parentRef']['name']}"
        found += [(place, one) for one in parent["conditions"]]
    return found


# These describe trouble when they are True; all others when they are False.
TROUBLE_WHEN_TRUE = {"Conflicted", "OverlappingTLSConfig", "PartiallyInvalid"}


def summary(item: Document) -> tuple[str, str]:
    """Worst state of an object ("True", "False", "Unknown") and the condition that says so."""
    found = [one for _level, one in conditions(item)]
    if not found:
        return "Unknown", "nothing refers to it" if item["kind"] != "HTTPRoute" else "no Gateway"
    for one in found:
        trouble = "True" if one["type"] in TROUBLE_WHEN_TRUE else "False"
        if one["status"] == trouble:
            return "False", f"{one['type']}: {one['reason']}"
    for one in found:
        if one["status"] == "Unknown":
            return "Unknown", f"{one['type']}: {one['reason']}"
    return "True", ""


def description(item: Document, pools: dict[str, Document]) -> str:
    import yaml

    meta = item["metadata"]
    name = "/".join(part for part in (meta.get("namespace"), meta["name"]) if part)
    lines = [f"{item['kind']} {name}", f"  from: {item.get('origin', '')}", "  conditions:"]
    for level, one in conditions(item):
        place = f" ({level})" if level else ""
        lines.append(f"    {one['type']}{place}: {one['status']}, {one['reason']}")
        if one.get("message"):
            lines.append(f"      {one['message']}")
        lines.append(f"      since {one['lastTransitionTime']}")
    if item["kind"] == "InferencePool":
        lines += endpoint_lines(pools.get(name, {}))
    lines.append("  spec:")
    spec = yaml.safe_dump(item.get("spec", {}), sort_keys=False)
    lines += [f"    {line}" for line in spec.splitlines()]
    return "\n".join(lines) + "\n"


def endpoint_lines(pool: Document) -> list[str]:
    lines = ["  endpoints:"]
    for one in pool.get("endpoints", []):
        reachable = {None: "not tried", True: "reachable", False: "not reachable"}[one["reachable"]]
        age = "never scraped" if one["age_s"] is None else f"scraped {one['age_s']:.1f} s ago"
        lines.append(f"    {one['address']}: {reachable}, {age}, {one['in_flight']} in flight")
        facts = {
            "waiting": one["waiting"],
            "running": one["running"],
            "kv cache": one["kv_usage_ratio"],
        }
        known = [f"{key} {value:g}" for key, value in facts.items() if value is not None]
        lines.append("      " + ", ".join([*known, f"{one['picks']} picks"]))
        if one["models"]:
            lines.append(f"      models: {', '.join(one['models'])}")
    return lines if len(lines) > 1 else ["  endpoints: none"]
