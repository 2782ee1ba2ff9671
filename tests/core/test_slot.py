"""Slots: an open registry inside pydantic."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated

import pytest
from pydantic import Field, ValidationError

import llmkit
from llmkit import Component, Kind, Params
from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.component import Chosen
from llmkit.core.problems import SpecError
from llmkit.core.slot import Slot, plain
from llmkit.core.spec import BlockSpec
from llmkit.runtime import load_spec


class OuterParams(Params):
    """An attention with norms inside."""

    qk_norm: Annotated[Chosen, Slot(Kind.norm)] | None = Field(None, description="a norm of queries and keys")
    more: list[Annotated[Chosen, Slot(Kind.norm)]] = Field(default_factory=list, description="other norms")


OUTER = Component(Kind.attention, "zoo.outer", OuterParams, "x:X", "nests")
CATALOG = Catalog(MappingProxyType({**llmkit.catalog().entries, (Kind.attention, "zoo.outer"): Entry(OUTER, Origin("zoo", "1"))}))
MODEL = {"d_model": 64, "n_layers": 1, "max_seq_len": 8}


def spec_with(attention: object) -> llmkit.core.spec.Spec:
    return load_spec({"tokenizer": "bytes", "model": {**MODEL, "block": {"attention": attention}}}, catalog=CATALOG)


def test_a_name_and_a_mapping_with_that_type_are_the_same_thing():
    assert spec_with({"type": "zoo.outer", "qk_norm": "rmsnorm"}) == spec_with({"type": "zoo.outer", "qk_norm": {"type": "rmsnorm"}})


def test_a_slot_inside_a_component_is_found_at_its_address_and_written_out_whole():
    spec = spec_with({"type": "zoo.outer", "qk_norm": {"type": "layernorm", "bias": False}, "more": ["none"]})
    nested = {address: chosen.type for address, _, chosen in spec.slots() if "attention." in address}
    assert nested == {"model.block.attention.qk_norm": "layernorm", "model.block.attention.more.0": "none"}
    assert plain(spec.model.block.attention) == {
        "type": "zoo.outer",
        "qk_norm": {"type": "layernorm", "eps": 1e-5, "bias": False, "scale": True},
        "more": [{"type": "none"}],
    }


@pytest.mark.parametrize(
    ("attention", "address", "says"),
    [
        ({"type": "zoo.outer", "qk_norm": {"type": "rmsnorm", "esp": 1}}, "qk_norm.esp", "did you mean 'eps'"),
        ({"type": "zoo.outer", "more": ["none", "nome"]}, "more.1", "did you mean 'none'"),
        ({"type": "zoo.outer", "more": ["none", {"eps": 1}]}, "more.1", "has no `type`; installed: dyt, layernorm, none, rmsnorm"),
        ({"type": "zoo.outer", "qk_norm": {"type": "rmsnorm", "eps": "small"}}, "qk_norm.eps", "expected a number, got 'small'"),
    ],
)
def test_a_mistake_inside_a_nested_slot_keeps_its_whole_address(attention, address, says):
    with pytest.raises(SpecError) as refused:
        spec_with(attention)
    (problem,) = refused.value.problems
    assert problem.address == f"model.block.attention.{address}" and says in problem.message


def test_braces_in_a_name_are_told_as_they_are():
    with pytest.raises(ValidationError, match=r"no norm is called '\{value\}'"):
        BlockSpec.model_validate({"norm": "{value}"}, context={"catalog": CATALOG})
