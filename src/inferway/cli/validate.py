"""`inferway validate`: what the gateway would say of these manifests, without starting anything."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inferway.cli.conditions import Told, told, words

if TYPE_CHECKING:
    from inferway.resources import ResourceKey, ResourceSet
    from inferway.resources.problems import Severity
    from inferway.routing.status import ObjectStatus


def validate(
    paths: Annotated[
        list[Path], typer.Argument(help="Files and directories of manifests.", show_default=False)
    ],
) -> None:
    """Check manifests and exit 1 when one has an error.

    Every problem is printed as file:line:column with the field and how to mend it; references
    between objects are checked too.

    Example: inferway validate ./manifests
    """
    from inferway.cli.rollout.check import rollout_problems
    from inferway.control.system_authorities import system_ca_file
    from inferway.picker.plugin_library import entry_point_names
    from inferway.picker.scheduling.registry import POLICIES
    from inferway.resources.problems import Severity
    from inferway.routing.certificate_dates import remarks
    from inferway.routing.settings import RoutingSettings
    from inferway.routing.translate import translate
    from inferway.sources.directory import load

    snapshot = load(paths)
    settings = RoutingSettings(
        policies=(*POLICIES, *entry_point_names()),
        plugin_files=True,
        system_ca_file=system_ca_file(),
    )
    translation = translate(snapshot.resources, settings=settings)
    problems = [*snapshot.problems, *rollout_problems(snapshot.resources)]
    lines = [(problem.severity, str(problem)) for problem in problems]
    for status in translation.statuses:
        for level, condition in troubles(status):
            severity = Severity.WARNING if condition["type"] == "Selected" else Severity.ERROR
            where = f" ({level})" if level else ""
            text = f"{where}: {words(condition)}: {condition['message']}"
            lines.append((severity, place_of(snapshot.resources, status.key, severity) + text))
    for warning in translation.warnings:
        severity = Severity.WARNING
        place = place_of(snapshot.resources, warning.key, severity) if warning.key else "warning"
        field = f": {warning.field}" if warning.field else ""
        lines.append((severity, f"{place}{field}: {warning.message}"))
    dates = remarks(translation.model.certificates.values(), datetime.now(UTC))
    lines += [(Severity.WARNING, f"warning: {remark}") for remark in dates.values()]
    lines.sort(key=lambda line: line[0] is not Severity.ERROR)
    for _severity, text in lines:
        typer.echo(text, err=True)
    errors = sum(severity is Severity.ERROR for severity, _text in lines)
    counts = f"{len(snapshot.resources)} objects, {errors} errors, {len(lines) - errors} warnings"
    typer.echo(counts, err=True)
    raise typer.Exit(1 if errors else 0)


def troubles(status: ObjectStatus) -> list[Told]:
    """What keeps the object from being served. `Programmed` only repeats it."""
    found = told(status.manifest())
    return [one for one in found if one.is_trouble and one.condition["type"] != "Programmed"]


def place_of(resources: ResourceSet, key: ResourceKey, severity: Severity) -> str:
    """Where an object was read, how bad it is, and its name. One that was made up has no place."""
    name = f"{key.kind} {f'{key.namespace}/' if key.namespace else ''}{key.name}"
    entry = resources.entries.get(key)
    return f"{entry.origin}: {severity.value}: {name}" if entry else f"{severity.value}: {name}"
