"""Mixers: the parts that they give to sources, and names that are none."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit import load_spec
from llmkit.core.errors import UserError
from llmkit.core.interfaces.mixer import Mixer, Size
from llmkit.plugins.mixers.components import llmkit_components

COMPONENTS = {component.name: component for component in llmkit_components()}
SIZES = {"books": Size(10, 1_000, 4_000), "web": Size(90, 3_000, 12_000)}

tokens = st.lists(st.integers(1, 10**13), min_size=1, max_size=6)


def mixer(name: str, **params: object) -> Mixer:
    component = COMPONENTS[name]
    made: Mixer = component.resolve()(component.params.model_validate(params))
    return made


def sized(counts: list[int]) -> dict[str, Size]:
    return {f"source {index}": Size(1, count, 4 * count) for index, count in enumerate(counts)}


def test_weights_are_relative_and_do_not_look_at_sizes() -> None:
    assert mixer("weights", weights={"web": 1, "books": 3}).proportions(SIZES) == {"books": 0.75, "web": 0.25}
    assert mixer("weights", weights={"web": 0, "books": 0.1}).proportions(SIZES) == {"books": 1.0, "web": 0.0}


@given(counts=tokens, data=st.data())
def test_epochs_read_each_source_as_often_as_they_say(counts: list[int], data: st.DataObject) -> None:
    sizes = sized(counts)
    wanted = {name: data.draw(st.floats(0.1, 10)) for name in sizes}
    parts = mixer("epochs", epochs=wanted).proportions(sizes)
    trained = 123_456_789
    read = {name: parts[name] * trained / size.tokens for name, size in sizes.items()}
    first = next(iter(sizes))
    assert all(math.isclose(read[name] / read[first], wanted[name] / wanted[first]) for name in sizes)


@given(counts=tokens)
def test_temperature_one_is_as_much_as_there_is(counts: list[int]) -> None:
    parts = mixer("temperature", temperature=1).proportions(sized(counts))
    assert list(parts.values()) == pytest.approx([count / sum(counts) for count in counts])


def test_a_temperature_raises_probabilities_to_its_inverse() -> None:
    """As arXiv 1907.05019 writes it: p_l^(1/T), normalised."""
    shares = [0.9, 0.09, 0.01]
    powers = [share ** (1 / 5) for share in shares]
    parts = mixer("temperature").proportions(sized([90_000, 9_000, 1_000]))
    assert list(parts.values()) == pytest.approx([power / sum(powers) for power in powers])


@given(counts=tokens)
def test_a_high_temperature_is_even(counts: list[int]) -> None:
    hot = mixer("temperature", temperature=1e9).proportions(sized(counts))
    assert hot == pytest.approx(mixer("even").proportions(sized(counts)), rel=1e-6)
    assert list(hot.values()) == pytest.approx([1 / len(counts)] * len(counts), rel=1e-6)


@pytest.mark.parametrize("name", ["weights", "epochs"])
def test_a_source_that_is_not_there_or_left_out_is_an_error(name: str) -> None:
    with pytest.raises(UserError, match=rf"data\.mixer\.{name}\.wep: no source is called 'wep'; did you mean 'web'\?"):
        mixer(name, **{name: {"books": 1, "wep": 1}}).proportions(SIZES)
    with pytest.raises(UserError, match=rf"data\.mixer\.{name}: has nothing for 'web'"):
        mixer(name, **{name: {"books": 1}}).proportions(SIZES)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "weights", "weights": {"books": 1, "wep": 1, "web": 1}}, "data.mixer.weights.wep: no source is called 'wep'"),
        ({"type": "weights", "weights": {"books": 1}}, "data.mixer.weights: has nothing for 'web' of data.sources"),
        ({"type": "weights", "weights": {"books": 0, "web": 0}}, "data.mixer.weights: no source has any part"),
        ({"type": "weights", "weights": {"books": -1, "web": 1}}, "data.mixer.weights.books"),
        ({"type": "epochs", "epochs": {"books": 1, "vep": 1, "web": 1}}, "data.mixer.epochs.vep: no source is called 'vep'"),
        ({"type": "temperature", "temperature": 0.5}, "data.mixer.temperature"),
    ],
    ids=str,
)
def test_a_spec_is_told_where_its_mixer_is_wrong(given: dict[str, Any], message: str) -> None:
    data = {"sources": {"books": "pydoc", "web": "pydoc"}, "mixer": given}
    with pytest.raises(UserError) as error:
        load_spec({"name": "x", "tokenizer": "bytes", "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 64}, "data": data})
    assert message in str(error.value)
