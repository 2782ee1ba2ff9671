"""The same with a line of its log every step, which is what llmkit writes."""

from __future__ import annotations

from benchmarks.training.ways import transformers_trainer
from benchmarks.training.worker import Conductor, Job


def train(job: Job, conductor: Conductor) -> None:
    transformers_trainer.train(job, conductor, logging_steps=1)
