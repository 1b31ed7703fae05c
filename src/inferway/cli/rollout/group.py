"""The command group: `inferway rollout VERB`; a start also says what is rolled out."""

from __future__ import annotations

import typer

from inferway.cli.rollout import show, start, verbs

app = typer.Typer(
    help="Move traffic to a new version step by step, watched by gates.", no_args_is_help=True
)
for name, command, what in (
    ("node", start.node, "New nodes: from a pool to one on other hardware."),
    ("model", start.model, "A new base model: from a pool to one that serves it."),
    ("lora", start.lora, "A new adapter: from one served model to another in the same pool."),
):
    group = typer.Typer(help=what, no_args_is_help=True)
    group.command("start")(command)
    group.callback()(lambda: None)  # so that a single command keeps its name
    app.add_typer(group, name=name)
app.command()(show.status)
app.command()(show.history)
app.command()(verbs.pause)
app.command()(verbs.resume)
app.command()(verbs.promote)
app.command()(verbs.abort)
