"""llmkit's own way: the Trainer, its data order, metrics, ledger and progress, on a token file of random tokens."""

from __future__ import annotations

import io
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from rich.console import Console
from torch import Tensor

from benchmarks.training.shapes import Shape
from benchmarks.training.ways.loop import bytes_of
from benchmarks.training.worker import Conductor, Job
from llmkit import load_spec
from llmkit.core.catalog import Catalog
from llmkit.core.spec import Spec
from llmkit.data.prepare import Prepared
from llmkit.data.tokens import TokenFile, TokenWriter, seal
from llmkit.runtime import catalog
from llmkit.train import world
from llmkit.train.loop import Trainer
from llmkit.train.progress import Screen
from llmkit.train.record import resolved
from llmkit.train.resume import Start
from llmkit.train.run import RunDirectory
from llmkit.train.signals import StopWish

STEPS = 100_000
"""More than anyone waits for: the schedule needs an end."""


class Gate(Screen):
    """Tells what it is told to nobody, and lets the conductor hold the loop between two steps."""

    def __init__(self, conductor: Conductor) -> None:
        super().__init__(Console(file=io.StringIO()))
        self._conductor = conductor

    def step(self, row: dict[str, Any], total: int) -> None:
        super().step(row, total)
        self._conductor.tick()


def train(job: Job, conductor: Conductor) -> None:
    with TemporaryDirectory() as directory:
        trainer = trainer_of(spec_of(job.shape, job.precision, job.compiled), Path(directory), Gate(conductor), conductor)
        trainer.run(Start(), StopWish())


def trainer_of(spec: Spec, directory: Path, reporter: Screen, conductor: Conductor, known: Catalog | None = None) -> Trainer:
    known = known or catalog()
    prepared = random_tokens(spec, directory)
    conductor.begin()
    accelerator = world.begin([], str(directory))
    trainer = Trainer(resolved(spec, accelerator.device), RunDirectory(directory / "run"), prepared, accelerator, known, reporter)
    conductor.held = lambda: held(trainer)
    return trainer


def spec_of(shape: Shape, precision: str, compiled: bool, *, chosen: dict[str, Any] | None = None, known: Catalog | None = None) -> Spec:
    """The spec of a shape; `chosen` is laid over its `train`, and `known` are the components that it may name."""
    train = {
        "steps": STEPS,
        "batch_size": shape.batch,
        "precision": precision,
        "compile": compiled,
        "optimizer": {"type": "adamw", "lr": 1e-4},
        "schedule": "constant",
    }
    model = {
        "d_model": shape.width,
        "n_layers": shape.layers,
        "max_seq_len": shape.length,
        "vocab_size": shape.vocabulary,
        **(_llama(shape) if shape.family == "llama" else _gpt(shape)),
    }
    return load_spec({"name": "training", "tokenizer": "bytes", "model": model, "train": train | (chosen or {})}, catalog=known)


def _llama(shape: Shape) -> dict[str, Any]:
    attention = {"type": "gqa", "n_heads": shape.heads, "n_kv_heads": shape.kv_heads}
    block = {"attention": attention, "ffn": {"type": "swiglu", "d_ff": shape.d_ff}, "norm": "rmsnorm"}
    return {"position": "rope", "block": block}


def _gpt(shape: Shape) -> dict[str, Any]:
    block = {
        "attention": {"type": "mha", "n_heads": shape.heads, "bias": True},
        "ffn": {"type": "mlp", "d_ff": shape.d_ff, "activation": "gelu", "bias": True},
        "norm": "layernorm",
    }
    return {"position": "learned", "block": block, "tie_embeddings": True}


def random_tokens(spec: Spec, directory: Path) -> Prepared:
    """Token files as `prepare` leaves them, of tokens that no text has: all of the vocabulary is used."""
    chosen = spec.tokenizer
    tokenizer = chosen.component.resolve().train(chosen.params, ())
    (directory / "tokenizer").mkdir()
    tokenizer.save(directory / "tokenizer")
    draws = np.random.default_rng(0)
    facts: dict[str, Any] = {"vocab_size": spec.vocab_size, "eos_id": 0, "tokenizer": tokenizer.fingerprint()}
    for name, length in (("train", 2_000_000), ("validation", 10_000)):
        with TokenWriter(directory, name, **facts) as writer:
            writer.add("random", draws.integers(1, spec.vocab_size, length), length)
        seal(directory, name, sources={"random": 1})
    files = (TokenFile(directory, name, tokenizer=tokenizer.fingerprint()) for name in ("train", "validation"))
    return Prepared(tokenizer, directory / "tokenizer", *files, "random")


def held(trainer: Trainer) -> int:
    """Bytes of weights, gradients and optimizer states; working weights beside their masters are weights as well."""
    engine = trainer.engine
    updated = [named.parameter for named in engine.parameters]
    weights = {id(one): one for one in (*engine.root.parameters(), *updated)}
    states = [value for state in engine.optimizer.state.values() for value in state.values() if isinstance(value, Tensor)]
    return bytes_of(list(weights.values())) + bytes_of(updated) + bytes_of(states)
