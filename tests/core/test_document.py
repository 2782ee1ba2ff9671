"""YAML as a tree with places."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.document import Node, located, read_value, read_yaml
from llmkit.core.filled import to_yaml
from llmkit.core.problems import Place, SpecError


def places(text: str) -> dict[str, tuple[int | None, int | None]]:
    return {address: (node.place.line, node.place.column) for address, node in read_yaml(text, "f").leaves()}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2_000_000", 2_000_000),
        ("1_0.5e2", 1050.0),
        ("010", 10),
        ("0o10", 8),
        ("0xff", 255),
        ("+3", 3),
        (".5", 0.5),
        ("5.", 5.0),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("no", "no"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2024-01-01", "2024-01-01"),
        ("1.2.3", "1.2.3"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("_1", "_1"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text, value):
    read = read_yaml(f"a: {text}", "f").value["a"].value
    assert read == value and type(read) is type(value)


def test_every_value_key_and_item_knows_its_line_and_column():
    text = "a: 1\nb:\n  c: {d: x, e: [3, {f: y}]}\n  # words\n  g:\n    - h\n"
    assert places(text) == {"a": (1, 4), "b.c.d": (3, 10), "b.c.e.0": (3, 17), "b.c.e.1.f": (3, 24), "b.g": (6, 5)}
    keys = read_yaml(text, "f").value["b"]
    assert keys.key == Place("f", 2, 1) and keys.value["g"].key == Place("f", 5, 3)


def test_every_duplicate_key_is_told_with_both_places():
    with pytest.raises(SpecError) as refused:
        read_yaml("a: 1\nb: {c: 1, c: 2}\na: 3\n", "f")
    assert [str(problem) for problem in refused.value.problems] == [
        "f:2:11: b.c: key 'c' is given twice, first at f:2:5; remove one of them",
        "f:3:1: a: key 'a' is given twice, first at f:1:1; remove one of them",
    ]


def test_aliases_and_merge_keys_mean_what_yaml_says():
    text = "x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}\nz: *x\nw:\n  <<: [{a: 5}, *x]\n"
    read = read_yaml(text, "f")
    assert read.plain() == {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}, "z": {"a": 1, "b": 2}, "w": {"a": 5, "b": 2}}
    assert read.value["z"].key == Place("f", 3, 1)


@pytest.mark.parametrize("text", ["a: &a [*a]", "\n".join(["a0: &a0 [x, x]", *(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]" for n in range(30))])])
def test_aliases_that_never_end_are_refused(text):
    with pytest.raises(SpecError, match="write it out"):
        read_yaml(text, "f")


@pytest.mark.parametrize(
    ("text", "place"), [("a: 1\nb: \x07", "f:2:4"), ("a: [1, 2", "f:1:9"), ("? [1]\n: 2", "f:1:3"), ("a: 1\n--- \nb: 2\n", "f:2:1")]
)
def test_what_is_no_document_is_told_with_its_place(text, place):
    with pytest.raises(SpecError) as refused:
        read_yaml(text, "f")
    assert str(refused.value.problems[0].place) == place


def test_a_value_of_the_command_line_has_no_lines():
    node = read_value("{type: rmsnorm, eps: 1e-6}", "--set a={type: rmsnorm, eps: 1e-6}")
    assert {str(leaf.place) for _, leaf in node.leaves()} == {"--set a={type: rmsnorm, eps: 1e-6}"}
    assert node.plain() == {"type": "rmsnorm", "eps": 1e-6}


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.from_regex(r"[-+0-9_.exo:]{1,8}", fullmatch=True)
)
DOCUMENTS = st.dictionaries(
    TEXT.filter(lambda key: key != "<<"), st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3)), max_size=4
)


@settings(max_examples=150, deadline=None)
@given(DOCUMENTS)
def test_what_is_written_reads_back_as_the_same(document):
    assert read_yaml(to_yaml(document), "f").plain() == document


@given(DOCUMENTS)
@settings(max_examples=50, deadline=None)
def test_leaves_lead_back_to_every_value(document):
    node = located(document, Place("f"))
    for address, leaf in node.leaves():
        if address and not any("." in key or not key for key in document):
            assert node.walk(address.split("."))[1] == leaf


def test_a_union_branch_in_an_address_is_skipped():
    node = Node({"a": Node({"b": Node(1, Place("f", 2, 3))}, Place("f"))}, Place("f"))
    assert node.walk(("a", "Pattern", "b", "int"))[0] == ["a", "b"]
