"""Laws between slots, for components that nobody in the core has heard of."""

from __future__ import annotations

from collections.abc import Iterable
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import Field

import llmkit
from llmkit import Component, FilterParams, Kind, Params
from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.problems import SpecError
from llmkit.core.site import Site
from llmkit.runtime import load_spec

MODEL = {"d_model": 64, "n_layers": 2, "max_seq_len": 32}


class MixerParams(Params):
    """An attention with a taste in positions."""

    channels: int = Field(16, description="channels of a head")
    inner: int = Field(1, description="something")

    def width(self, d_model: int) -> int:
        """Channels of a head."""
        return self.channels

    def check(self, site: Site) -> Iterable[str]:
        """It divides the model."""
        if site.d_model % self.channels:
            yield f"at {site.address}: {self.channels} not in {site.d_model}, {site.vocab_size} words, {site.n_layers} layers"


class PlaceParams(Params):
    """A position that looks at its site."""

    def check(self, site: Site) -> Iterable[str]:
        """Only 16 channels."""
        if site.width != 16:
            yield f"width {site.width}, heads {site.heads}"


def catalog(**traits: Any) -> Catalog:
    mixer = Component(
        Kind.attention,
        "zoo.mixer",
        MixerParams,
        "x:X",
        "mixes",
        needs=traits.get("asks", frozenset()),
        offers=traits.get("offers", frozenset()),
    )
    place = Component(
        Kind.position,
        "zoo.place",
        PlaceParams,
        "x:X",
        "places",
        needs=traits.get("needs", frozenset()),
        offers=traits.get("has", frozenset()),
    )
    entries = {(one.kind, one.name): Entry(one, Origin("zoo", "1")) for one in (mixer, place)}
    return Catalog(MappingProxyType({**llmkit.catalog().entries, **entries}))


def problems(model: dict[str, Any], known: Catalog, **parts: Any) -> list[tuple[str, str]]:
    try:
        load_spec({"tokenizer": "bytes", "model": {**MODEL, **model}, **parts}, catalog=known)
    except SpecError as error:
        return [(problem.address, problem.message) for problem in error.problems]
    return []


MIXED = {"block": {"attention": "zoo.mixer"}, "position": "zoo.place"}


@pytest.mark.parametrize(
    ("traits", "refused"),
    [
        ({"needs": {"spin"}, "offers": {"spin", "tilt"}}, []),
        ({"needs": {"spin"}, "offers": frozenset()}, []),
        ({"needs": {"spin"}, "offers": {"tilt"}}, ["model.position"]),
        ({"needs": lambda params: ["spin"], "offers": lambda params: ["tilt"] if params.inner == 1 else ["spin"]}, ["model.position"]),
        ({"asks": {"sway"}, "has": {"sway"}}, []),
        ({"asks": {"sway"}, "has": {"tilt"}}, ["model.block.attention"]),
    ],
)
def test_traits_decide_which_position_an_attention_takes(traits, refused):
    assert [address for address, _ in problems(MIXED, catalog(**traits))] == refused


def test_traits_that_depend_on_parameters_are_asked_with_them():
    known = catalog(needs={"spin"}, offers=lambda params: ["tilt"] if params.inner == 1 else ["spin"])
    assert problems({**MIXED, "block": {"attention": {"type": "zoo.mixer", "inner": 2}}}, known) == []


def test_a_component_says_what_is_wrong_with_its_place():
    model = {**MIXED, "block": {"attention": {"type": "zoo.mixer", "channels": 16}}, "d_model": 40}
    assert problems(model, catalog()) == [("model.block.attention", "at model.block.attention: 16 not in 40, 258 words, 2 layers")]


def test_a_position_that_serves_attentions_is_asked_with_the_width_of_their_heads():
    model = {**MIXED, "block": {"attention": {"type": "zoo.mixer", "channels": 32}}}
    assert problems(model, catalog()) == [("model.position", "width 32, heads 1")]
    assert problems(model, catalog(has={"embed"})) == [("model.position", "width 64, heads 0"), ("model.position", "width 32, heads 1")]


