"""What an engine computes in: masters, their copies, blocks that compute again, and a compiler that is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from listening import Listening
from safetensors.torch import load_file
from torch import nn

import llmkit
from llmkit.core.interfaces.objective import Batch
from llmkit.train import world
from llmkit.train.engine import Engine, _become
from llmkit.train.loop import train
from llmkit.train.precision import Masters
from llmkit.train.record import resolved


def engine(document: dict[str, Any], *overrides: str) -> Engine:
    accelerator = world.begin([], ".")
    return Engine(resolved(llmkit.load_spec(document, overrides=overrides), accelerator.device), accelerator)


def trained(document: dict[str, Any], out: Path, *overrides: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    result = train(llmkit.load_spec(document, overrides=overrides), out=out)
    return result, load_file(out / "checkpoints" / "step-00000010" / "model.safetensors")


def test_masters_are_fp32_and_what_computes_is_their_rounding(tiny: dict[str, Any]) -> None:
    made = engine(tiny, "train.precision=bf16")
    assert {one.parameter.dtype for one in made.parameters} == {torch.float32}
    assert {parameter.dtype for parameter in made.root.parameters()} == {torch.bfloat16}
    saved = made.saved()
    for name, parameter in made.model.named_parameters():
        assert torch.equal(parameter, saved[name].to(torch.bfloat16))


def test_bf16_gradients_of_micro_batches_add_up_in_fp32() -> None:
    linear = nn.Linear(1, 1, bias=False)
    nn.init.ones_(linear.weight)
    masters = Masters(linear, "bf16")
    # 256 + 1 is 256 in bf16: a sum in bf16 would lose every one of the small ones.
    for slope in [256.0, *[1.0] * 100]:
        (linear(torch.ones(1, 1, dtype=torch.bfloat16)) * slope).sum().backward()
    assert masters.parameters[0].grad is not None
    assert masters.parameters[0].grad.item() == 356
    assert linear.weight.grad is None


def test_updates_too_small_for_bf16_are_kept_by_the_masters() -> None:
    linear = nn.Linear(1, 1, bias=False)
    nn.init.ones_(linear.weight)
    masters = Masters(linear, "bf16")
    for _ in range(100):
        with torch.no_grad():
            masters.parameters[0].add_(2**-10)
        masters.refresh()
    assert linear.weight.item() == pytest.approx(1 + 100 / 1024, abs=2**-8)


def test_bf16_learns_what_fp32_learns(tiny: dict[str, Any], tmp_path: Path) -> None:
    full, _ = trained(tiny, tmp_path / "full")
    losses = {mode: trained(tiny, tmp_path / mode, f"train.precision={mode}")[0]["val_loss"] for mode in ("bf16", "bf16_autocast")}
    assert losses == pytest.approx(dict.fromkeys(losses, full["val_loss"]), rel=5e-3)


def test_computing_again_and_masters_elsewhere_change_no_bit_of_a_run(tiny: dict[str, Any], tmp_path: Path) -> None:
    _, plain = trained(tiny, tmp_path / "plain")
    for index, override in enumerate(("train.recompute=full", "train.recompute=selective", "train.offload_optimizer=true")):
        _, other = trained(tiny, tmp_path / str(index), override)
        assert all(torch.equal(plain[name], other[name]) for name in plain), override


def test_without_a_compiler_the_run_goes_on_as_it_is_and_says_why(tiny: dict[str, Any], tmp_path: Path) -> None:
    from torch._inductor import config
    from torch._inductor.utils import fresh_inductor_cache

    told = Listening()
    spec = llmkit.load_spec(tiny, overrides=["train.compile=true", "train.steps=3"])
    with fresh_inductor_cache(), config.patch({"cpp.cxx": ("no-such-compiler",)}):
        result = train(spec, out=tmp_path / "run", reporter=told)
    assert result["step"] == 3
    assert any("train.compile is left out" in line and "compiler" in line.lower() for line in told.said)
    plain = train(llmkit.load_spec(tiny, overrides=["train.steps=3"]), out=tmp_path / "plain")
    assert plain["train_loss"] == result["train_loss"]


def steps_of(made: Engine) -> tuple[list[float], list[torch.Tensor]]:
    """Losses and norms of four steps of unequal micro-batches, the second discarded, and the weights afterwards."""
    generator = torch.Generator().manual_seed(1)
    micros = []
    for rows in (2, 3, 1):
        ids = torch.randint(made.spec.vocab_size, (rows, 17), generator=generator)
        micros.append(Batch(ids[:, :-1], ids[:, 1:]))
    told = []
    for step in range(4):
        if step == 2:
            # A forward pass that no backward pass follows, and an evaluation: neither takes the next one's memory.
            made.module(micros[0])
            with made.evaluating():
                made.nats(micros)
        loss, _ = made.gradients(micros, made.summed(sum(made.objective.count(batch) for batch in micros)))
        told += [float(loss), float(made.clip(1.0))]
        (made.discard if step == 1 else made.update)()
    return told, [one.parameter.detach().clone() for one in made.parameters]


@pytest.mark.parametrize("tied", ["true", "false"])
@pytest.mark.parametrize("objective", ["causal", "multi_token"])
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-5), ("bf16", 2e-3)])
def test_gradients_of_tables_that_add_up_in_place_are_those_of_autograd(
    tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tied: str, objective: str, precision: str, tolerance: float
) -> None:
    overrides = [f"model.tie_embeddings={tied}", f"train.objective={objective}", f"train.precision={precision}"]
    plain = engine(tiny, *overrides)
    monkeypatch.setattr("llmkit.train.engine.LARGE", 1)
    in_place = engine(tiny, *overrides)
    assert len(plain.tables) == 0 and len(in_place.tables) == (1 if tied == "true" else 2)
    (told, weights), (told_in_place, weights_in_place) = steps_of(plain), steps_of(in_place)
    assert told_in_place == pytest.approx(told, rel=tolerance)
    for mine, theirs in zip(weights_in_place, weights, strict=True):
        assert float((mine - theirs).norm()) <= 20 * tolerance * float(theirs.norm())
    assert all(one.parameter.grad is None for one in in_place.parameters)
    for table in in_place.tables:
        kept = table.lend()
        assert kept.untyped_storage().nbytes() == table.parameter.numel() * 4


def test_a_gradient_summed_over_ranks_takes_the_memory_that_is_there_and_no_more() -> None:
    parameter, all_of_them = nn.Parameter(torch.zeros(2, 3)), torch.arange(100.0)
    _become(parameter, all_of_them[:6].view(2, 3))
    first = parameter.grad
    assert first is not None and first.untyped_storage().nbytes() == 24
    _become(parameter, all_of_them[6:12].view(2, 3))
    assert parameter.grad is first and first.flatten().tolist() == [6, 7, 8, 9, 10, 11]
    _become(parameter, None)
    assert parameter.grad is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc is told to keep what is freed")
def test_what_building_left_in_memory_is_given_back_after_the_first_update() -> None:
    from llmkit.train.allocator import give_back_freed_memory, keep_freed_memory

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    if not keep_freed_memory():
        pytest.skip("no glibc")
    blocks = [torch.ones(1 << 20) for _ in range(64)]
    kept = torch.ones(1)
    del blocks
    before = resident()
    assert give_back_freed_memory()
    assert before - resident() > 128 << 20 and kept.item() == 1
