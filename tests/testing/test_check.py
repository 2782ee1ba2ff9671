"""`check`, `cases` and example parameters: what is tried, and what is said of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ConfigDict, Field

from llmkit import Component, Kind, Params, Schedule, catalog
from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.errors import UserError
from llmkit.testing import cases, check, examples, laws
from llmkit.testing.subject import subjects


class Steep(Params):
    slope: float = Field(description="fall a step", examples=[0.0, 0.001])
    floor: float = Field(0.0, description="least", examples=[0.5])
    model_config = ConfigDict(json_schema_extra={"examples": [{"slope": 0.5, "floor": 0.25}]})


class Line(Schedule):
    def __call__(self, step: int, total: int) -> float:
        return max(1 - self.params.slope * step, self.params.floor)


class Unknown(Params):
    path: str = Field(description="a file")


LINE = Component(Kind.schedule, "mine.line", Steep, f"{__name__}:Line", "a line")


def test_the_first_example_is_the_defaults_and_each_other_changes_one_field_or_is_whole() -> None:
    assert [(params.slope, params.floor) for params in examples(LINE, catalog())] == [(0, 0), (0.001, 0), (0, 0.5), (0.5, 0.25)]  # type: ignore[attr-defined]


def test_a_field_with_neither_default_nor_example_is_named_with_the_remedy() -> None:
    component = Component(Kind.schedule, "mine.none", Unknown, f"{__name__}:Line", "")
    with pytest.raises(UserError, match=r"'path' of schedule 'mine.none' has no default and no example: write Field\(..., examples"):
        check(component)


def test_an_example_that_its_own_class_refuses_is_told() -> None:
    with pytest.raises(UserError, match=r"example parameters \{'slope': 'steep'\} of schedule 'mine.line' are refused"):
        check(LINE, {"slope": "steep"})


def test_check_tells_each_law_once_with_its_statement_or_with_what_breaks_it() -> None:
    results = check(LINE)
    assert [result.law for result in results] == [law.name for law in laws(Kind.schedule)]
    # Whether a fresh interpreter finds this module depends on how pytest imported it.
    assert {result.law for result in results if not result.passed} <= {"registration_imports_nothing_heavy"}
    assert all(result.detail == law.statement for result, law in zip(results, laws(Kind.schedule)) if result.passed)
    broken = {result.law: result for result in check(LINE, {"slope": 0.5, "floor": -1.0})}["factors_are_finite_and_never_negative"]
    assert not broken.passed
    assert broken.detail.endswith("Broken by mine.line slope=0.5 floor=-1.0: step 3 of 10 has the factor -0.5")


def test_a_law_about_the_component_as_such_is_proved_once() -> None:
    names = [case.law.name for case in cases([LINE])]
    assert names.count("target_satisfies_the_interface") == 1
    assert names.count("factors_are_finite_and_never_negative") == 4


def test_an_attention_is_tried_beside_every_position_that_it_offers_to_serve() -> None:
    mha = catalog().find(Kind.attention, "mha")
    beside = {subject.partners["position"]["type"] for subject in subjects(mha, examples(mha, catalog())[0], catalog())}
    assert beside >= {"rope", "alibi", "learned", "sinusoidal", "none"}
    deaf = Component(Kind.attention, "mine.deaf", mha.params, mha.target, "")
    beside = {subject.partners["position"]["type"] for subject in subjects(deaf, examples(deaf, catalog())[0], catalog())}
    assert not beside & {"rope", "alibi"} and "none" in beside


def test_a_position_is_tried_beside_every_attention_and_a_norm_in_every_layout() -> None:
    rope, norm = catalog().find(Kind.position, "rope"), catalog().find(Kind.norm, "rmsnorm")
    beside = {subject.partners["attention"]["type"] for subject in subjects(rope, examples(rope, catalog())[0], catalog())}
    assert beside >= {"mha", "gqa", "mqa"}
    layouts = {subject.partners["layout"] for subject in subjects(norm, examples(norm, catalog())[0], catalog())}
    assert layouts == {"pre", "post", "sandwich", "branch_post", "parallel"}


def test_a_strangers_plugin_is_no_partner() -> None:
    mha = catalog().find(Kind.attention, "mha")
    stranger = Component(Kind.attention, "stranger.odd", Unknown, "nowhere:Nothing", "")
    entries = {**catalog().entries, (Kind.attention, "stranger.odd"): Entry(stranger, Origin("stranger", "1"))}
    rope = catalog().find(Kind.position, "rope")
    beside = [subject.partners["attention"]["type"] for subject in subjects(rope, examples(rope, catalog())[0], Catalog(entries))]
    assert mha.name in beside and "stranger.odd" not in beside


def test_importing_the_laws_package_imports_no_torch() -> None:
    code = "import sys, llmkit.testing; llmkit.testing.check; llmkit.testing.examples; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
