"""`inferway rollout pause|resume|promote|abort`: each is one edit of the Rollout's spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from inferway.cli.get import ADMIN_URL, AdminOption
from inferway.cli.rollout.manifests import (
    ManifestsOption,
    NamespaceOption,
    fail,
    find_manifests,
)

if TYPE_CHECKING:
    from pathlib import Path

    from inferway.resources.document import Json

RolloutArgument = Annotated[str, typer.Argument(metavar="NAME", help="Of the Rollout.")]


def pause(
    name: RolloutArgument,
    manifests: ManifestsOption = None,
    namespace: NamespaceOption = "default",
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Keep the weights as they are.

    Example: inferway rollout pause llm-new
    """
    _edit(name, namespace, manifests, admin, {"paused": True})


def resume(
    name: RolloutArgument,
    manifests: ManifestsOption = None,
    namespace: NamespaceOption = "default",
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Go on, from the weights as they are now.

    Example: inferway rollout resume llm-new
    """
    _edit(name, namespace, manifests, admin, {"paused": False})


def promote(
    name: RolloutArgument,
    manifests: ManifestsOption = None,
    namespace: NamespaceOption = "default",
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Send everything to the new version now, whatever the gates say.

    Example: inferway rollout promote llm-new
    """
    _edit(name, namespace, manifests, admin, {"paused": False, "action": "Promote"})


def abort(
    name: RolloutArgument,
    manifests: ManifestsOption = None,
    namespace: NamespaceOption = "default",
    admin: AdminOption = ADMIN_URL,
) -> None:
    """Roll back: send everything to the old version now, also after the end.

    Example: inferway rollout abort llm-new
    """
    _edit(name, namespace, manifests, admin, {"action": "Rollback"})


def _edit(
    name: str, namespace: str, manifests: list[Path] | None, admin: str, spec: dict[str, Json]
) -> None:
    """Sets these fields of the spec."""
    from inferway.resources.edits import Put
    from inferway.resources.text_edit import ObjectName

    written = find_manifests(manifests, admin)
    own = ObjectName("Rollout", namespace, name)
    if own not in written.files:
        fail(f"not found: {own}")
    written.edit(own, [Put(("spec", field), value) for field, value in spec.items()])
    typer.echo(f"rollout {namespace}/{name} is changed: {written.files[own]}", err=True)
