"""The same model in transformers' Trainer as it is by default: a line of its log every 500 steps, no checkpoints, no trackers."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

from transformers import Trainer, TrainerCallback, TrainingArguments

from benchmarks.training.ways.accelerate_loop import Sequences
from benchmarks.training.ways.bare import module_of
from benchmarks.training.worker import Conductor, Job


class Gate(TrainerCallback):  # type: ignore[misc]
    """Lets the conductor hold the loop between two steps."""

    def __init__(self, conductor: Conductor) -> None:
        self._conductor = conductor

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self._conductor.tick()


def train(job: Job, conductor: Conductor, **options: Any) -> None:
    conductor.begin()
    with TemporaryDirectory() as directory:
        arguments = TrainingArguments(
            directory,
            max_steps=1_000_000,
            per_device_train_batch_size=job.shape.batch,
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            **options,
        )
        Trainer(module_of(job.shape), arguments, train_dataset=Sequences(job.shape), callbacks=[Gate(conductor)]).train()
