"""Laws on many components, with what each took: what `llmkit plugins check` prints."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from llmkit.core.catalog import Catalog
from llmkit.core.component import Component, Params
from llmkit.core.errors import UserError
from llmkit.testing.law import LawBroken
from llmkit.testing.run import Case, cases


class Proof(NamedTuple):
    """One law on one component with one set of parameters, beside all its partners.

    example     the number of the set of parameters, 0 for the first
    parameters  those that are not as usual
    passed      None where there was nothing to try: `detail` says why
    detail      the law's statement where it holds, else what breaks it: the parameters, the partner, the smallest input
    """

    kind: str
    name: str
    example: int
    parameters: dict[str, Any]
    law: str
    passed: bool | None
    detail: str
    partners: int
    seconds: float


def prove(
    components: Iterable[Component],
    catalog: Catalog,
    given: Mapping[str, Sequence[Params | Mapping[str, Any]]] | None = None,
    only: Collection[str] | None = None,
) -> Iterator[Proof]:
    """Every law of every component, one at a time; a component without parameters to try is one row that says so.

    given  component -> parameters to try instead of its examples; `UserError` where they are refused
    only   the names of the laws to prove; all unless given
    """
    for component in components:
        try:
            tried = list(cases([component], catalog, given))
        except UserError as error:
            if component.name in (given or {}):
                raise
            yield Proof(str(component.kind), component.name, 0, {}, "", None, str(error), 0, 0.0)
            continue
        yield from (_proof(case) for case in tried if only is None or case.law.name in only)


def _proof(case: Case) -> Proof:
    started = time.perf_counter()
    broken = None
    try:
        case()
    except LawBroken as error:
        broken = str(error)
    subject = case.beside[0]
    return Proof(
        str(case.component.kind),
        case.component.name,
        case.example,
        subject.params.model_dump(mode="json", exclude_defaults=True),
        case.law.name,
        broken is None,
        broken or case.law.statement,
        len(case.beside),
        time.perf_counter() - started,
    )
