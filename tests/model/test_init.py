"""Initial values and roles, by address."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import llmkit
from llmkit.core.spec import ModelSpec, Spec
from llmkit.model.build import build
from llmkit.model.init import initialise, named_parameters_with_roles, saved_name


def weights(seed: int = 0, **model: Any) -> dict[str, Tensor]:
    sizes = {"d_model": 32, "n_layers": 2, "max_seq_len": 16}
    spec = llmkit.load_spec({"tokenizer": {"type": "bytes"}, "model": {**sizes, **model}, "train": {"steps": 1}})
    return dict(build(spec, seed=seed).state_dict())


SWAPS: dict[str, tuple[dict[str, Any], str]] = {
    "attention": ({"block": {"attention": {"type": "mqa", "n_heads": 4}}}, "attention."),
    "ffn": ({"block": {"ffn": "mlp"}}, "ffn."),
    "norm": ({"block": {"norm": "layernorm"}}, "norm."),
    "position": ({"position": "learned"}, "position."),
    "layout": ({"block": {"layout": "sandwich"}}, "_norm."),
    "tied head": ({"tie_embeddings": True}, "head."),
    "depth": ({"n_layers": 3}, "blocks.2."),
}


@pytest.mark.parametrize("swap", SWAPS)
def test_swapping_one_component_leaves_every_other_initial_weight_bit_for_bit(swap: str) -> None:
    change, part = SWAPS[swap]
    before, after = weights(), weights(**change)
    others = [name for name in before.keys() | after.keys() if part not in name]
    assert len(others) >= 8
    assert all(torch.equal(before[name], after[name]) for name in others)


def test_every_matrix_has_values_of_its_own_and_every_seed_others() -> None:
    first, second = weights(), weights(seed=1)
    matrices = [name for name, value in first.items() if value.dim() > 1]
    assert len({float(first[name].flatten()[0]) for name in matrices}) == len(matrices)
    assert all(not torch.equal(first[name], second[name]) for name in matrices)


def test_matrices_are_normal_norms_ones_and_biases_zeros() -> None:
    found = weights(d_model=256, block={"attention": {"type": "mha", "n_heads": 4, "bias": True}, "norm": "layernorm"})
    for name, value in found.items():
        if value.dim() > 1:
            assert float(value.std()) == pytest.approx(0.02, rel=0.03), name
            assert abs(float(value.mean())) < 3e-4, name
        else:
            assert torch.equal(value, torch.zeros_like(value) if name.endswith("bias") else torch.ones_like(value)), name


def test_a_model_that_knows_nothing_has_the_loss_of_a_uniform_guess() -> None:
    spec = llmkit.load_spec(
        {"tokenizer": {"type": "bytes"}, "model": {"d_model": 64, "n_layers": 2, "max_seq_len": 64}, "train": {"steps": 1}}
    )
    ids = torch.randint(258, (8, 64), generator=torch.Generator().manual_seed(0))
    targets = torch.randint(258, (8, 64), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = nn.functional.cross_entropy(build(spec)(ids).flatten(0, 1), targets.flatten())
    assert float(loss) == pytest.approx(torch.tensor(258.0).log().item(), abs=0.05)


class Wrapper(nn.Module):
    """As a train step holds them."""

    def __init__(self, model: nn.Module, objective: nn.Module) -> None:
        super().__init__()
        self.model, self.objective = model, objective


def spec_of(**changes: Any) -> Spec:
    model = {"d_model": 32, "n_layers": 2, "max_seq_len": 16, "position": "learned", **changes}
    return llmkit.load_spec({"tokenizer": {"type": "bytes"}, "model": model, "train": {"steps": 1}})


def model_spec() -> ModelSpec:
    return spec_of().model


def decoder() -> nn.Module:
    return build(spec_of())


def test_a_wrapped_model_has_the_names_roles_and_values_of_the_bare_one() -> None:
    bare, wrapped = decoder(), Wrapper(decoder(), nn.Linear(4, 4))
    expected = [(item.name, item.role) for item in named_parameters_with_roles(bare, model_spec())]
    found = [(item.name, item.role) for item in named_parameters_with_roles(wrapped, model_spec())]
    assert found == [*expected, ("objective.weight", "matrix"), ("objective.bias", "vector")]
    initialise(wrapped, model_spec(), 7)
    initialise(bare, model_spec(), 7)
    ours, theirs = bare.state_dict(), wrapped.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_wrappers_of_torch_leave_no_trace_in_a_saved_name() -> None:
    assert saved_name("module._orig_mod.model.blocks.0._checkpoint_wrapped_module.ffn.up.weight") == "blocks.0.ffn.up.weight"
    assert saved_name("objective.head.weight") == "objective.head.weight"


def test_roles_are_matrix_embedding_head_and_vector() -> None:
    roles = {item.name: item.role for item in named_parameters_with_roles(decoder(), model_spec())}
    assert roles["embedding.weight"] == roles["position.weight"] == "embedding"
    assert roles["head.weight"] == "head"
    assert roles["blocks.0.attention.query.weight"] == "matrix"
    assert roles["blocks.0.attention_norm.weight"] == roles["norm.weight"] == "vector"


class Particular(nn.Module):
    """Says what its own parameters, and one of a module in it, start as."""

    roles = {"inner.weight": "head"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.empty(3))
        self.inner = nn.Linear(2, 2)

    def initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        values = {"gain": torch.full(shape, 0.5), "inner.weight": torch.eye(2)}
        return values.get(name)


def test_a_module_may_say_what_it_and_what_is_in_it_start_as() -> None:
    model = nn.Sequential(Particular())
    initialise(model, model_spec(), 0)
    values = dict(model.named_parameters())
    assert torch.equal(values["0.gain"], torch.full((3,), 0.5))
    assert torch.equal(values["0.inner.weight"], torch.eye(2))
    assert torch.equal(values["0.inner.bias"], torch.zeros(2))
    assert {item.name: item.role for item in named_parameters_with_roles(model, model_spec())}["0.inner.weight"] == "head"


def test_values_on_the_meta_device_are_refused() -> None:
    with torch.device("meta"):
        model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="weight is on the meta device"):
        initialise(model, model_spec(), 0)
