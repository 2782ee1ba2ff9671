"""However ranks share a model and its batches, they train as one process does, and take over from each other."""

import json
from pathlib import Path

import pytest
import torch
from arrangements import MODELS, Job
from safetensors.torch import load_file

from llmkit.runtime import load_spec
from llmkit.train.loop import train

PIPED = ("train.micro_batch_size=1",)
TWO = [
    *(Job(f"fsdp-{model}", model, {"dp_shard": 2}) for model in MODELS),
    *(Job(f"tp-{model}", model, {"tp": 2}) for model in MODELS),
    Job("pp-moe", "moe", {"pp": 2}, PIPED),
    Job("pp-hybrid", "hybrid", {"pp": 2}, PIPED),
    Job("cp-dense", "dense", {"cp": 2}, ("data.mask_documents=true",)),
    Job("cp-hybrid", "hybrid", {"cp": 2}),
    Job("gpipe-dense", "dense", {"pp": 2, "schedule": "gpipe"}, ("train.micro_batch_size=2",)),
]
FOUR = [
    Job("hsdp-dense", "dense", {"dp_replicate": 2, "dp_shard": 2}),
    Job("fsdp-tp-moe", "moe", {"dp_shard": 2, "tp": 2}),
    Job("fsdp-pp-hybrid", "hybrid", {"dp_shard": 2, "pp": 2}, PIPED),
    Job("pp4-hybrid", "hybrid", {"pp": 4}, PIPED),
]
TOLERANCE = 2e-5


def rows(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def losses(run: Path) -> list[float]:
    return [row[key] for row in rows(run) for key in ("loss", "val_loss") if key in row]


def norms(run: Path) -> list[float]:
    return [row["grad_norm"] for row in rows(run) if "grad_norm" in row]


def alone(spec: str, out: Path, *overrides: str, resume: str = "auto") -> Path:
    train(load_spec(spec, overrides), out=out, resume=resume)
    return out


def assert_alike(run: Path, reference: Path) -> None:
    """Losses and gradient norms of all steps that the run made, the validation loss, and the last weights."""
    assert losses(run) == pytest.approx(losses(reference)[-len(losses(run)) :], abs=TOLERANCE), run.name
    assert norms(run) == pytest.approx(norms(reference)[-len(norms(run)) :], rel=1e-3), run.name
    ours, theirs = (load_file(one / "checkpoints/step-00000020/model.safetensors") for one in (run, reference))
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=2e-3, rtol=0, msg=lambda text, name=name: f"{run.name}: {name}: {text}")


@pytest.mark.slow
def test_two_ranks_train_as_one_process_however_they_share_the_work(spec_of, launch, tmp_path):
    references = {model: alone(spec_of(model), tmp_path / model) for model in MODELS}
    masked = alone(spec_of("dense"), tmp_path / "masked", "data.mask_documents=true")
    launch(2, TWO)
    for job in TWO:
        assert_alike(tmp_path / job.name, masked if "data.mask_documents=true" in job.overrides else references[job.model])


@pytest.mark.slow
def test_four_ranks_share_along_two_axes_and_go_on_from_what_others_wrote(spec_of, launch, tmp_path):
    references = {model: alone(spec_of(model), tmp_path / model) for model in MODELS}
    at_ten = "checkpoints/step-00000010"
    taken_over = [
        Job("one-to-tp", "moe", {"dp_replicate": 2, "tp": 2}, resume=str(tmp_path / "moe" / at_ten)),
        Job("pp-to-fsdp", "hybrid", {"dp_shard": 4}, resume=str(tmp_path / "pp4-hybrid" / at_ten)),
    ]
    launch(4, [*FOUR, *taken_over])
    for job in (*FOUR, *taken_over):
        assert_alike(tmp_path / job.name, references[job.model])
    back = alone(spec_of("moe"), tmp_path / "back", resume=str(tmp_path / "fsdp-tp-moe" / at_ten))
    assert_alike(back, references["moe"])
