"""The command line. Each command is a door: parse, call one function, print. A file a command."""

from __future__ import annotations

import typer

from llmkit.cli.evaluate import evaluate_run
from llmkit.cli.output import run_app

app = typer.Typer(name="llmkit", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command("eval")(evaluate_run)


def main() -> None:
    """The program `llmkit`, and `python -m llmkit`."""
    run_app(app)
