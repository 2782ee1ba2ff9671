"""Accounting, against published numbers and against arithmetic done here from the shapes alone."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field
from torch import Tensor, nn

from llmkit import Component, Kind, Params, Site, build, load_spec
from llmkit import catalog as installed
from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.component import Chosen
from llmkit.core.interfaces.attention import Attention, Context, LayerCache
from llmkit.core.interfaces.ffn import FeedForward
from llmkit.core.interfaces.objective import Batch, LanguageModule, Loss, Objective
from llmkit.core.slot import Slot
from llmkit.core.spec import Spec
from llmkit.model.count import Account, account, component_cost, forward_flops

GPT2_WITHOUT_BIASES = ("model.block.attention.bias=false", "model.block.ffn.bias=false", "model.block.norm.bias=false")


def spec_of(catalog: Catalog | None = None, **model: Any) -> Spec:
    shape = {"d_model": 32, "n_layers": 3, "max_seq_len": 16, "block": {"attention": {"type": "mha", "n_heads": 4}}}
    return load_spec({"name": "counted", "tokenizer": "bytes", "model": shape | model}, catalog=catalog)


def row(found: Account, address: str) -> Any:
    [only] = [row for row in found.components if row.address == address]
    return only


def test_gpt2_without_biases_takes_the_published_matrix_products() -> None:
    spec = load_spec("recipe:gpt2-small", GPT2_WITHOUT_BIASES)
    assert forward_flops(build(spec, device="meta"), 1024) == 291_648_307_200
    flops = account(spec).flops_per_token
    assert (flops.forward * 1024, flops.training * 1024) == (291_648_307_200, 874_944_921_600)


def test_llama_3_takes_palms_formula_less_the_norm_scales_that_it_counts_as_products() -> None:
    found = account(load_spec("recipe:llama3-8b"))
    formula = found.flops_per_token.training + 6 * row(found, "model.block.norm").parameters
    assert formula == pytest.approx(5.791445e10, rel=1e-7)


@settings(max_examples=15, deadline=None)
@given(
    layers=st.integers(1, 4),
    heads=st.sampled_from([1, 2, 4]),
    groups=st.sampled_from([1, 2, 4]),
    head_width=st.sampled_from([2, 6, 8]),
    d_ff=st.integers(1, 40),
    length=st.integers(1, 20),
    vocabulary=st.integers(1, 70),
    window=st.sampled_from([None, 3]),
    position=st.sampled_from(["rope", "learned", "alibi", "none", "sinusoidal"]),
    tied=st.booleans(),
)
def test_flops_parameters_and_cache_bytes_follow_from_the_shapes(
    layers: int,
    heads: int,
    groups: int,
    head_width: int,
    d_ff: int,
    length: int,
    vocabulary: int,
    window: int | None,
    position: str,
    tied: bool,
) -> None:
    attention = {"type": "gqa", "n_heads": heads * groups, "n_kv_heads": groups, "head_width": head_width, "window": window}
    found = account(
        spec_of(
            n_layers=layers,
            max_seq_len=length,
            vocab_size=258 + vocabulary,
            position=position,
            block={"attention": attention, "ffn": {"type": "swiglu", "d_ff": d_ff}},
            tie_embeddings=tied,
        )
    )
    width, table = 32, (258 + vocabulary) * 32
    matrices = layers * (2 * width * heads * groups * head_width + 2 * width * groups * head_width + 3 * width * d_ff)
    products = 2 * length * (matrices + table) + layers * 4 * length * length * heads * groups * head_width
    assert found.flops_per_token.forward == products / length
    assert found.flops_per_token.training == 3 * found.flops_per_token.forward
    positions = length * width if position == "learned" else 0
    total = matrices + (1 if tied else 2) * table + positions + (2 * layers + 1) * width
    assert found.parameters.total == total
    assert found.parameters.embedding == table + positions
    assert found.parameters.non_embedding == total - table - positions
    assert found.kv_cache_bytes_per_token == layers * 2 * groups * head_width * 2
    assert found.kv_cache_bytes == min(window or length, length) * found.kv_cache_bytes_per_token


def test_the_parameters_are_those_of_the_model_with_values() -> None:
    spec = spec_of(position="learned")
    assert account(spec).parameters.total == sum(parameter.numel() for parameter in build(spec).parameters())


def test_there_is_a_row_for_every_slot_in_the_order_of_the_spec() -> None:
    spec = spec_of()
    found = account(spec)
    assert [(row.address, row.kind, row.type) for row in found.components] == [
        (address, kind.value, chosen.type) for address, kind, chosen in spec.slots()
    ]
    assert row(found, "model.block.attention").parameters == 3 * 4 * 32 * 32
    assert row(found, "train.optimizer").parameters == 0
    assert {row.distribution for row in found.components} == {"llmkit"}


def test_named_blocks_share_what_the_model_has_by_who_uses_it() -> None:
    local = {
        "attention": {"type": "mha", "n_heads": 4, "window": 4},
        "ffn": {"type": "swiglu", "d_ff": 8},
        "norm": "rmsnorm",
        "layout": "pre",
    }
    full = {**local, "attention": {"type": "mqa", "n_heads": 4}, "norm": "layernorm"}
    found = account(spec_of(n_layers=5, blocks={"local": local, "full": full}, pattern=["local", "local", "full"]))
    assert row(found, "model.blocks.local.attention").parameters == 4 * 4 * 32 * 32
    assert row(found, "model.blocks.full.attention").parameters == 2 * 32 * 32 + 2 * 32 * 8
    assert row(found, "model.blocks.full.norm").parameters == 2 * 64
    # The fifth layer is local again, and the final norm is that of the last block.
    assert row(found, "model.blocks.local.norm").parameters == (2 * 4 + 1) * 32


class NormedParams(Params):
    """Parameters of an attention with a slot of its own."""

    qk_norm: Annotated[Chosen, Slot(Kind.norm)] = Field(description="norm of queries and keys")


class Normed(Attention):
    """Builds one slot twice, under names that are not the slot's."""

    def __init__(self, params: NormedParams, site: Site) -> None:
        super().__init__()
        self.q_norm = site.make("q_norm", params.qk_norm, width=8)
        self.k_norm = site.make("k_norm", params.qk_norm, width=8)
        self.gate = nn.Linear(site.width, 8, bias=False)

    def forward(self, x: Tensor, ctx: Context, cache: LayerCache | None = None) -> Tensor:
        return x + (self.q_norm(self.gate(x)) * self.k_norm(self.gate(x))).sum(dim=-1, keepdim=True)

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> LayerCache:
        class Nothing:
            nbytes = 0

        return Nothing()  # type: ignore[return-value]


