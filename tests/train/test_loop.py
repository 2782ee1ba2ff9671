"""What training promises: the same numbers however a step is cut, falling loss, and a directory that tells what happened."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import llmkit
from llmkit.core.errors import UserError
from llmkit.data.prepare import prepare
from llmkit.model.language_model import ModelLM
from llmkit.train.loop import train
from llmkit.train.recovery import Diverged


def rows(run: Path, name: str = "metrics") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [row["loss"] for row in rows(run) if "loss" in row]


def test_training_lowers_the_loss_from_that_of_a_model_that_knows_nothing(tiny, tmp_path):
    tiny["train"]["steps"] = 40
    result = train(llmkit.load_spec(tiny), out=tmp_path / "run")
    curve = losses(tmp_path / "run")
    assert curve[0] == pytest.approx(math.log(258), abs=0.1)
    assert curve[-1] < curve[0] - 1.5
    assert result["step"] == 40 and result["tokens"] == 40 * 4 * 32
    assert result["train_loss"] == curve[-1]


@pytest.mark.parametrize("micro", [1, 2])
def test_accumulation_equals_the_big_batch(tiny, tmp_path, micro):
    train(llmkit.load_spec(tiny), out=tmp_path / "big")
    tiny["train"]["micro_batch_size"] = micro
    train(llmkit.load_spec(tiny), out=tmp_path / "cut")
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "big"), abs=1e-5)
    big, cut = (llmkit.load_run(tmp_path / name).model.state_dict() for name in ("big", "cut"))
    for name in big:
        torch.testing.assert_close(cut[name], big[name], atol=2e-5, rtol=1e-4)


def test_the_same_spec_gives_the_same_weights_bit_for_bit_and_another_seed_does_not(tiny, tmp_path):
    for name in ("a", "b"):
        train(llmkit.load_spec(tiny), out=tmp_path / name)
    tiny["train"]["seed"] = 1
    train(llmkit.load_spec(tiny), out=tmp_path / "c")
    a, b, c = (llmkit.load_run(tmp_path / name).model.state_dict() for name in "abc")
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert not torch.equal(a["embedding.weight"], c["embedding.weight"])


def test_initial_values_and_data_order_may_each_have_a_seed_of_their_own(tiny, tmp_path):
    def run(**seeds):
        out = tmp_path / "-".join(f"{name}{seed}" for name, seed in seeds.items())
        tiny["train"] |= {"steps": 1, "init_seed": None, "data_seed": None, **seeds}
        spec = llmkit.load_spec(tiny)
        train(spec, out=out)
        first = json.loads((out / "ledger.jsonl").read_text().splitlines()[0])["items"]
        return llmkit.build(spec).embedding.weight, first

    weights, order = run(seed=0)
    other_weights, other_order = run(seed=1)
    assert not torch.equal(weights, other_weights) and order != other_order
    salted = run(seed=0, init_seed=1)
    assert torch.equal(salted[0], other_weights) and salted[1] == order
    shuffled = run(seed=0, data_seed=1)
    assert torch.equal(shuffled[0], weights) and shuffled[1] == other_order


def test_the_first_step_equals_a_loop_written_by_hand(tiny, tmp_path):
    tiny["train"] |= {"steps": 1, "grad_clip": None, "optimizer": {"type": "sgd", "lr": 0.5, "momentum": 0.0}, "schedule": "constant"}
    spec = llmkit.load_spec(tiny)
    train(spec, out=tmp_path / "run")
    model = llmkit.build(spec)
    from llmkit.data.batches import Batches

    batch = Batches(prepare(spec).train, seq_len=32, batch_size=4, seed=0).batch(
        Batches(prepare(spec).train, seq_len=32, batch_size=4, seed=0).items(0)
    )
    loss = torch.nn.functional.cross_entropy(model(batch.ids).flatten(0, 1), batch.targets.flatten())
    loss.backward()
    rate = rows(tmp_path / "run")[0]["learning_rate"]
    trained = llmkit.load_run(tmp_path / "run").model.state_dict()
    assert losses(tmp_path / "run")[0] == pytest.approx(loss.item(), abs=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(trained[name], parameter.detach() - rate * parameter.grad, atol=1e-6, rtol=1e-5)


def test_validation_during_training_equals_the_evaluators_bits_per_byte(tiny, tmp_path):
    spec = llmkit.load_spec(tiny)
    result = train(spec, out=tmp_path / "run")
    run = llmkit.load_run(tmp_path / "run")
    lm = ModelLM(run.model, run.tokenizer, seq_len=32)
    scores = lm.stream(prepare(spec).validation_documents())
    nats, tokens, size = (sum(getattr(one, field) for one in scores) for field in ("nats", "tokens", "bytes"))
    assert result["val_loss"] == pytest.approx(nats / tokens, rel=1e-6)
    assert result["val_bits_per_byte"] == pytest.approx(nats / math.log(2) / size, rel=1e-6)


def test_every_row_has_the_keys_of_the_contract_and_every_step_is_told_once(tiny, tmp_path):
    tiny["train"] |= {"eval_every": 4, "sample_every": 5, "sample_prompts": ["the model"], "sample_tokens": 5}
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    told = rows(tmp_path / "run")
    training = [row for row in told if "loss" in row]
    assert [row["step"] for row in training] == list(range(1, 11))
    assert all({"step", "tokens", "loss", "learning_rate", "grad_norm", "tokens_per_second"} <= set(row) for row in training)
    assert [row["step"] for row in told if "val_loss" in row] == [4, 8, 10]
    assert all({"val_loss", "val_bits_per_byte", "step", "tokens"} <= set(row) for row in told if "val_loss" in row)
    assert [row["step"] for row in rows(tmp_path / "run", "samples")] == [5, 10]
    ledger = rows(tmp_path / "run", "ledger")
    assert [row["step"] for row in ledger] == list(range(1, 11))
    assert all(len(row["items"]) == 4 for row in ledger)


def test_the_run_directory_holds_the_filled_spec_which_loads_as_the_same_spec(tiny, tmp_path):
    spec = llmkit.load_spec(tiny)
    train(spec, out=tmp_path / "run")
    written = yaml.safe_load((tmp_path / "run" / "spec.yaml").read_text())
    assert written["train"]["optimizer"]["betas"] == [0.9, 0.95]
    assert written["derived"]["model.vocab_size"] == 258
    assert llmkit.load_run(tmp_path / "run").spec.model_dump() == spec.model_dump()


def test_a_saved_file_holds_the_models_own_keys_each_weight_once_and_no_pickle(tiny, tmp_path):
    from safetensors import safe_open

    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    checkpoint = tmp_path / "run" / "checkpoints" / "step-00000010"
    with safe_open(checkpoint / "model.safetensors", "pt") as file:
        keys = set(file.keys())
    assert "embedding.weight" in keys and "head.weight" not in keys
    assert not [key for key in keys if "_orig_mod" in key or "module" in key or key.startswith("model.")]
    assert {path.suffix for path in checkpoint.iterdir()} == {".json", ".safetensors"}
    assert "llmkit." not in (checkpoint / "optimizer.json").read_text()


def test_a_loss_that_is_no_number_ends_the_run_and_leaves_its_checkpoints(tiny, tmp_path):
    tiny["train"] |= {"optimizer": {"type": "sgd", "lr": 1e30}, "grad_clip": None, "schedule": "constant", "checkpoint_every": 1}
    with pytest.raises(Diverged, match=r"loss is .*lower train\.optimizer\.lr"):
        train(llmkit.load_spec(tiny), out=tmp_path / "run")
    assert (tmp_path / "run" / "checkpoints" / "step-00000001").is_dir()


def test_bf16_trains_and_is_stored_as_what_auto_became(tiny, tmp_path):
    tiny["train"]["precision"] = "bf16"
    train(llmkit.load_spec(tiny), out=tmp_path / "bf16")
    tiny["train"]["precision"] = "fp32"
    train(llmkit.load_spec(tiny), out=tmp_path / "fp32")
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "fp32"), abs=0.05)
    assert losses(tmp_path / "bf16") != losses(tmp_path / "fp32")
    tiny["train"] |= {"precision": "auto", "steps": 1}
    train(llmkit.load_spec(tiny), out=tmp_path / "auto")
    assert llmkit.load_run(tmp_path / "auto").spec.train.precision in ("bf16", "fp32")


def test_fp16_on_a_cpu_is_refused_with_the_remedy(tiny, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device, where fp16 works")
    tiny["train"]["precision"] = "fp16"
    with pytest.raises(UserError, match=r"fp16 needs a CUDA device.*use bf16"):
        train(llmkit.load_spec(tiny), out=tmp_path / "run")


def test_compiled_blocks_give_the_same_losses(tiny, tmp_path):
    train(llmkit.load_spec(tiny), out=tmp_path / "eager")
    tiny["train"]["compile"] = True
    train(llmkit.load_spec(tiny), out=tmp_path / "compiled")
    assert losses(tmp_path / "compiled") == pytest.approx(losses(tmp_path / "eager"), abs=1e-4)


def test_a_tensorboard_tracker_is_one_key_in_the_spec(tiny, tmp_path):
    pytest.importorskip("tensorboard")
    tiny["train"]["trackers"] = ["tensorboard"]
    train(llmkit.load_spec(tiny), out=tmp_path / "run")
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))


@pytest.mark.parametrize(("tracker", "words"), [("tensorbord", "accelerate knows .*tensorboard"), ("clearml", "package is not installed")])
def test_a_tracker_that_would_be_dropped_silently_is_refused(tiny, tmp_path, tracker, words):
    tiny["train"]["trackers"] = [tracker]
    with pytest.raises(UserError, match=words):
        train(llmkit.load_spec(tiny), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
