"""The mixture of experts against transformers' blocks, its losses against their equations, and its bias against the paper's rule."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from llmkit.core.site import Site
from llmkit.plugins.ffn.components import MoEParams
from llmkit.plugins.ffn.moe import MoE

D, E, K, HIDDEN = 24, 8, 3, 20
SITE = Site(d_model=D, width=D, n_layers=1, layer=0, max_seq_len=16, vocab_size=10)


def built(**params: Any) -> MoE:
    """With values of a size at which routers are decided and activations bend."""
    moe = MoE(MoEParams(**{"n_experts": E, "n_active": K, "d_ff": HIDDEN, **params}), SITE)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in moe.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * parameter.shape[-1] ** -0.5 * 1.5)
        for buffer in moe.buffers():
            buffer.copy_(torch.randn(buffer.shape, generator=generator) * 0.1)
    return moe


def tokens(rows: int = 2, length: int = 9) -> Tensor:
    return torch.randn(rows, length, D, generator=torch.Generator().manual_seed(1))


def copied(moe: MoE, block: nn.Module) -> nn.Module:
    """transformers' block with the same weights."""
    weights = {
        "gate.weight": moe.router.weight,
        "experts.gate_up_proj": torch.cat([moe.experts.gate, moe.experts.up], dim=1),
        "experts.down_proj": moe.experts.down,
    }
    if moe.params.bias_rate is not None:
        weights["gate.e_score_correction_bias"] = moe.router.balance_bias
    if moe.params.shared_d_ff is not None:
        name = "shared_expert" if moe.params.shared_gate else "shared_experts"
        weights |= {f"{name}.{part}_proj.weight": getattr(moe.shared, part).weight for part in ("gate", "up", "down")}
    if moe.params.shared_gate:
        weights["shared_expert_gate.weight"] = moe.shared_gate.weight
    block.load_state_dict(weights)
    return block.eval()


def agree(moe: MoE, block: nn.Module) -> None:
    """Outputs, and the gradients of the input, the router and the experts."""
    mine, theirs = tokens().requires_grad_(), tokens().requires_grad_()
    y, _ = moe(mine)
    expected = copied(moe, block)(theirs)
    torch.testing.assert_close(y, expected, atol=1e-5, rtol=1e-4)
    weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    (y * weight).sum().backward()
    (expected * weight).sum().backward()
    pairs = [
        (mine.grad, theirs.grad),
        (moe.router.weight.grad, block.gate.weight.grad),
        (torch.cat([moe.experts.gate.grad, moe.experts.up.grad], dim=1), block.experts.gate_up_proj.grad),
        (moe.experts.down.grad, block.experts.down_proj.grad),
    ]
    for found, due in pairs:
        torch.testing.assert_close(found, due, atol=1e-5, rtol=1e-4)


def test_it_is_mixtrals_block() -> None:
    from transformers import MixtralConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock

    config = MixtralConfig(hidden_size=D, intermediate_size=HIDDEN, num_local_experts=E, num_experts_per_tok=K)
    agree(built(), MixtralSparseMoeBlock(config))


@pytest.mark.parametrize("normalise", [True, False])
def test_it_is_qwen3s_block(normalise: bool) -> None:
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    config = Qwen3MoeConfig(hidden_size=D, moe_intermediate_size=HIDDEN, num_experts=E, num_experts_per_tok=K, norm_topk_prob=normalise)
    agree(built(normalise=normalise), Qwen3MoeSparseMoeBlock(config))


def test_it_is_qwen2s_block_with_a_gated_shared_expert() -> None:
    from transformers import Qwen2MoeConfig
    from transformers.models.qwen2_moe.modeling_qwen2_moe import Qwen2MoeSparseMoeBlock

    config = Qwen2MoeConfig(
        hidden_size=D,
        moe_intermediate_size=HIDDEN,
        shared_expert_intermediate_size=28,
        num_experts=E,
        num_experts_per_tok=K,
        norm_topk_prob=False,
    )
    agree(built(normalise=False, shared_d_ff=28, shared_gate=True), Qwen2MoeSparseMoeBlock(config))


@pytest.mark.parametrize(("groups", "active"), [(1, 1), (4, 2), (2, 1)])
@pytest.mark.parametrize("normalise", [True, False])
def test_it_is_deepseek_v3s_block_with_groups_a_bias_and_shared_experts(groups: int, active: int, normalise: bool) -> None:
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE

    config = DeepseekV3Config(
        hidden_size=D,
        moe_intermediate_size=HIDDEN,
        n_routed_experts=E,
        num_experts_per_tok=K,
        n_shared_experts=2,
        n_group=groups,
        topk_group=active,
        norm_topk_prob=normalise,
        routed_scaling_factor=2.5,
    )
    moe = built(
        score="sigmoid",
        normalise=normalise,
        n_groups=groups,
        n_active_groups=active,
        weight_scale=2.5,
        bias_rate=0.001,
        shared_d_ff=2 * HIDDEN,
    )
    agree(moe, DeepseekV3MoE(config))


