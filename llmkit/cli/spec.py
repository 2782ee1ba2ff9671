"""`llmkit spec`: validate a spec, see it whole, compare two, and write one to begin with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.syntax import Syntax

from llmkit.cli.output import Json, Set, person, print_json, result
from llmkit.core.errors import UserError

app = typer.Typer(no_args_is_help=True, help="Validate a spec, see it whole, compare two, and write one to begin with.")

SpecArgument = Annotated[str, typer.Argument(metavar="SPEC", help="A spec file, or recipe:NAME for one that ships.")]


@app.command("check")
def check_spec(spec: SpecArgument, overrides: Set = None, as_json: Json = False) -> None:
    """Validate a spec without building anything: every problem at once, each with its place and a remedy.

    Example: llmkit spec check spec.yaml
    """
    from llmkit.core.problems import SpecError
    from llmkit.runtime import load_spec

    try:
        load_spec(spec, overrides or ())
    except SpecError as error:
        if not as_json:
            raise
        print_json({"problems": [problem.row() for problem in error.problems]})
        raise typer.Exit(2) from None
    if as_json:
        print_json({"problems": []})
    else:
        result.print(f"{spec}: no problems", markup=False)


@app.command("show")
def show_spec(
    spec: SpecArgument,
    why: Annotated[bool, typer.Option("--why", help="Which layer set each value.")] = False,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Print the filled spec: every default written.

    Example: llmkit spec show recipe:tiny --why
    """
    from llmkit.core.filled import filled, to_yaml
    from llmkit.runtime import load_located

    loaded = load_located(spec, overrides or ())
    document = filled(loaded.spec)
    if why:
        rows = [{"address": address, "value": node.plain(), "place": str(node.place)} for address, node in loaded.document.leaves()]
        if as_json:
            print_json({"spec": document, "why": rows})
            return
        for row in rows:
            result.print(f"{row['address']}: {json.dumps(row['value'])}    {row['place']}", markup=False, soft_wrap=True)
        return
    if as_json:
        print_json(document)
        return
    text = to_yaml(document)
    result.print(Syntax(text, "yaml", background_color="default") if result.is_terminal else text, markup=False, soft_wrap=True, end="")


@app.command("diff")
def diff_specs(left: SpecArgument, right: SpecArgument, as_json: Json = False) -> None:
    """What differs between two filled specs, by address.

    Example: llmkit spec diff recipe:tiny spec.yaml
    """
    from llmkit.core.filled import differences
    from llmkit.runtime import load_spec

    found = differences(load_spec(left), load_spec(right))
    if as_json:
        print_json({"differences": [{"address": address, "values": [ours, theirs]} for address, ours, theirs in found]})
        return
    for address, ours, theirs in found:
        result.print(f"{address}: {json.dumps(ours)} -> {json.dumps(theirs)}", markup=False, soft_wrap=True)
    if not found:
        result.print("no differences")


@app.command("schema")
def schema(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it there instead of to stdout.")] = None,
    as_json: Json = False,
) -> None:
    """JSON Schema of a spec for what is installed: an editor completes and underlines with it.

    Example: llmkit spec schema --out llmkit.schema.json
    """
    from llmkit.core.schema import spec_schema
    from llmkit.runtime import catalog

    found: dict[str, Any] = spec_schema(catalog())
    if out is None:
        print_json(found)
        return
    _write_new(out, json.dumps(found, indent=2) + "\n", replace=True)
    if as_json:
        print_json({"file": str(out)})
    else:
        person.print(f"wrote {out}; begin a spec with `# yaml-language-server: $schema={out}`", markup=False, soft_wrap=True)


@app.command("init")
def init_spec(
    name: Annotated[str, typer.Argument(metavar="[RECIPE]", help="A recipe that ships.")] = "tiny",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Where; NAME.yaml here unless given.")] = None,
    as_json: Json = False,
) -> None:
    """Write a recipe here, to be changed. Nothing is ever overwritten.

    Example: llmkit spec init tiny
    """
    from llmkit.core.compose import recipe_names
    from llmkit.core.problems import suggestion
    from llmkit.runtime import RECIPES

    wanted = name.removeprefix("recipe:")
    source = RECIPES / f"{wanted}.yaml"
    names = recipe_names(RECIPES)
    if wanted not in names:
        raise UserError(f"no recipe is called {wanted!r}; {suggestion(wanted, names)}")
    place = out or Path(f"{Path(wanted).name}.yaml")
    _write_new(place, source.read_text(encoding="utf-8"), replace=False)
    if as_json:
        print_json({"file": str(place), "recipe": wanted})
    else:
        result.print(f"wrote {place}; next: llmkit spec check {place}    llmkit train {place}", markup=False, soft_wrap=True)


def _write_new(place: Path, text: str, *, replace: bool) -> None:
    try:
        with place.open("w" if replace else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UserError(f"{str(place)!r} exists and is left as it is; name another file with --out") from None
    except OSError as error:
        raise UserError(f"cannot write {str(place)!r}: {error.strerror}") from error
