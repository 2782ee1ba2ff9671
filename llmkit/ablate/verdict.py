"""From values by arm and seed to one verdict an arm, with its reason in a sentence.

What is decided, in this order:

unstable      a seed of the arm, or of the baseline, diverged or crashed. The figures are of the seeds that finished, and flatter the arm.
confounded    something else than the thing under study differs, whatever the figures say.
equivalent    the two one-sided tests find the difference within the margin that the user calls no difference. This comes before
              the next two: a difference that is there, and smaller than the margin, is none to the user; the reason tells both.
better/worse  the two-sided test finds a difference.
inconclusive  none of these. The reason tells the noise, what these seeds could have found, and how many more would settle it.

Holm's correction runs over all arms but the baseline, also those that are unstable or confounded, so that the family does not depend on the
data; once over the p of a difference and once over those of equivalence. At most alpha of studies have any `better` or `worse` of
an arm that does not differ, and at most alpha any `equivalent` of an arm that differs by the margin or more.

The interval of a fixed number of seeds is that of one arm by itself, at 1 - alpha. With `sequential` it is the confidence sequence at
alpha / arms, which holds at all looks and for all arms together, `equivalent` is that it lies within the margin, and p is 1 over the
largest e-value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeGuard

from llmkit.ablate import sequential as anytime
from llmkit.ablate import statistics
from llmkit.ablate.reasons import Reason
from llmkit.ablate.results import Judgement, Verdict
from llmkit.ablate.statistics import Estimate
from llmkit.core.errors import UserError
from llmkit.core.problems import suggestion

Values = Mapping[str, Mapping[int, float | None]]
"""Arm -> seed -> value; None, or a number that is not finite, where that seed diverged. What was never run is not in it."""

UNITS = {"val_bits_per_byte": "bits per byte", "val_loss": "nats", "train_loss": "nats"}

LARGEST = 1e100
"""A value beyond it counts as diverged: its square would soon be no number."""


@dataclass(frozen=True)
class Question:
    """What is asked of every arm."""

    baseline: str
    arms: int
    alpha: float
    power: float
    margin: float | None
    higher_is_better: bool
    sequential: bool
    paired: bool
    unit: str

    def critical(self, estimate: Estimate, seeds: int) -> float:
        """|t| beyond which a difference is found with so many seeds, whatever Holm's correction finds of the other arms."""
        if self.sequential:
            return anytime.critical_t(seeds, self.alpha / self.arms)
        return statistics.critical_t(estimate.freedom_at(seeds), self.alpha / self.arms)

    def critical_equivalent(self, estimate: Estimate, seeds: int) -> float:
        """The same of each one-sided test."""
        if self.sequential:
            return anytime.critical_t(seeds, self.alpha / self.arms)
        return statistics.critical_t(estimate.freedom_at(seeds), 2 * self.alpha / self.arms)


@dataclass(frozen=True)
class Finding:
    """What one arm's values say by themselves. `above`: whether its mean is above the baseline's where that was found."""

    seeds: int
    differences: Mapping[int, float]
    difference: float | None = None
    estimate: Estimate | None = None
    above: bool = False
    interval: tuple[float, float] | None = None
    p: float | None = None
    p_equivalent: float | None = None
    p_sign_flip: float | None = None
    e_value: float | None = None


@dataclass(frozen=True)
class Case:
    """All that an arm's verdict rests on: what was found, corrected for the other arms, and what stands against it."""

    arm: str
    ended: Mapping[int, float]
    found: Finding
    p_adjusted: float
    p_equivalent_adjusted: float
    trouble: str | None
    confounders: Sequence[str]