@pytest.mark.parametrize("hidden", [20, 19])
@pytest.mark.parametrize(("rows", "length"), [(1, 1), (2, 9)])
def test_it_is_a_sum_written_token_by_token_for_any_width_and_number_of_tokens(hidden: int, rows: int, length: int) -> None:
    moe, x = built(d_ff=hidden, activation="relu2").double(), tokens(rows, length).double()
    found, _ = moe(x)
    for row in range(rows):
        for place in range(length):
            token = x[row, place]
            scores = (moe.router.weight @ token).softmax(dim=0)
            best = scores.topk(K).indices.tolist()
            due = torch.zeros(D, dtype=torch.float64)
            for e in best:
                hidden_values = (moe.experts.gate[e] @ token).relu() ** 2 * (moe.experts.up[e] @ token)
                due += scores[e] / sum(scores[b] for b in best) * (moe.experts.down[e] @ hidden_values)
            torch.testing.assert_close(found[row, place], due, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("hidden", [20, 19])
def test_gradients_are_right_by_finite_differences(hidden: int) -> None:
    """Of the experts: the router computes in fp32, which finite differences cannot see through."""
    moe = built(d_ff=hidden, n_experts=3, n_active=2).double()
    experts = moe.experts
    routing = moe.router(tokens(1, 4).flatten(0, 1))
    load = torch.bincount(routing.experts.flatten(), minlength=3)

    def run(x: Tensor, weights: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        inputs = {"gate": gate, "up": up, "down": down}
        return torch.func.functional_call(experts, inputs, (x, routing._replace(weights=weights), load))

    values = (tokens(1, 4).flatten(0, 1).double(), routing.weights.double(), experts.gate, experts.up, experts.down)
    assert torch.autograd.gradcheck(run, tuple(value.detach().requires_grad_() for value in values), fast_mode=True)


def test_an_expert_without_tokens_has_a_gradient_of_zero_and_the_router_has_one() -> None:
    moe = built()
    y, aux = moe(tokens(1, 1))
    y.square().sum().backward()
    idle = aux.stats["load"] == 0
    assert int(idle.sum()) == E - K
    assert not moe.experts.down.grad[idle].any()
    assert moe.experts.down.grad[~idle].flatten(1).any(dim=1).all()
    assert moe.router.weight.grad.abs().sum() > 0


def test_compiled_it_is_one_graph_forward_and_backward_with_the_same_numbers() -> None:
    moe, x = built(shared_d_ff=8, z_loss=0.1, bias_rate=0.01), tokens()
    results = []
    for run in (moe, torch.compile(moe, fullgraph=True, backend="aot_eager")):
        moe.zero_grad()
        y, aux = run(x)
        (y.square().sum() + sum(loss.sum() for loss in aux.losses.values())).backward()
        results.append((y, aux, [parameter.grad.clone() for parameter in moe.parameters()]))
    torch.testing.assert_close(results[1], results[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("score", ["softmax", "sigmoid"])
def test_the_balance_loss_is_its_equation_for_each_sequence(score: str) -> None:
    moe, x = built(score=score, balance_loss=0.5), tokens(3, 7)
    _, aux = moe(x)
    for row in range(3):
        logits = (x[row] @ moe.router.weight.T).detach()
        scores = logits.softmax(dim=-1) if score == "softmax" else logits.sigmoid()
        total = 0.0
        for e in range(E):
            chosen = sum(e in sorted(range(E), key=lambda i, token=token: -float(scores[token, i]))[:K] for token in range(7))
            probability = sum(float(scores[token, e] / scores[token].sum()) for token in range(7)) / 7
            total += E / (K * 7) * chosen * probability
        assert aux.losses["balance"][row].item() == pytest.approx(0.5 * total, rel=1e-5)


def test_the_balance_loss_of_one_sequence_is_transformers_divided_by_k() -> None:
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    moe, x = built(balance_loss=1.0), tokens(1, 12)
    logits = x[0] @ moe.router.weight.T
    expected = load_balancing_loss_func((logits,), num_experts=E, top_k=K)
    assert moe(x)[1].losses["balance"].item() == pytest.approx(expected.item() / K, rel=1e-5)


def test_the_balance_loss_is_one_where_experts_are_used_evenly() -> None:
    moe = built(n_active=1, normalise=False, balance_loss=1.0)
    with torch.no_grad():
        moe.router.weight.copy_(torch.eye(E, D) * 1e-3)
    even = torch.eye(E, D)[None]
    assert moe(even)[1].losses["balance"].item() == pytest.approx(1.0, abs=1e-5)
    collapsed = even[:, :1].expand(-1, 8, -1) * 1e6
    assert moe(collapsed)[1].losses["balance"].item() == pytest.approx(E, rel=1e-4)


def test_the_z_loss_is_its_equation_and_losses_without_coefficient_are_not_told() -> None:
    moe, x = built(z_loss=0.25, balance_loss=0.0), tokens(2, 5)
    _, aux = moe(x)
    expected = 0.25 * torch.logsumexp(x @ moe.router.weight.T, dim=-1).square().mean(dim=1)
    torch.testing.assert_close(aux.losses, {"z": expected})
    assert built(balance_loss=0.0)(x)[1].losses == {}


def test_the_load_counts_every_token_k_times() -> None:
    _, aux = built()(tokens(2, 9))
    assert aux.stats["load"].sum() == 2 * 9 * K


def test_loss_free_balancing_moves_each_bias_by_its_rate_towards_the_mean_load() -> None:
    moe = built(bias_rate=0.01)
    before = moe.router.balance_bias.clone()
    load = torch.tensor([0, 1, 2, 3, 5, 6, 7, 0])
    moe.after_step({"load": load})
    assert load.sum() == 3 * E
    torch.testing.assert_close(moe.router.balance_bias - before, torch.tensor([1, 1, 1, 0, -1, -1, -1, 1]) * 0.01)


def test_loss_free_balancing_evens_the_load_of_a_lopsided_router() -> None:
    """The paper's measure: the largest load over the mean, less one (arXiv 2408.15664, MaxVio)."""
    moe, x = built(bias_rate=0.01, score="sigmoid"), tokens(8, 64) + 0.5
    moe.router.reset_buffers()

    def violation() -> float:
        with torch.no_grad():
            load = moe(x)[1].stats["load"]
        moe.after_step({"load": load})
        return float(load.max() / load.double().mean() - 1)

    first = violation()
    last = [violation() for _ in range(150)][-1]
    assert first > 0.5 and last < 0.1


def test_the_bias_chooses_and_does_not_weigh() -> None:
    moe, x = built(bias_rate=0.0, normalise=False), tokens(1, 1)[0]
    scores = (x @ moe.router.weight.T).softmax(dim=-1)
    moe.router.balance_bias.zero_()
    moe.router.balance_bias[int(scores.argmin())] = 10.0
    routing = moe.router(x)
    assert int(scores.argmin()) in routing.experts
    torch.testing.assert_close(routing.weights, scores.gather(-1, routing.experts))


def test_a_bias_whose_rate_is_zero_stays_and_without_a_rate_there_is_none() -> None:
    still = built(bias_rate=0.0)
    before = still.router.balance_bias.clone()
    still.after_step({"load": torch.arange(E)})
    assert torch.equal(still.router.balance_bias, before)
    assert "router.balance_bias" in still.state_dict()
    assert not list(built().buffers())


@pytest.mark.parametrize("device_dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_products_are_lowered_and_the_router_is_not(device_dtype: torch.dtype) -> None:
    moe, x = built(shared_d_ff=8), tokens()
    exact, _ = moe(x)
    with torch.autocast("cpu", dtype=device_dtype):
        y, aux = moe(x)
        logits = moe.router(x.flatten(0, 1)).logits
    assert y.dtype == device_dtype and logits.dtype == aux.losses["balance"].dtype == torch.float32
    assert torch.equal(logits, moe.router(x.flatten(0, 1)).logits)
    torch.testing.assert_close(y.float(), exact, atol=0.05, rtol=0.05)
    y.float().sum().backward()
    assert moe.experts.gate.grad.dtype == torch.float32


def test_flops_are_those_of_the_experts_in_use() -> None:
    """Mixtral 8x7B: 176 million multiply-adds in each of two experts a token, and the router's."""
    site = Site(d_model=4096, width=4096, n_layers=1, layer=0, max_seq_len=16, vocab_size=10)
    with torch.device("meta"):
        mixtral = MoE(MoEParams(n_experts=8, n_active=2, d_ff=14336), site)
        shared = MoE(MoEParams(n_experts=8, n_active=2, d_ff=64, shared_d_ff=96, shared_gate=True), site)
    assert mixtral.flops(10) == 2 * 10 * (2 * 3 * 4096 * 14336 + 4096 * 8)
    assert sum(parameter.numel() for parameter in mixtral.parameters()) == 8 * 3 * 4096 * 14336 + 4096 * 8
    assert shared.flops(1) == 2 * 4096 * (2 * 3 * 64 + 3 * 96 + 8 + 1)


def test_an_expert_is_as_wide_as_makes_a_tokens_weights_those_of_a_swiglu() -> None:
    assert MoEParams(n_experts=8, n_active=2).hidden(768) * 2 == 2048
    assert math.isclose(MoEParams(n_experts=64, n_active=8).hidden(2048) * 8, 8 / 3 * 2048, rel_tol=0.1)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"n_experts": 2, "n_active": 3}, "n_active 3 is more than n_experts 2"),
        ({"n_experts": 8, "n_active": 1}, "with n_active 1 a normalised weight is always 1"),
        ({"n_experts": 8, "n_active": 2, "n_groups": 3}, "n_experts 8 cannot be divided into n_groups 3"),
        ({"n_experts": 8, "n_active": 2, "n_groups": 2, "n_active_groups": 3}, "n_active_groups 3 is more than n_groups 2"),
        ({"n_experts": 8, "n_active": 3, "n_groups": 4}, "n_active_groups 1 of 2 experts each hold fewer than n_active 3"),
        ({"n_experts": 8, "n_active": 2, "shared_gate": True}, "shared_gate needs a shared expert; give shared_d_ff"),
    ],
)
def test_what_cannot_be_is_refused_with_the_numbers(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        MoEParams(**params)
