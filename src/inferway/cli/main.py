"""The `inferway` command. Each subcommand lives in a module of its own and imports what it needs
when it runs, so that `--help` and completion answer at once.
"""

from __future__ import annotations

from typing import Annotated

import typer

from inferway import __version__
from inferway.cli import demo_command, explain, get, lora_sync, picker, run, sim, top, validate
from inferway.cli.rollout.group import app as rollout_app

app = typer.Typer(
    name="inferway",
    help="An open inference gateway for self-hosted LLM servers: Envoy carries the bytes, "
    "Python decides where each request is served best.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"inferway {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Options that hold for every command."""


app.command(rich_help_panel="Gateway")(run.run)
app.command(rich_help_panel="Gateway")(demo_command.demo)
app.command(rich_help_panel="Gateway")(sim.sim)
app.command(rich_help_panel="Resources")(validate.validate)
app.command(rich_help_panel="Resources")(get.get)
app.command(rich_help_panel="Resources")(get.describe)
app.command(rich_help_panel="Traffic")(top.top)
app.command(rich_help_panel="Traffic")(explain.explain)
app.add_typer(rollout_app, name="rollout", rich_help_panel="Resources")
app.command(rich_help_panel="Parts")(picker.picker)
app.command("lora-sync", rich_help_panel="Parts")(lora_sync.lora_sync)


def main() -> None:
    """Entry point."""
    app()