class RoutedParams(Params):
    """Nothing to choose."""


class Routed(FeedForward):
    """Its products depend on values, which meta has none of."""

    def __init__(self, params: RoutedParams, site: Site) -> None:
        super().__init__()
        self.expert = nn.Linear(site.width, site.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        chosen = (x.sum(dim=-1) > 0).nonzero().tolist()
        return x if not chosen else self.expert(x)

    def flops(self, length: int) -> int:
        return 1000 * length


class Silent(Routed):
    """As `Routed`, and does not tell."""

    flops = None  # type: ignore[assignment]


class Headed(Objective):
    """Has a value head of its own."""

    def __init__(self, params: RoutedParams, site: Site) -> None:
        super().__init__()
        self.value = nn.Linear(site.width, 1)

    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        h, aux = model.features(batch)
        return Loss(self.value(h).sum(), {}, aux.stats)


def catalog_with(kind: Kind, name: str, params: type[Params], made: type) -> Catalog:
    component = Component(kind, name, params, f"{__name__}:{made.__name__}", "of this test", revision=3)
    return Catalog({**installed().entries, (kind, name): Entry(component, Origin("llmkit-acme", "0.2.0"))})


def test_a_nested_slot_has_a_row_at_its_own_address_whatever_its_modules_are_called() -> None:
    catalog = catalog_with(Kind.attention, "acme.normed", NormedParams, Normed)
    spec = spec_of(catalog, position="none", block={"attention": {"type": "acme.normed", "qk_norm": {"type": "layernorm", "bias": False}}})
    found = account(spec, catalog)
    assert row(found, "model.block.attention.qk_norm").parameters == 3 * 2 * 8
    attention = row(found, "model.block.attention")
    assert (attention.parameters, attention.distribution, attention.version, attention.revision) == (
        3 * (2 * 8 + 32 * 8), "llmkit-acme", "0.2.0", 3,
    )  # fmt: skip
    assert found.kv_cache_bytes_per_token == 0


def test_a_component_that_knows_its_flops_is_taken_at_its_word_and_not_run() -> None:
    catalog = catalog_with(Kind.ffn, "acme.routed", RoutedParams, Routed)
    attention = {"type": "mha", "n_heads": 4}
    told = account(spec_of(catalog, block={"attention": attention, "ffn": "acme.routed"}), catalog)
    dense = account(spec_of(block={"attention": attention, "ffn": {"type": "mlp", "d_ff": 1}}))
    assert told.flops_per_token.forward - 3 * 1000 == dense.flops_per_token.forward - 3 * 2 * 2 * 32


def test_a_component_that_needs_values_and_does_not_tell_is_asked_to() -> None:
    catalog = catalog_with(Kind.ffn, "acme.silent", RoutedParams, Silent)
    with pytest.raises(RuntimeError, match=r"give it a method flops\(length\)"):
        account(spec_of(catalog, block={"attention": {"type": "mha", "n_heads": 4}, "ffn": "acme.silent"}), catalog)


def test_an_objectives_own_parameters_are_in_its_row_and_not_in_the_models_total() -> None:
    catalog = catalog_with(Kind.objective, "acme.headed", RoutedParams, Headed)
    document = {"tokenizer": "bytes", "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 8}, "train": {"objective": "acme.headed"}}
    found = account(load_spec(document, catalog=catalog), catalog)
    assert row(found, "train.objective").parameters == 33
    assert found.parameters.total == account(load_spec(document | {"train": {}})).parameters.total


def test_components_and_the_head_cost_together_what_the_model_costs() -> None:
    spec = load_spec("recipe:llama3-8b")
    kinds = {(kind, chosen.type) for address, kind, chosen in spec.slots() if address.startswith("model.block")}
    costs = [component_cost(spec, kind, name) for kind, name in kinds]
    table = spec.vocab_size * spec.model.d_model
    assert sum(cost.parameters for cost in costs) + 2 * table == 8_030_261_248
    assert sum(cost.flops_per_token or 0 for cost in costs) + 2 * table == account(spec).flops_per_token.forward
    assert sum(cost.kv_cache_bytes_per_token for cost in costs) == 131_072
    attention = component_cost(spec, Kind.attention, "gqa")
    assert [(row.name, row.shape, row.count) for row in attention.tensors[:2]] == [
        ("blocks.*.attention.query.weight", (4096, 4096), 32),
        ("blocks.*.attention.key.weight", (1024, 4096), 32),
    ]


def test_a_nested_component_has_a_cost_of_its_own() -> None:
    catalog = catalog_with(Kind.attention, "acme.normed", NormedParams, Normed)
    spec = spec_of(catalog, position="none", block={"attention": {"type": "acme.normed", "qk_norm": {"type": "layernorm", "bias": False}}})
    found = component_cost(spec, Kind.norm, "layernorm")
    assert (found.addresses, found.parameters) == (("model.block.attention.qk_norm",), 3 * 2 * 8)


def test_what_a_component_tells_is_its_own_cost_and_an_objective_has_none_in_the_model() -> None:
    catalog = catalog_with(Kind.ffn, "acme.routed", RoutedParams, Routed)
    spec = spec_of(catalog, block={"attention": {"type": "mha", "n_heads": 4}, "ffn": "acme.routed"})
    assert component_cost(spec, Kind.ffn, "acme.routed").flops_per_token == 3 * 1000
    assert component_cost(spec, Kind.objective, "causal").flops_per_token is None


def test_counting_needs_no_values() -> None:
    before = torch.get_rng_state()
    account(spec_of())
    assert torch.equal(before, torch.get_rng_state())
