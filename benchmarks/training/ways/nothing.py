"""llmkit's loop around an objective that looks at no token: one number of its own is the loss. What is left is the loop."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from benchmarks.training.ways.ours import Gate, spec_of, trainer_of
from benchmarks.training.worker import Conductor, Job
from llmkit import Batch, Component, Kind, Loss, Objective, Params, Site
from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.interfaces.objective import LanguageModule
from llmkit.runtime import catalog
from llmkit.train.resume import Start
from llmkit.train.signals import StopWish

NAME = "benchmarks.nothing"


class NothingParams(Params):
    """It takes nothing."""


class Nothing(Objective):
    """A number that is learned, whatever the batch."""

    def __init__(self, params: NothingParams, site: Site) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        return Loss(self.bias.sum(), {}, {})


def with_nothing() -> Catalog:
    """What is installed, and this."""
    component = Component(Kind.objective, NAME, NothingParams, f"{__name__}:Nothing", "a loss that costs nothing")
    return Catalog({**catalog().entries, (Kind.objective, NAME): Entry(component, Origin("benchmarks", "1"))})


def train(job: Job, conductor: Conductor) -> None:
    known = with_nothing()
    spec = spec_of(job.shape, job.precision, job.compiled, chosen={"objective": NAME}, known=known)
    with TemporaryDirectory() as directory:
        trainer_of(spec, Path(directory), Gate(conductor), conductor, known).run(Start(), StopWish())
