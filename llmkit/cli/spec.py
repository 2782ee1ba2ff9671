"""`llmkit spec`: whether a spec is right, what it says in full, and how two of them differ. Imports nothing heavy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from llmkit.cli.output import Json, Set, person, print_json, result, show_rows, written
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.core.document import Node
    from llmkit.core.problems import Place

app = typer.Typer(no_args_is_help=True, help="Check a spec, show it in full, compare two, complete it in an editor, start one.")

SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help="A spec file, or recipe:NAME for one that ships.")]


@app.command("check")
def check_specs(
    specs: Annotated[list[str], typer.Argument(metavar="SPEC...", help="Spec files, or recipe:NAME.")],
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Say everything that is wrong with a spec: file, line, column, address, and what to do; exit code 2 where anything is.

    Example: llmkit spec check spec.yaml --set model.block.norm=layernorm
    """
    from llmkit.core.problems import SpecError
    from llmkit.runtime import load_spec

    problems = []
    for spec in specs:
        try:
            load_spec(spec, overrides or ())
        except SpecError as error:
            problems += error.problems
    if as_json:
        print_json({"specs": specs, "problems": [problem.row() for problem in problems]})
        if problems:
            raise typer.Exit(2)
    elif problems:
        raise SpecError(problems)
    else:
        result.print(f"no problems in {', '.join(specs)}", markup=False, soft_wrap=True)


@app.command("show")
def show_spec(
    spec: SpecArgument,
    why: Annotated[bool, typer.Option("--why", help="Which layer set each value: a file and line, an override, or a default.")] = False,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Print the filled spec: every layer merged, every default written, and what is derived from them.

    Example: llmkit spec show recipe:gpt2-small --why
    """
    from llmkit.core.filled import filled, to_yaml
    from llmkit.runtime import load_located

    loaded = load_located(spec, overrides or ())
    document = filled(loaded.spec)
    explained = reasons(document, loaded.document) if why else []
    if as_json and why:
        print_json({"spec": document, "why": [reason.row() for reason in explained]})
    elif why:
        show_rows(("address", "value", "set by"), [(one.address, written(one.value), one.layer) for one in explained])
    elif as_json:
        print_json(document)
    else:
        result.print(to_yaml(document), markup=False, soft_wrap=True, end="")


@app.command("diff")
def diff_specs(
    left: Annotated[str, typer.Argument(metavar="LEFT", help="A spec file, or recipe:NAME.")],
    right: Annotated[str, typer.Argument(metavar="RIGHT", help="A spec file, or recipe:NAME.")],
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Print what differs between two filled specs, by address. `--set` applies to both.

    Example: llmkit spec diff recipe:gpt2-small recipe:llama3.2-1b
    """
    from llmkit.core.filled import differences
    from llmkit.runtime import load_spec

    found = differences(load_spec(left, overrides or ()), load_spec(right, overrides or ()))
    if as_json:
        print_json({"differences": [{"address": address, "values": [one, other]} for address, one, other in found]})
        return
    if not found:
        person.print("the two specs are the same")
    show_rows(("address", left, right), [(address, written(one), written(other)) for address, one, other in found])


@app.command("schema")
def write_schema(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it there instead of to stdout.")] = None,
    as_json: Json = False,
) -> None:
    """JSON Schema of a spec for the components that are installed: an editor completes and underlines with it.

    Example: llmkit spec schema --out llmkit.schema.json
    """
    from llmkit.core.schema import spec_schema
    from llmkit.runtime import catalog

    schema = spec_schema(catalog())
    if out is None:
        print_json(schema)
        return
    write_text(out, json.dumps(schema, indent=2) + "\n", "w")
    if as_json:
        print_json({"file": str(out)})
    else:
        result.print(f"wrote {out}; begin a spec with `# yaml-language-server: $schema={out}`", markup=False, soft_wrap=True)


@app.command("init")
def write_recipe(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="A recipe that ships.")] = "tiny",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where; NAME.yaml here unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Write a recipe here, to be changed. Nothing is ever overwritten.

    Example: llmkit spec init gpt2-small --out spec.yaml
    """
    from llmkit.core.compose import recipe_text
    from llmkit.runtime import RECIPES

    recipe = name.removeprefix("recipe:")
    text = recipe_text(recipe, RECIPES)
    place = out or Path(f"{Path(recipe).name}.yaml")
    write_text(place, text, "x")
    if as_json:
        print_json({"file": str(place), "recipe": recipe})
    else:
        result.print(f"wrote {place}; next: llmkit spec check {place}, then llmkit train {place}", markup=False, soft_wrap=True)


def write_text(place: Path, text: str, mode: Literal["w", "x"]) -> None:
    """Write a file; with mode `x`, only where there is none."""
    try:
        with place.open(mode, encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{str(place)!r} is there already and is left as it is; name another file with --out") from None
    except OSError as error:
        raise UserError(f"cannot write {str(place)!r} ({(error.strerror or str(error)).lower()}); name another file with --out") from None


class Reason(NamedTuple):
    """A value of a filled spec and what set it: the place where it was written, or `default`, or `derived`."""

    address: str
    value: Any
    layer: str
    place: Place | None

    def row(self) -> dict[str, Any]:
        """As `spec show --why --json` prints it; `layer` is the file, the override, or as above."""
        place = self.place
        where: dict[str, Any] = {"layer": self.layer, "line": None, "column": None}
        if place is not None:
            where = {"layer": place.file, "line": place.line, "column": place.column}
        return {"address": self.address, "value": self.value, **where}


def reasons(document: dict[str, Any], source: Node) -> list[Reason]:
    """What set each value of a filled spec."""
    from llmkit.core.document import located
    from llmkit.core.problems import Place

    filled = {key: value for key, value in document.items() if key != "derived"}
    found = []
    for address, node in located(filled, Place("")).leaves():
        place = source.written_at(address)
        found.append(Reason(address, node.plain(), "default" if place is None else str(place), place))
    return found + [Reason(address, value, "derived", None) for address, value in document["derived"].items()]
