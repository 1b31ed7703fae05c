"""Where the objects that a command is about are written.

They are looked up in `--manifests`, or else the running gateway is asked, which may have been
started in another directory on this machine. Everything here ends the command with a message when
it cannot be done.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from inferway.cli.get import fetch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from inferway.resources.document import Json
    from inferway.resources.edits import Edit
    from inferway.resources.text_edit import ObjectName

ManifestsOption = Annotated[
    list[Path] | None,
    typer.Option(
        "-f",
        "--manifests",
        envvar="INFERWAY_MANIFESTS",
        help="Files and directories of manifests; the running gateway is asked when left out.",
        show_default=False,
    ),
]
NamespaceOption = Annotated[str, typer.Option("-n", "--namespace", help="Of the Rollout.")]


@dataclass(frozen=True, slots=True)
class Written:
    """Objects and the files that hold them."""

    files: dict[ObjectName, str]

    def file_of(self, name: ObjectName) -> str | None:
        return self.files.get(name)

    def read(self, name: ObjectName) -> Json:
        """The manifest as it is written; None when there is none."""
        from inferway.resources.edits import EditError
        from inferway.sources.object_files import ObjectFiles

        try:
            return ObjectFiles(self.file_of).read(name)
        except EditError as error:
            fail(str(error))

    def edit(self, name: ObjectName, edits: Sequence[Edit]) -> None:
        """Makes the edits, again when somebody else was faster."""
        from inferway.resources.edits import ChangedMeanwhileError, EditError
        from inferway.sources.object_files import ObjectFiles

        files = ObjectFiles(self.file_of)
        for _ in range(ATTEMPTS_MAX):
            try:
                files.write(name, edits, expected=files.read(name))
            except ChangedMeanwhileError:
                continue
            except EditError as error:
                fail(str(error))
            return
        fail(f"{name} changes all the time; try again")


ATTEMPTS_MAX = 10


def find_manifests(paths: list[Path] | None, admin: str) -> Written:
    """Every object with its file."""
    from inferway.resources.text_edit import ObjectName

    if paths:
        from inferway.sources.directory import load

        entries = load(paths).resources.entries
        return Written(
            {
                ObjectName(key.kind, key.namespace, key.name): entry.origin.file
                for key, entry in entries.items()
            }
        )
    directory = Path(fetch(admin, "/admin/status", {}).get("directory", ""))
    items = fetch(admin, "/admin/resources", {}).get("items", [])
    files = {}
    for item in items:
        meta = item["metadata"]
        name = ObjectName(item["kind"], meta.get("namespace", ""), meta["name"])
        files[name] = str(directory / item["origin"].rpartition(":")[0])
    return Written(files)


def fail(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
