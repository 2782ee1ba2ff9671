"""What every command shares: one JSON document on stdout, words for a person on stderr, and the exit codes.

0 done; 2 the user's mistake, told without a traceback; 1 ours or the world's, traceback only with `--debug`; 130 Ctrl-C; 143 SIGTERM.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from llmkit.core.errors import UserError
from llmkit.core.finite import finite

Json = Annotated[bool, typer.Option("--json", help="Print exactly one JSON document on stdout.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="ADDRESS=VALUE", help="Override by address; the value is YAML. Repeatable.")
]

person = Console(stderr=True, highlight=False)
"""Words for a person, on stderr."""

result = Console(highlight=False)
"""A command's result for a person, on stdout: tables on a terminal, plain lines elsewhere."""


def print_json(document: Any) -> None:
    """The one JSON document. JSON has no NaN and no infinity: what has no value is null."""
    sys.stdout.write(json.dumps(finite(document), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def show_rows(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on a terminal; elsewhere a line each, with tabs between, for `cut` and `awk`."""
    if not result.is_terminal:
        sys.stdout.writelines("\t".join(row) + "\n" for row in rows)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(*heads)
    for row in rows:
        table.add_row(*map(Text, row))
    if rows:
        result.print(table)


def written(value: Any) -> str:
    """A value of a spec in one line: text as it is, everything else as JSON."""
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def quantity(number: float) -> str:
    """Three digits and a decimal prefix: 124439808 is `124 M`."""
    prefixes = ["", "k", "M", "G", "T", "P", "E"]
    while number >= 999.5 and len(prefixes) > 1:
        number, prefixes = number / 1000, prefixes[1:]
    return f"{number:.3g} {prefixes[0]}"


def run_app(app: typer.Typer) -> None:
    """Run the program and end the process with the right code."""
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app()
    except UserError as error:
        person.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except Exception as error:
        if debug:
            raise
        person.print(f"failed: {type(error).__name__}: {error}", style="red", markup=False, soft_wrap=True)
        person.print("run it again with --debug for the traceback", style="dim")
        sys.exit(1)
