"""The plan: what a study is going to compare, matched and looked over, before anything is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch.nn import functional

from llmkit.ablate.arms import arm_differences, axes_between, filled_specs
from llmkit.ablate.confounders import Confounder, Facts, confounders, last_factor
from llmkit.ablate.match import Matched, match, tokens_of
from llmkit.ablate.results import Difference
from llmkit.ablate.study import Study
from llmkit.core.catalog import Catalog
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.count import Account, account
from llmkit.model.init import named_parameters_with_roles

LARGEST_DRAWN = 20_000_000
"""Parameters of a model whose initial values are drawn to see with which loss it begins; a larger one would take too long."""

ROWS, LENGTH = 2, 128
"""Random tokens that an untrained model is shown."""


@dataclass(frozen=True)
class Estimate:
    """How long the study takes, by a short probe on this machine.

    seconds         of the whole study
    cells           runs: arms by seeds, and every trial of what is tuned
    workers         cells that run at once, each on `threads` threads
    probe_seconds   that the probe took
    """

    seconds: float
    cells: int
    workers: int
    threads: int
    probe_seconds: float


@dataclass(frozen=True)
class PlannedArm:
    """An arm as it will be trained.

    spec         matched, with the seed of the extended spec
    differences  from the baseline, by address; `derived` where they follow from another or were turned
    matched      what was turned to match the baseline, and how near it came; None where nothing was
    parameters   total, embedding, non_embedding
    flops_per_token  forward, training
    tokens       that each of its runs reads
    seconds      of one run, where it was probed
    """

    name: str
    choices: Mapping[str, str]
    spec: Spec
    differences: tuple[Difference, ...]
    confounders: tuple[Confounder, ...]
    matched: str | None
    parameters: Mapping[str, int]
    flops_per_token: Mapping[str, float]
    kv_cache_bytes_per_token: int
    tokens: int
    seconds: float | None = None

    @property
    def confounded(self) -> bool:
        """Whether its verdict will be `confounded`."""
        return any(one.severity == "confounded" for one in self.confounders)

    def row(self) -> dict[str, Any]:
        """As `ablate --plan --json` prints it."""
        return {
            "name": self.name,
            "choices": dict(self.choices),
            "parameters": dict(self.parameters),
            "flops_per_token": dict(self.flops_per_token),
            "kv_cache_bytes_per_token": self.kv_cache_bytes_per_token,
            "tokens": self.tokens,
            "matched": self.matched,
            "differences": [one.model_dump(mode="json") for one in self.differences],
            "confounded": self.confounded,
            "confounders": [one.row() for one in self.confounders],
            "seconds": self.seconds,
        }


@dataclass(frozen=True)
class Plan:
    """A study, its arms as they will be trained, and what a person should know before they are."""

    study: Study
    arms: tuple[PlannedArm, ...]
    warnings: tuple[str, ...] = ()
    estimate: Estimate | None = field(default=None)

    def arm(self, name: str) -> PlannedArm:
        """The arm of this name; `KeyError` where there is none."""
        return {arm.name: arm for arm in self.arms}[name]

    @property
    def baseline(self) -> PlannedArm:
        """What every other arm is compared with."""
        return self.arm(self.study.baseline)

    def document(self) -> dict[str, Any]:
        """As `ablate --plan --json` prints it."""
        study = self.study
        return {
            "study": study.name,
            "hash": study.hash,
            "baseline": study.baseline,
            "metric": study.metric,
            "match": study.match,
            "seeds": list(study.seeds),
            "tune": {address: list(values) for address, values in study.tune.items()},
            "tune_seeds": list(study.tune_seeds) if study.tune else [],
            "tune_arms": list(study.tune_arms),
            "runs": runs(study),
            "arms": [arm.row() for arm in self.arms],
            "warnings": list(self.warnings),
            "estimate": None if self.estimate is None else asdict(self.estimate),
        }


def runs(study: Study) -> int:
    """How many runs a study is: every arm with every seed, and every setting that is tried with every tuning seed."""
    return len(study.arms) * len(study.seeds) + len(study.tune_arms) * trials(study)


def trials(study: Study) -> int:
    """Tuning runs of one arm, unless its best lies at the edge of what was tried."""
    return math.prod(len(values) for values in study.tune.values()) * len(study.tune_seeds) if study.tune else 0


def make_plan(study: Study, catalog: Catalog | None = None) -> Plan:
    """The arms of a study matched and looked over. Nothing is trained, and no text is read."""
    specs = filled_specs(study, catalog)
    baseline = specs[study.baseline]
    matched = {name: match(spec, baseline, study.match, study.dials, catalog) for name, spec in specs.items()}
    counted = {name: account(one.spec, catalog) for name, one in matched.items()}
    found = confounders(study, {name: _facts(one.spec, counted[name]) for name, one in matched.items()})
    arms = tuple(_planned(study, name, matched, counted[name], found[name]) for name in specs)
    return Plan(study, arms, tuple(_warnings(study, arms)))


def _planned(study: Study, name: str, matched: Mapping[str, Matched], counted: Account, found: list[Confounder]) -> PlannedArm:
    arm, spec = study.arm(name), matched[name].spec
    given = [address for addresses in axes_between(study, arm).values() for address in addresses]
    return PlannedArm(
        name=name,
        choices=arm.choices,
        spec=spec,
        differences=tuple(arm_differences(matched[study.baseline].spec, spec, given)),
        confounders=tuple(found),
        matched=matched[name].words,
        parameters=asdict(counted.parameters),
        flops_per_token=asdict(counted.flops_per_token),
        kv_cache_bytes_per_token=counted.kv_cache_bytes_per_token,
        tokens=tokens_of(spec),
    )


def _facts(spec: Spec, counted: Account) -> Facts:
    excess = initial_excess(spec) if counted.parameters.total <= LARGEST_DRAWN else None
    return Facts(spec, asdict(counted.parameters), counted.flops_per_token.training, optimizer_groups(spec), excess)


def optimizer_groups(spec: Spec) -> dict[str, tuple[float, float]]:
    """Parameter -> (weight decay, peak learning rate) of the optimizer's group that holds it."""
    named = named_parameters_with_roles(build(spec, device="meta"), spec.model)
    optimizer = spec.train.optimizer.make().build(named)
    names = {id(one.parameter): one.name for one in named}
    return {
        names[id(parameter)]: (float(group.get("weight_decay", 0.0)), float(group["initial_lr"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    }


@torch.no_grad()
def initial_excess(spec: Spec) -> float:
    """Loss of the untrained model on random tokens above ln V, in nats: 0 for a model that has no idea and says so."""
    model = build(spec).eval()
    length = min(LENGTH, spec.model.max_seq_len)
    ids = torch.randint(spec.vocab_size, (ROWS, length + 1), generator=torch.Generator().manual_seed(0))
    logits = model(ids[:, :-1]).float()
    return float(functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())) - math.log(spec.vocab_size)


DECAYED = 0.5
"""A learning rate that ends above this part of its peak has not decayed."""


def _warnings(study: Study, arms: tuple[PlannedArm, ...]) -> list[str]:
    found = []
    constant = [arm.name for arm in arms if last_factor(arm.spec, arm.spec.steps) > DECAYED]
    if constant:
        found.append(
            f"the learning rate of {', '.join(constant)} does not decay: runs that end on a plateau differ by the noise of their last "
            "steps; end train.schedule with a decay"
        )
    confounded = [arm.name for arm in arms if arm.confounded]
    if confounded:
        found.append(f"confounded, whatever the numbers will say: {', '.join(confounded)}")
    if len(study.seeds) == 1:
        found.append("with one seed nothing can be judged; give at least 3")
    return found