def judge(
    values: Values,
    baseline: str,
    *,
    alpha: float = 0.05,
    equivalence: float | None = None,
    higher_is_better: bool = False,
    sequential: bool = False,
    confounded: Mapping[str, Sequence[str]] = MappingProxyType({}),
    power: float = 0.8,
    paired: bool = True,
    metric: str = "",
    endings: Mapping[str, Mapping[int, str]] = MappingProxyType({}),
) -> list[Judgement]:
    """Every arm against the baseline, in the order of `values`; the baseline's own has no difference and no verdict.

    values            by arm and seed; None or not finite: that seed diverged
    alpha             how often a study without differences may find one, over all arms
    equivalence       margin, in the metric's unit, within which a difference is none; without it nothing is `equivalent`
    sequential        valid however often one looked; looks are at the first 3, 4, ... seeds, in the order in which the baseline has them
    confounded        arm -> what else differs, in words
    power             for what these seeds could have found, and how many more would settle it
    paired            False: seeds mean nothing, Welch's t-test; not with `sequential`
    metric            for the unit in the reasons
    endings           arm -> seed -> how a run without a value ended, `diverged` unless given

    `UserError`: an unknown baseline, or a number outside its bounds.
    """
    _check(values, baseline, alpha, equivalence, power, sequential, paired)
    ended = {arm: {seed: value for seed, value in of.items() if _ended(value)} for arm, of in values.items()}
    arms = [arm for arm in values if arm != baseline]
    question = Question(baseline, max(1, len(arms)), alpha, power, equivalence, higher_is_better, sequential, paired, UNITS.get(metric, ""))
    findings = {arm: _find(ended[arm], ended[baseline], question) for arm in arms}
    adjusted = dict(zip(arms, statistics.holm([_or_one(found.p) for found in findings.values()]), strict=True))
    together = _at_once if sequential else statistics.holm
    equivalent = dict(zip(arms, together([_or_one(found.p_equivalent) for found in findings.values()]), strict=True))
    lost = {arm: _lost(of, endings.get(arm, {})) for arm, of in values.items()}
    trouble = {arm: _trouble(arm, baseline, lost, len(values[arm])) for arm in values}
    cases = {
        arm: Case(arm, ended[arm], findings[arm], adjusted[arm], equivalent[arm], trouble[arm], confounded.get(arm, ())) for arm in arms
    }
    own = _own(baseline, ended[baseline], trouble[baseline])
    return [own if arm == baseline else _judged(cases[arm], question) for arm in values]


def _at_once(ps: Sequence[float]) -> list[float]:
    """Bonferroni's correction: what confidence sequences at alpha / arms say together; `equivalent` is one within the margin."""
    return [min(1.0, len(ps) * p) for p in ps]


def _check(values: Values, baseline: str, alpha: float, equivalence: float | None, power: float, sequential: bool, paired: bool) -> None:
    if baseline not in values:
        raise UserError(f"baseline {baseline!r} is none of the arms; {suggestion(baseline, values)}")
    if not 0 < alpha < 0.5:
        raise UserError(f"alpha {alpha} is no rate of errors; give one between 0 and 0.5, such as 0.05")
    if not alpha < power < 1:
        raise UserError(f"power {power} must lie between alpha ({alpha}) and 1; 0.8 is usual")
    if equivalence is not None and not 0 < equivalence < math.inf:
        raise UserError(f"equivalence {equivalence} is no margin; give the largest difference, above 0, that you call none")
    if sequential and not paired:
        raise UserError("looking after every seed needs paired seeds; give arms and baseline the same seeds, or look once, at the end")


def _ended(value: float | None) -> TypeGuard[float]:
    return value is not None and abs(value) < LARGEST


def _or_one(p: float | None) -> float:
    return 1.0 if p is None else p


def _own(arm: str, ended: Mapping[int, float], trouble: str | None) -> Judgement:
    mean, deviation = _moments(ended)
    return Judgement(arm=arm, seeds=list(ended), mean=mean, deviation=deviation, reason=trouble)


def _moments(ended: Mapping[int, float]) -> tuple[float | None, float | None]:
    values = list(ended.values())
    if len(values) < 2:
        return (values[0] if values else None), None
    estimate = statistics.paired_estimate(values)
    return estimate.mean, estimate.deviation


def _lost(of: Mapping[int, float | None], endings: Mapping[int, str]) -> dict[str, list[int]]:
    """The seeds without a value, by how they ended."""
    found: dict[str, list[int]] = {}
    for seed, value in of.items():
        if not _ended(value):
            found.setdefault(endings.get(seed, "diverged"), []).append(seed)
    return found


def _trouble(arm: str, baseline: str, lost: Mapping[str, Mapping[str, Sequence[int]]], seeds: int) -> str | None:
    """Why nothing can be concluded of an arm, or what befell the baseline itself."""
    if lost[baseline] and arm != baseline:
        return f"the baseline {baseline} {_how(lost[baseline])}, so nothing can be concluded of what is compared with it"
    if not lost[arm]:
        return None
    number = sum(map(len, lost[arm].values()))
    rest = "" if number == seeds else "; the figures are of the others, which flatters it"
    return f"{_how(lost[arm])} ({number} of {seeds}){rest}"


def _how(lost: Mapping[str, Sequence[int]]) -> str:
    return " and ".join(f"{ending} with {_seeds(seeds)}" for ending, seeds in lost.items())


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def _find(arm: Mapping[int, float], baseline: Mapping[int, float], question: Question) -> Finding:
    if not question.paired:
        return _find_unpaired(list(arm.values()), list(baseline.values()), question)
    differences = {seed: arm[seed] - value for seed, value in baseline.items() if seed in arm}
    listed = list(differences.values())
    if len(listed) < 2:
        return Finding(len(listed), differences, difference=listed[0] if listed else None)
    estimate = statistics.paired_estimate(listed)
    if question.sequential:
        return _find_at_looks(differences, estimate, question)
    return replace(_find_once(len(listed), estimate, question), differences=differences, p_sign_flip=statistics.sign_flip_p(listed))


