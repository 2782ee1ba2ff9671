"""`llmkit plugins check`: every law on a plugin's components, and what breaks one in a sentence."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from llmkit.cli.output import Json, person, print_json, result, show_rows
from llmkit.cli.plugins_show import found, ordered
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind

if TYPE_CHECKING:
    from llmkit.core.catalog import Catalog
    from llmkit.core.component import Component
    from llmkit.testing.prove import Proof

What = Annotated[
    str | None,
    typer.Argument(metavar="[WHAT]", help="KIND:NAME, a distribution, or the directory of a package, installed or not."),
]
All = Annotated[bool, typer.Option("--all", help="Every component of the catalog.")]
Params = Annotated[
    str | None, typer.Option("--params", metavar="YAML", help="Of one component: parameters to try instead of its examples.")
]
Only = Annotated[list[str] | None, typer.Option("--law", metavar="LAW", help="Only this law. Repeatable.")]


class Checked(NamedTuple):
    """What is under law, and the catalog with it in it."""

    components: Sequence[Component]
    catalog: Catalog


def check_plugin(what: What = None, everything: All = False, params: Params = None, only: Only = None, as_json: Json = False) -> None:
    """Run llmkit's laws on a plugin's components: on every example of their parameters, beside every partner that their traits allow.

    Exit code 2 where a law is broken: what is wrong lies in the plugin, and is told with the smallest input that shows it. So it is
    where a component that is named has no parameters to try.

    Example: llmkit plugins check ./my-idea
    Example: llmkit plugins check ./my-idea --law causal
    Example: llmkit plugins check attention:gqa --params '{n_heads: 4, n_kv_heads: 2, window: 3}'
    Example: llmkit plugins check --all
    """
    from llmkit.runtime import catalog

    if everything == (what is not None):
        raise UserError("give what is to be checked: KIND:NAME, a distribution, the directory of a package, or --all")
    installed = catalog()
    checked = Checked([entry.component for entry in ordered(installed)], installed) if what is None else chosen(what, installed)
    started = time.perf_counter()
    proofs = list(told(checked, params, _known(only, checked)))
    seconds = time.perf_counter() - started
    if as_json:
        print_json({"laws": [proof._asdict() for proof in proofs], "broken": len(_broken(proofs)), "seconds": seconds})
    else:
        show(proofs, seconds)
    untried = any(proof.passed is None for proof in proofs)
    if _broken(proofs) or (untried and not everything):
        raise typer.Exit(2)


def chosen(what: str, installed: Catalog) -> Checked:
    """The components that an argument means."""
    from llmkit.testing.unpacked import unpacked

    directory = Path(what)
    if directory.is_dir() or os.sep in what:
        return Checked(*unpacked(directory, installed))
    own = [entry.component for entry in ordered(installed) if entry.origin.distribution == what]
    if own:
        return Checked(own, installed)
    failed = [failure for failure in installed.failures if failure.plugin.partition(":")[0] == what]
    if failed:
        raise UserError("\n".join(f"plugin {failure.plugin} has failed: {failure.reason}" for failure in failed))
    return Checked([found(what, installed).component], installed)


def told(checked: Checked, params: str | None, only: Sequence[str] | None) -> Iterator[Proof]:
    """Every law, one after the other; on a terminal with what is being proved now."""
    from llmkit.testing.example_files import example_files
    from llmkit.testing.prove import prove

    with tempfile.TemporaryDirectory(prefix="llmkit-laws-") as directory, person.status("") as status:
        given = example_files(Path(directory), checked.catalog) if params is None else _given(checked, params)
        for component in checked.components:
            status.update(f"{component.kind}:{component.name}")
            yield from prove([component], checked.catalog, given, only)


def show(proofs: Sequence[Proof], seconds: float) -> None:
    """A table of laws and components for each kind, then a sentence for every law that is broken, then the sum."""
    for kind in Kind:
        _show_kind([proof for proof in proofs if proof.kind == kind])
    for proof in _broken(proofs):
        person.print(f"broken: {proof.kind}:{proof.name}: {proof.law}: {proof.detail}", style="red", markup=False, soft_wrap=True)
    for proof in proofs:
        if proof.passed is None:
            person.print(f"not tried: {proof.kind}:{proof.name}: {proof.detail}", style="yellow", markup=False, soft_wrap=True)
    components = {(proof.kind, proof.name) for proof in proofs}
    beside = sum(proof.partners for proof in proofs)
    counts = f"components: {len(components)}; laws on their examples: {len(proofs)}; with every partner: {beside}"
    result.print(f"{counts}; broken: {len(_broken(proofs))}; seconds: {seconds:.1f}", markup=False, soft_wrap=True)


def _show_kind(proofs: Sequence[Proof]) -> None:
    laws = list(dict.fromkeys(proof.law for proof in proofs if proof.law))
    names = list(dict.fromkeys(proof.name for proof in proofs if proof.law))
    if not laws:
        return
    rows = [(law, *(_mark([proof for proof in proofs if (proof.law, proof.name) == (law, name)]) for name in names)) for law in laws]
    took = [f"{sum(proof.seconds for proof in proofs if proof.name == name):.1f} s" for name in names]
    heads = (proofs[0].kind, *names)
    show_rows(heads, [*([] if result.is_terminal else [heads]), *rows, ("seconds", *took)])


def _mark(proofs: Sequence[Proof]) -> str:
    """How many examples keep the law: `3 ok`, or `1 of 3 broken`."""
    broken = len(_broken(proofs))
    if broken:
        return f"{broken} of {len(proofs)} broken"
    return f"{len(proofs)} ok" if proofs else ""


def _broken(proofs: Sequence[Proof]) -> list[Proof]:
    return [proof for proof in proofs if proof.passed is False]


def _known(only: Sequence[str] | None, checked: Checked) -> Sequence[str] | None:
    """The laws that are asked for, each of which some component has."""
    from llmkit.core.problems import suggestion
    from llmkit.testing.law import laws

    names = {law.name for kind in {component.kind for component in checked.components} for law in laws(kind)} if only else set()
    for name in only or ():
        if name not in names:
            raise UserError(f"--law {name!r} is no law of these components; {suggestion(name, sorted(names))}")
    return only or None


def _given(checked: Checked, params: str) -> dict[str, Any]:
    from llmkit.core.document import read_value

    if len(checked.components) != 1:
        raise UserError(f"--params are those of one component, and there are {len(checked.components)}; name one as KIND:NAME")
    value = read_value(params, "--params").plain()
    if not isinstance(value, dict):
        raise UserError(f"--params {params!r} is no mapping; write '{{name: value}}'")
    return {checked.components[0].name: [value]}
