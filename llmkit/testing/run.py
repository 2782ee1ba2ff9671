"""Running laws: a component, its examples, its partners."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmkit import runtime
from llmkit.core.catalog import Catalog
from llmkit.core.component import Component, Params
from llmkit.testing.example_parameters import examples, validated
from llmkit.testing.law import Law, LawBroken, laws
from llmkit.testing.subject import Subject, including, subjects


class Result(NamedTuple):
    """law: its name; passed; detail: the law's statement where it holds, else what breaks it."""

    law: str
    passed: bool
    detail: str


@dataclass(frozen=True)
class Case:
    """One law on one component with one set of parameters, beside all the partners that the law is about. Call it to prove it.

    example  the number of the set of parameters, 0 for the first
    """

    law: Law
    beside: tuple[Subject, ...]
    example: int = 0

    def __call__(self) -> None:
        """`LawBroken` naming the parameters and the partners; whatever the component itself raises is a broken law as well."""
        for subject in self.beside:
            try:
                self.law.prove(subject)
            except LawBroken as broken:
                raise LawBroken(f"{self.law.statement} Broken by {subject}: {broken}") from None
            except Exception as error:
                raise LawBroken(f"{self.law.statement} {subject} raises {type(error).__name__}: {error}") from error

    @property
    def component(self) -> Component:
        """What is under law."""
        return self.beside[0].component

    def __str__(self) -> str:
        example = f"[{self.example}]" if self.example else ""
        return f"{self.component.kind}:{self.component.name}{example}-{self.law.name}"


def cases(
    components: Iterable[Component],
    catalog: Catalog | None = None,
    given: Mapping[str, Sequence[Params | Mapping[str, Any]]] | None = None,
) -> Iterator[Case]:
    """Every law of every component, on each example of its parameters.

    given  name -> parameters to try instead of the examples that the component itself declares
    """
    catalog = catalog or runtime.catalog()
    for component in components:
        whole = including(component, catalog)
        own = (given or {}).get(component.name)
        tried = examples(component, whole) if own is None else [validated(component, params, whole) for params in own]
        for index, params in enumerate(tried):
            beside = tuple(subjects(component, params, whole))
            # What is said of the component rather than of its parameters is proved once.
            applying = [law for law in laws(component.kind) if index == 0 or not law.once]
            yield from (Case(law, beside if law.combined else beside[:1], index) for law in applying)


def check(component: Component, params: Params | Mapping[str, Any] | None = None, catalog: Catalog | None = None) -> list[Result]:
    """Every law of the component's kind, once each: it passes where it holds for these parameters, or for every example of its own."""
    given = None if params is None else {component.name: [params]}
    results: dict[str, Result] = {}
    for case in cases([component], catalog, given):
        name = case.law.name
        if name in results and not results[name].passed:
            continue
        results[name] = _result(case)
    return list(results.values())


def _result(case: Case) -> Result:
    try:
        case()
    except LawBroken as broken:
        return Result(case.law.name, False, str(broken))
    return Result(case.law.name, True, case.law.statement)
