"""`inferway validate`: what the gateway would say of these manifests, without starting anything."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


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
    from inferway.picker.scheduling.registry import POLICIES
    from inferway.resources.conditions import ConditionStatus
    from inferway.routing.settings import RoutingSettings
    from inferway.routing.translate import translate
    from inferway.sources.directory import load

    snapshot = load(paths)
    for problem in snapshot.problems:
        typer.echo(str(problem), err=problem.is_error)
    translation = translate(snapshot.resources, settings=RoutingSettings(policies=tuple(POLICIES)))
    unmet = 0
    for status in translation.statuses:
        for condition in status.conditions:
            if condition.status is ConditionStatus.FALSE:
                unmet += 1
                typer.echo(
                    f"{status.key.kind} {status.key.name}: {condition.reason}: {condition.message}"
                )
    errors = sum(problem.is_error for problem in snapshot.problems) + unmet
    typer.echo(f"{len(snapshot.resources)} objects, {errors} errors", err=True)
    raise typer.Exit(1 if errors else 0)