def test_each_block_is_checked_with_its_own_position():
    blocks = {"one": {"position": "zoo.place"}, "two": {"attention": "zoo.mixer"}}
    found = problems({"blocks": blocks, "position": "none"}, catalog(needs={"spin"}, offers={"tilt"}))
    assert [address for address, _ in found] == ["model.blocks.one.position", "model.blocks.one.position"]


@pytest.mark.parametrize(
    ("model", "address"),
    [
        ({"blocks": {}}, "model.blocks"),
        ({"blocks": {"a": {}}, "pattern": []}, "model.pattern"),
        ({"blocks": {"a": {}}, "pattern": {"first": ["a", "a", "a"], "repeat": ["a"]}}, "model.pattern"),
        ({"blocks": {"a": {}}, "pattern": {"repeat": ["a", "b"]}}, "model.pattern.repeat.1"),
        ({"vocab_size": 100}, "model.vocab_size"),
    ],
)
def test_what_does_not_fit_in_the_model_is_refused(model, address):
    assert [where for where, _ in problems(model, catalog())] == [address]


def test_a_tokenizer_file_that_is_not_there_is_a_problem_of_the_tokenizer(tmp_path):
    with pytest.raises(SpecError) as refused:
        load_spec({"tokenizer": {"type": "pretrained", "path": str(tmp_path / "none")}, "model": MODEL})
    assert [problem.address for problem in refused.value.problems] == ["tokenizer"]


def test_longer_sequences_are_refused_only_where_a_position_ends():
    long = {"train": {"seq_len": 64}}
    assert problems({"position": "rope"}, catalog(), **long) == []
    assert [address for address, _ in problems({"position": "learned"}, catalog(), **long)] == ["train.seq_len"]


def test_a_spec_needs_no_more_than_a_tokenizer_and_a_model():
    spec = load_spec({"tokenizer": "bytes", "model": MODEL})
    assert spec.steps > 0 and spec.seq_len == 32 and spec.vocab_size == 258


@pytest.mark.parametrize(
    ("data", "address", "says"),
    [
        ({"mixer": "test.even"}, "data.mixer", "there are none; give `data.sources`"),
        ({"filters": {"short": {"type": "test.short", "sources": ["wbe"]}}}, "data.filters.short.sources.0", "no source is called 'wbe'"),
        ({"source": None}, "data", "neither `source` nor `sources`"),
        ({"source": "pydoc", "sources": {"web": "pydoc"}}, "data.sources", "source"),
    ],
)
def test_what_names_a_source_names_one_that_is_there(data, address, says):
    with pytest.raises(SpecError) as refused:
        load_spec({"tokenizer": "bytes", "model": MODEL, "data": data}, catalog=with_data_kinds())
    assert [problem.address for problem in refused.value.problems] == [address]
    assert says in refused.value.problems[0].message


def test_named_sources_take_the_place_of_the_default_one():
    spec = load_spec({"tokenizer": "bytes", "model": MODEL, "data": {"sources": {"topics": "pydoc", "code": "pydoc"}}})
    assert spec.data.source is None and list(spec.data.named_sources) == ["topics", "code"]
    alone = load_spec({"tokenizer": "bytes", "model": MODEL})
    assert list(alone.data.named_sources) == ["pydoc"]


def with_data_kinds() -> Catalog:
    added = (
        Component(Kind.mixer, "test.even", Params, "nowhere:Even", "as much of each"),
        Component(Kind.filter, "test.short", FilterParams, "nowhere:Short", "drops short text"),
    )
    entries = {(one.kind, one.name): Entry(one, Origin("test", "0")) for one in added}
    return Catalog(MappingProxyType({**llmkit.catalog().entries, **entries}), (), MappingProxyType({}))
