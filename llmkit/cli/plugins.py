"""`llmkit plugins`: what is installed, where it came from, and what has failed; and a day in the life of who writes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.output import Json, person, print_json, show_rows
from llmkit.cli.plugins_check import check_plugin
from llmkit.cli.plugins_new import new_plugin
from llmkit.cli.plugins_show import ordered, row, show_plugin
from llmkit.core.kinds import Kind

if TYPE_CHECKING:
    from llmkit.core.catalog import Entry

app = typer.Typer(no_args_is_help=True, help="What components are installed, and from where; begin one of your own, and prove it.")


@app.command("list")
def list_plugins(
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only components of this kind.")] = None,
    as_json: Json = False,
) -> None:
    """Print every component that a spec can name, and every plugin that has failed, with its reason.

    Example: llmkit plugins list --kind attention
    """
    from llmkit.runtime import catalog

    installed = catalog()
    entries = [entry for entry in ordered(installed) if kind in (None, entry.component.kind)]
    if as_json:
        failures = [{"plugin": failure.plugin, "reason": failure.reason} for failure in installed.failures]
        print_json({"components": [row(entry) for entry in entries], "failures": failures})
        return
    show_rows(("kind", "name", "from", "what it is"), [_line(entry) for entry in entries])
    for failure in installed.failures:
        person.print(f"failed: {failure.plugin}: {failure.reason}", style="red", markup=False, soft_wrap=True)


def _line(entry: Entry) -> tuple[str, ...]:
    component, origin = entry.component, entry.origin
    return str(component.kind), component.name, f"{origin.distribution} {origin.version}", component.summary


app.command("show")(show_plugin)
app.command("new")(new_plugin)
app.command("check")(check_plugin)
