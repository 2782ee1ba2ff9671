"""`prove`: every law of several components, what each took, and what could not be tried."""

from __future__ import annotations

from pathlib import Path

from llmkit import catalog
from llmkit.core.kinds import Kind
from llmkit.testing import laws
from llmkit.testing.example_files import example_files
from llmkit.testing.prove import prove


def test_each_law_of_each_component_is_a_row_with_its_time() -> None:
    known = catalog()
    proofs = list(prove([known.find(Kind.schedule, "cosine"), known.find(Kind.init, "normal")], known))
    assert {(proof.kind, proof.name) for proof in proofs} == {("schedule", "cosine"), ("init", "normal")}
    for kind in (Kind.schedule, Kind.init):
        assert {proof.law for proof in proofs if proof.kind == kind} == {law.name for law in laws(kind)}
    assert all(proof.passed and proof.seconds >= 0 and proof.partners == 1 for proof in proofs)


def test_a_component_without_parameters_to_try_is_a_row_that_says_why() -> None:
    known = catalog()
    [proof] = prove([known.find(Kind.source, "text")], known)
    assert proof.passed is None and "has no default and no example" in proof.detail


def test_every_built_in_has_parameters_to_try_once_its_files_are_written(tmp_path: Path) -> None:
    known = catalog()
    given = example_files(tmp_path, known)
    for component in known:
        params = given.get(component.name, [])
        for one in params:
            component.params.model_validate(one, context={"catalog": known})
    assert all(proof.passed for proof in prove([known.find(Kind.source, "text")], known, given))
