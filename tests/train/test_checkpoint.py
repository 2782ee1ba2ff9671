"""Checkpoints by themselves: what goes in comes out, what is damaged is named, and what cannot be written leaves no trace."""

import json
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

import llmkit
from llmkit.core.errors import UserError
from llmkit.core.interfaces.objective import Batch, Loss
from llmkit.core.site import Site
from llmkit.model.init import initialise, named_parameters_with_roles
from llmkit.plugins.objectives.causal import Causal
from llmkit.plugins.objectives.components import CausalParams
from llmkit.train import checkpoint
from llmkit.train.keep import KeepRule
from llmkit.train.step import TrainStep


class Tempered(Causal):
    """The causal objective with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__(CausalParams(), Site(d_model=32, width=32, n_layers=2, layer=0, max_seq_len=32, vocab_size=257))
        self.temperature = nn.Parameter(torch.ones(3))

    def forward(self, model: nn.Module, batch: Batch) -> Loss:
        loss = super().forward(model, batch)
        return loss._replace(total=loss.total * self.temperature.mean())


def made(spec) -> tuple[TrainStep, list, torch.optim.Optimizer]:
    step = TrainStep(llmkit.build(spec), Tempered())
    initialise(step.objective, spec.model, 0, prefix="objective.")
    parameters = named_parameters_with_roles(step, spec.model)
    return step, parameters, spec.train.optimizer.make().build(parameters)


def trained(step: TrainStep, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for seed in range(steps):
        ids = torch.randint(258, (2, 9), generator=torch.Generator().manual_seed(seed))
        step(Batch(ids[:, :-1], ids[:, 1:])).total.backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("optimizer", [{"type": "adamw", "lr": 1e-3}, {"type": "sgd", "lr": 1e-2, "momentum": 0.9}])
def test_weights_and_optimizer_come_back_so_that_the_next_steps_are_the_same_bit_for_bit(tiny, tmp_path, optimizer):
    tiny["train"]["optimizer"] = optimizer
    spec = llmkit.load_spec(tiny)
    step, parameters, torch_optimizer = made(spec)
    trained(step, torch_optimizer, 3)
    written = checkpoint.write(tmp_path, 3, step, optimizer=torch_optimizer, parameters=parameters, trainer={"tokens": 48})
    again, other_parameters, other_optimizer = made(spec)
    written.load_model(again)
    written.load_optimizer(other_optimizer, other_parameters)
    assert written.trainer() == {"step": 3, "tokens": 48}
    for module, chosen in ((step, torch_optimizer), (again, other_optimizer)):
        trained(module, chosen, 2)
    for left, right in zip(step.parameters(), again.parameters(), strict=True):
        assert torch.equal(left, right)


def test_saved_keys_are_the_models_own_and_an_objectives_parameters_lie_under_its_name(tiny, tmp_path):
    spec = llmkit.load_spec(tiny)
    step, _, _ = made(spec)
    saved = checkpoint.saved_tensors(step)
    assert set(saved) == {name for name, _ in step.model.named_parameters()} | {"objective.temperature"}
    checkpoint.write(tmp_path, 0, step, trainer={})
    model = llmkit.build(spec, seed=7)
    checkpoint.listed(tmp_path)[0].load_model(model)
    assert torch.equal(model.embedding.weight, step.model.embedding.weight)
    assert model.head.weight is model.embedding.weight


def test_weights_of_another_shape_or_model_are_refused_by_name(tiny, tmp_path):
    checkpoint.write(tmp_path, 0, llmkit.build(llmkit.load_spec(tiny)), trainer={})
    found = checkpoint.listed(tmp_path)[0]
    with pytest.raises(UserError, match=r"'embedding\.weight' is \(258, 32\), the model's is \(258, 64\)"):
        found.load_model(llmkit.build(llmkit.load_spec(tiny, overrides=["model.d_model=64"])))
    with pytest.raises(UserError, match=r"no weight 'blocks\.2\."):
        found.load_model(llmkit.build(llmkit.load_spec(tiny, overrides=["model.n_layers=3"])))
    with pytest.raises(UserError, match=r"weights that the model lacks: blocks\.1\."):
        found.load_model(llmkit.build(llmkit.load_spec(tiny, overrides=["model.n_layers=1"])))


@pytest.mark.parametrize("name", [checkpoint.MODEL, checkpoint.TRAINER])
def test_one_flipped_bit_in_any_file_is_found(tiny, tmp_path, name):
    written = checkpoint.write(tmp_path, 5, llmkit.build(llmkit.load_spec(tiny)), trainer={})
    assert written.damage() is None
    path = written.directory / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert written.damage() == f"{name} does not have its checksum"


def test_what_died_half_written_is_no_checkpoint_and_the_next_one_sweeps_it_away(tiny, tmp_path):
    model = llmkit.build(llmkit.load_spec(tiny))
    for step in (2, 10, 100_000_000):
        checkpoint.write(tmp_path, step, model, trainer={})
    (tmp_path / ".step-00000011.part").mkdir()
    (tmp_path / ".step-00000009.old.part").mkdir()
    (tmp_path / "step-of-mine").mkdir()
    assert [one.step for one in checkpoint.listed(tmp_path)] == [100_000_000, 10, 2]
    checkpoint.write(tmp_path, 12, model, trainer={})
    assert not list(tmp_path.glob(".step*")) and (tmp_path / "step-of-mine").is_dir()


def test_a_checkpoint_of_a_step_that_has_one_takes_its_place(tiny, tmp_path):
    model = llmkit.build(llmkit.load_spec(tiny))
    for tokens in (1, 2):
        written = checkpoint.write(tmp_path, 3, model, trainer={"tokens": tokens})
    assert written.trainer()["tokens"] == 2 and written.damage() is None
    assert [path.name for path in tmp_path.iterdir() if path.is_dir() and path.name != "cache"] == ["step-00000003"]


def test_what_the_rule_does_not_keep_is_removed(tiny, tmp_path):
    model = llmkit.build(llmkit.load_spec(tiny))
    for step in range(1, 8):
        checkpoint.write(tmp_path, step, model, trainer={})
    checkpoint.prune(tmp_path, KeepRule(last=1, every=3, best=True), {2: 1.0, 4: 2.0})
    assert [one.step for one in checkpoint.listed(tmp_path)] == [7, 6, 3, 2]


@pytest.mark.parametrize("room", [1_000, 100_000])
def test_a_full_disk_is_told_with_a_remedy_and_leaves_nothing_half_written(tiny, tmp_path, room):
    """The largest file size that the system allows stands in for the disk: 41,184 numbers in fp32 do not fit."""
    script = textwrap.dedent(
        """
        import json, resource, sys
        from pathlib import Path
        import llmkit
        from llmkit.core.errors import UserError
        from llmkit.train import checkpoint
        model = llmkit.build(llmkit.load_spec(json.loads(sys.argv[1])))
        checkpoint.write(Path(sys.argv[2]), 1, model, trainer={})
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)
        try:
            checkpoint.write(Path(sys.argv[2]), 2, model, trainer={})
        except UserError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(tiny), str(tmp_path / "checkpoints"), str(room)], capture_output=True, text=True
    )
    words = ("checkpoints/step-00000002", "File too large", "the earlier checkpoints are as they were", "free some space on its disk")
    assert all(word in done.stdout for word in words), (done.stdout, done.stderr)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000001"]
