"""How problems speak."""

from __future__ import annotations

from llmkit.core.errors import UserError
from llmkit.core.problems import Place, Problem, SpecError, suggestion


def test_a_problem_reads_as_file_line_column_address_message():
    assert str(Problem(Place("a.yaml", 3, 5), "model.d_model", "is odd")) == "a.yaml:3:5: model.d_model: is odd"
    assert str(Problem(Place("--set x=1"), "", "is odd")) == "--set x=1: is odd"


def test_an_error_has_all_problems_once_in_their_order():
    one, other = Problem(Place("a", 2, 1), "x", "wrong"), Problem(Place("a", 1, 1), "y", "wrong")
    error = SpecError([one, other, one])
    assert error.problems == [one, other] and str(error) == "a:2:1: x: wrong\na:1:1: y: wrong"
    assert isinstance(error, UserError)


def test_a_suggestion_is_the_nearest_word_or_all_of_them():
    assert suggestion("n_layer", ["d_model", "n_layers"]) == "did you mean 'n_layers'?"
    assert suggestion("zzz", ["b", "a"]) == "known: a, b"
    assert suggestion("zzz", []) == "nothing can be given here"