def _find_unpaired(arm: Sequence[float], baseline: Sequence[float], question: Question) -> Finding:
    seeds = min(len(arm), len(baseline))
    if seeds < 2:
        return Finding(seeds, {}, difference=sum(arm) / len(arm) - sum(baseline) / len(baseline) if seeds else None)
    return _find_once(seeds, statistics.welch_estimate(arm, baseline), question)


def _find_once(seeds: int, estimate: Estimate, question: Question) -> Finding:
    margin = question.margin
    return Finding(
        seeds,
        {},
        difference=estimate.mean,
        estimate=estimate,
        above=estimate.mean > 0,
        interval=statistics.t_interval(estimate, question.alpha),
        p=statistics.t_p(estimate),
        p_equivalent=None if margin is None else statistics.equivalence_p(estimate, margin),
    )


def _find_at_looks(differences: Mapping[int, float], estimate: Estimate, question: Question) -> Finding:
    listed = list(differences.values())
    evidence = anytime.look_after_each(listed, alpha=question.alpha / question.arms, margin=question.margin)
    same = 0.0 if question.margin is not None and estimate.deviation == 0 == estimate.mean else None
    if evidence is None:
        return Finding(len(listed), differences, difference=estimate.mean, estimate=estimate, p_equivalent=same)
    return Finding(
        len(listed),
        differences,
        difference=estimate.mean,
        estimate=estimate,
        above=evidence.above,
        interval=evidence.interval,
        p=_p_at_all_looks(evidence.e_value),
        p_equivalent=_p_at_all_looks(evidence.e_equivalent) if same is None else same,
        p_sign_flip=statistics.sign_flip_p(listed),
        e_value=evidence.e_value,
    )


def _p_at_all_looks(largest: float | None) -> float | None:
    """1 over the largest e-value: at or below alpha, at any look, in at most alpha of studies."""
    return None if largest is None else 1 / max(largest, 1.0)


def _judged(case: Case, question: Question) -> Judgement:
    found = case.found
    mean, deviation = _moments(case.ended)
    verdict = _verdict(case, question)
    judgement = Judgement(
        arm=case.arm,
        seeds=list(case.ended),
        mean=mean,
        deviation=deviation,
        difference=found.difference,
        interval=found.interval,
        differences=dict(found.differences),
        p=found.p,
        p_adjusted=None if found.p is None else case.p_adjusted,
        p_sign_flip=found.p_sign_flip,
        p_equivalent=found.p_equivalent,
        e_value=found.e_value,
        noise=found.estimate.deviation if found.estimate else None,
        resolvable=_resolvable(found, question),
        more_seeds=_more_seeds(found, question) if verdict == "inconclusive" else None,
        verdict=verdict,
        reason=case.trouble,
    )
    if case.trouble:
        return judgement
    return judgement.model_copy(update={"reason": str(Reason(judgement, question, case.p_equivalent_adjusted, case.confounders))})


def _verdict(case: Case, question: Question) -> Verdict:
    if case.trouble:
        return "unstable"
    if case.confounders:
        return "confounded"
    if case.p_equivalent_adjusted <= question.alpha:
        return "equivalent"
    if case.p_adjusted <= question.alpha:
        return "better" if case.found.above == question.higher_is_better else "worse"
    return "inconclusive"


def _resolvable(found: Finding, question: Question) -> float | None:
    estimate = found.estimate
    if estimate is None or not estimate.deviation:
        return None
    critical = question.critical(estimate, found.seeds)
    effect = statistics.resolvable_effect(estimate.seeds, estimate.freedom, critical, question.power)
    return None if effect is None else effect * estimate.deviation


def _more_seeds(found: Finding, question: Question) -> int | None:
    """How many more seeds find the observed difference, or that it lies within the margin, with the power asked for; None beyond 10,000.

    With `sequential`: at the look after them alone, a little more than all looks together take.
    """
    estimate = found.estimate
    if estimate is None or estimate.deviation == 0 == estimate.mean:
        return None
    noise = estimate.deviation
    effect = abs(estimate.mean) / noise if noise else math.inf
    margin = question.margin / noise if question.margin and noise else None

    def enough(seeds: int) -> bool:
        if not noise and not question.sequential:
            return question.arms * statistics.equal_p(seeds) <= question.alpha
        freedom = estimate.freedom_at(seeds)
        if statistics.found(effect, seeds, freedom, question.critical(estimate, seeds)) >= question.power:
            return True
        if margin is None or margin <= effect:
            return False
        critical = question.critical_equivalent(estimate, seeds)
        return statistics.found_equivalent(effect, margin, seeds, freedom, critical) >= question.power

    needed = statistics.seeds_needed(enough, found.seeds + 1)
    return None if needed is None else needed - found.seeds
