"""A study, from its plan to its verdicts: frozen, run cell by cell, judged, reported. Torch-free: its workers import torch."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llmkit import __version__
from llmkit.ablate.cells import CellPlan, Identities, Role, evaluator_of, seeded
from llmkit.ablate.directory import KeptArm, KeptPlan, StudyDirectory
from llmkit.ablate.dispatch import Dispatch, StudyReporter, Unheard, forget_failures
from llmkit.ablate.ranks import check_ranks_of
from llmkit.ablate.results import Amendment, ArmResult, Cell, Judgement, StudyResult, Tuned, Worth
from llmkit.ablate.study import Study
from llmkit.ablate.tune import Search, Trial, tune
from llmkit.ablate.workers import Executor, Workers, check_workers, default_workers
from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind
from llmkit.core.spec import Spec
from llmkit.runtime import catalog as installed
from llmkit.train.signals import StopWish

if TYPE_CHECKING:
    from llmkit.ablate.plan import Plan

FIRST_LOOK = 3
"""Seeds before a study that looks after every seed looks first: of fewer there is no evidence to speak of."""

On = Literal["local", "ray"]
"""Where cells run: processes of this machine, or tasks of a Ray cluster."""

MOST_SEEDS = 20
"""Seeds up to which a study looks after every one unless it says otherwise."""

CHOSEN = frozenset({"seeds", "baseline", "metric", "higher_is_better", "equivalence", "alpha", "arms", "text"})
"""What decides, by the first part of its address: who changes it after a look at the results chooses among verdicts."""

Seeding = Callable[[str, Spec, int], Spec]
"""(arm, its spec, seed) -> the spec of the cell."""


@dataclass
class Found:
    """What ran: cells by arm and seed, those of the arms' own settings where they were tuned, and the searches."""

    cells: dict[str, dict[int, Cell]]
    fixed: dict[str, dict[int, Cell]] = field(default_factory=dict)
    searches: dict[str, Search] = field(default_factory=dict)


def run_study(
    study: Study,
    out: Path,
    *,
    workers: int | None = None,
    together: int = 1,
    on: On = "local",
    processes: int | None = None,
    until_resolved: bool = False,
    max_seeds: int | None = None,
    retry_failed: bool = False,
    catalog: Catalog | None = None,
    reporter: StudyReporter | None = None,
    command: str = "",
    seeding: Seeding | None = None,
) -> StudyResult:
    """Run what of a study did not run yet, judge it, and write `results.json` and the report into the directory `out`.

    workers         cells that run at once; as many as there are GPUs, or else cores, unless given
    together        seeds of an arm that a worker trains as one stacked model, where their spec allows it
    on              `ray` has a Ray cluster run the cells, whose machines all see `out`; results are files there in any case
    processes       ranks that train a cell, as many as its `parallel` asks for unless given
    until_resolved  look after every seed, from the third on, and add seeds until every arm is settled or has `max_seeds`: as many as
                    the study was given before, or 20, or as many as it has where these are more
    retry_failed    run cells again that diverged or crashed
    seeding         what makes an arm's spec that of a cell; gives it its seed unless given

    A study that looked after every seed once does so for ever: a t-test at the end would be that of a study which stopped when it liked
    what it saw. Raises `UserError` for what the user can mend, and `Interrupted`, a `KeyboardInterrupt`, where it was asked to stop:
    the same call then goes on.
    """
    began = time.perf_counter()
    reporter, catalog = reporter or Unheard(), catalog or installed()
    if workers is not None:
        check_workers(workers)
    _check_metric(study, catalog)
    directory = StudyDirectory(out)
    directory.check(study)
    with StopWish() as wish:
        plan = directory.kept_plan(study, catalog, lambda: _planned(study, catalog))
        _tell(plan, reporter)
        ranks = check_ranks_of({arm.name: arm.spec for arm in plan.arms}, processes)
        if ranks > 1 and together > 1:
            raise UserError(f"--together {together} trains seeds in one process, and a cell takes {ranks} here; leave --together out")
        at_once = len(plan.arms) * (1 if until_resolved or directory.max_seeds else len(study.seeds))
        with _executor(on, out, catalog, workers, at_once, processes, ranks, reporter.say) as executor:
            identities = Identities(catalog, study.metric, reporter.preparing, executor.device)
            with _warnings_told(reporter):
                for arm in plan.arms:
                    identities.key(arm.spec)
            most = (max_seeds or directory.max_seeds or max(MOST_SEEDS, len(study.seeds))) if until_resolved else None
            amended = directory.freeze(study, catalog, max_seeds=most, command=command, circumstances=identities.circumstances())
            _tell_amended(amended, reporter)
            with wish.deferred():
                dispatch = Dispatch(out, executor, reporter, wish, together=together)
                running = _Running(study, plan, identities, dispatch, seeding or _seeded, retry_failed, catalog)
                found, judgements = running.to_the_end(directory.max_seeds)
    seconds = directory.add_seconds(time.perf_counter() - began)
    result = _result(study, plan, found, judgements, amended, directory, seconds)
    directory.write_results(result)
    _report(result, out)
    return result


class _Running:
    """The cells of one study, as far as they have to be run."""

    def __init__(
        self,
        study: Study,
        plan: KeptPlan,
        identities: Identities,
        dispatch: Dispatch,
        seeding: Seeding,
        retry: bool,
        catalog: Catalog,
    ) -> None:
        self.study, self.plan, self.identities, self.dispatch = study, plan, identities, dispatch
        self.seeding, self.retry, self.catalog = seeding, retry, catalog

    def to_the_end(self, max_seeds: int | None) -> tuple[Found, list[Judgement]]:
        """Tune, run, judge. With `max_seeds`, look after every seed."""
        searches = self._tune()
        own = {arm.name: arm.spec for arm in self.plan.arms}
        chosen = own | {name: search.chosen for name, search in searches.items()}
        if max_seeds is None:
            found = Found(self._run(chosen, self.study.seeds), self._run(own, self.study.seeds) if searches else {}, searches)
            return found, self.judge(found.cells)
        for seeds in looks(self.study, max_seeds):
            cells = self._run(chosen, seeds)
            judgements = self.judge(cells, sequential=True)
            if settled(judgements):
                break
        return Found(cells, self._run(own, seeds) if searches else {}, searches), judgements

    def judge(self, cells: Mapping[str, Mapping[int, Cell]], *, sequential: bool = False) -> list[Judgement]:
        """What the statistics say of these cells."""
        return judged(self.study, self.plan, cells, sequential=sequential)

    def _run(self, specs: Mapping[str, Spec], seeds: Sequence[int], role: Role = "study") -> dict[str, dict[int, Cell]]:
        """How the cells of these specs ended, by arm and seed."""
        plans = {(arm, seed): self._cell(arm, spec, seed, role) for arm, spec in specs.items() for seed in seeds}
        ended = self._run_cells(list(plans.values()))
        return {arm: {seed: ended[plans[arm, seed]] for seed in seeds} for arm in specs}

    def _run_cells(self, cells: list[CellPlan]) -> dict[CellPlan, Cell]:
        if self.retry:
            forget_failures(cells, self.dispatch.study, self.dispatch.reporter.say)
        ended = self.dispatch.run(cells)
        return {cell: ended[cell.directory] for cell in cells}

    def _cell(self, arm: str, spec: Spec, seed: int, role: Role) -> CellPlan:
        return self.identities.cell(arm, seed, self.seeding(arm, spec, seed), role)

    def _tune(self) -> dict[str, Search]:
        study = self.study
        if not study.tune:
            return {}
        searches = {
            arm.name: Search(arm.name, arm.spec, study.tune, self.catalog, higher_is_better=study.higher_is_better)
            for arm in self.plan.arms
            if arm.name in study.tune_arms
        }
        tune(list(searches.values()), self._try)
        for name, search in searches.items():
            best = search.best
            chosen = "no setting ended; it keeps its own" if best is None else ", ".join(f"{at} {to}" for at, to in best.settings.items())
            self.dispatch.reporter.say(f"tuned {name}: {chosen}{', at the edge of what was tried' if search.at_edge else ''}")
        return searches

    def _try(self, trials: Sequence[Trial]) -> None:
        cells = {
            (index, seed): self._cell(trial.arm, trial.spec, seed, "tune")
            for index, trial in enumerate(trials)
            for seed in self.study.tune_seeds
        }
        ended = self._run_cells(list(cells.values()))
        for (index, seed), cell in cells.items():
            trials[index].values[seed] = ended[cell].value


def looks(study: Study, max_seeds: int) -> Iterator[list[int]]:
    """The seeds of each look: the study's own first ones, then the next whole numbers, never one that is tuned on."""
    seeds = list(study.seeds)
    following = max(seeds) + 1
    while len(seeds) < max_seeds:
        if following not in study.tune_seeds:
            seeds.append(following)
        following += 1
    for count in range(min(FIRST_LOOK, max_seeds), max_seeds + 1):
        yield seeds[:count]


def judged(study: Study, plan: KeptPlan, cells: Mapping[str, Mapping[int, Cell]], *, sequential: bool) -> list[Judgement]:
    """Verdicts on cells by arm and seed. A cell that crashed has no value, as one that diverged: its arm is unstable."""
    from llmkit.ablate.verdict import judge

    return judge(
        {arm: {seed: cell.value for seed, cell in of.items() if cell.ending != "missing"} for arm, of in cells.items()},
        study.baseline,
        alpha=study.alpha,
        equivalence=study.equivalence,
        higher_is_better=study.higher_is_better,
        sequential=sequential,
        confounded={arm.name: arm.confounding for arm in plan.arms},
        power=study.power,
        metric=study.metric,
        endings={arm: {seed: cell.ending for seed, cell in of.items()} for arm, of in cells.items()},
    )


def settled(judgements: Sequence[Judgement]) -> bool:
    """Whether more seeds would change nothing."""
    from llmkit.ablate.sequential import settled

    return settled(judgements)


def _seeded(arm: str, spec: Spec, seed: int) -> Spec:
    return seeded(spec, seed)


def _executor(
    on: On, out: Path, catalog: Catalog, workers: int | None, cells: int, processes: int | None, ranks: int, say: Callable[[str], None]
) -> AbstractContextManager[Executor]:
    """Whoever runs these cells, at most so many."""
    if on == "ray":
        from llmkit.ablate.ray_cells import RayCells

        return RayCells(out, catalog.fingerprint, cells, say, workers=workers, processes=processes, ranks=ranks)
    return Workers(workers or default_workers(cells, ranks), out, catalog.fingerprint, processes=processes, ranks=ranks)


def _planned(study: Study, catalog: Catalog) -> Plan:
    """Counting parameters and FLOPs takes torch; what comes of it is kept."""
    from llmkit.ablate.plan import make_plan

    return make_plan(study, catalog)


def _check_metric(study: Study, catalog: Catalog) -> None:
    name = evaluator_of(study.metric)
    if name is not None:
        catalog.find(Kind.evaluator, name)


def _tell(plan: KeptPlan, reporter: StudyReporter) -> None:
    """What confounds, before any compute is spent."""
    for arm in plan.arms:
        for text in arm.confounding:
            reporter.say(f"confounded: {arm.name}: {text}")
    for text in plan.warnings:
        reporter.say(f"warning: {text}")


def _tell_amended(amended: Sequence[Amendment], reporter: StudyReporter) -> None:
    for one in amended:
        reporter.say(f"amended {one.when}: {one.address} was {one.was!r}, is {one.now!r}")


@contextmanager
def _warnings_told(reporter: StudyReporter) -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        yield
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        reporter.say(f"warning: {text}")


def _result(
    study: Study,
    plan: KeptPlan,
    found: Found,
    judgements: Sequence[Judgement],
    amended: list[Amendment],
    directory: StudyDirectory,
    seconds: float,
) -> StudyResult:
    record, sequential = directory.recorded(), directory.max_seeds is not None
    cells = [cell for of in (*found.cells.values(), *found.fixed.values()) for cell in of.values()]
    return StudyResult(
        study=study.name,
        hash=record["hash"],
        baseline=study.baseline,
        metric=study.metric,
        higher_is_better=study.higher_is_better,
        alpha=study.alpha,
        equivalence=study.equivalence,
        match=study.match,
        sequential=sequential,
        complete=all(cell.ending != "missing" for cell in cells),
        arms=_arm_results(study, plan, found, judgements, sequential=sequential),
        amendments=amended,
        warnings=[*plan.warnings, *_chosen_late(amended, sequential=sequential), *_failures(cells)],
        command=record["command"],
        created=record["created"],
        llmkit=__version__,
        machine=record["machine"],
        seconds=seconds,
    )


def _arm_results(study: Study, plan: KeptPlan, found: Found, judgements: Sequence[Judgement], *, sequential: bool) -> list[ArmResult]:
    # When the study stopped hung on the tuned cells, which share their seeds with these: they were looked at as often.
    fixed = {one.arm: one for one in judged(study, plan, found.fixed, sequential=sequential)} if found.fixed else {}
    by_arm = {one.arm: one for one in judgements}
    baseline = list(found.cells[study.baseline].values())
    return [
        _arm_result(study, arm, list(found.cells[arm.name].values()), by_arm[arm.name], baseline, found.searches.get(arm.name), fixed)
        for arm in plan.arms
    ]


def _arm_result(
    study: Study,
    arm: KeptArm,
    cells: list[Cell],
    judgement: Judgement,
    baseline: Sequence[Cell],
    search: Search | None,
    fixed: Mapping[str, Judgement],
) -> ArmResult:
    return ArmResult(
        name=arm.name,
        choices=dict(arm.choices),
        differences=arm.differences,
        confounders=arm.confounders,
        matched=arm.matched,
        parameters=arm.parameters,
        flops_per_token=arm.flops_per_token,
        kv_cache_bytes_per_token=arm.kv_cache_bytes_per_token,
        tokens=arm.tokens,
        tokens_per_second=_median([cell.tokens_per_second for cell in cells]),
        peak_memory_bytes=_whole(_median([cell.peak_memory_bytes for cell in cells])),
        cells=cells,
        judgement=judgement,
        worth=_worth(study, arm, judgement, baseline),
        tuned=None if search is None else _tuned(search, fixed.get(arm.name)),
    )


def _tuned(search: Search, fixed: Judgement | None) -> Tuned:
    best = search.best
    trials = [trial.row() for trial in search.trials]
    return Tuned(trials=trials, chosen={} if best is None else best.settings, at_edge=search.at_edge, fixed=fixed)


def _worth(study: Study, arm: KeptArm, judgement: Judgement, baseline: Sequence[Cell]) -> Worth | None:
    """The difference in tokens of the baseline's own curve; None where there is no difference or no curve."""
    from llmkit.ablate.worth import mean_curve, worth

    curves = [cell.curve for cell in baseline if cell.curve]
    if judgement.difference is None or not curves:
        return None
    decayed = float(arm.spec.train.schedule.make()(arm.spec.steps - 1, arm.spec.steps)) < 1.0
    return worth(mean_curve(curves), judgement.difference, judgement.interval, higher_is_better=study.higher_is_better, decayed=decayed)


def _chosen_late(amended: Sequence[Amendment], *, sequential: bool) -> list[str]:
    """That a rate of errors holds for what was chosen beforehand, where something that decides it was chosen later."""
    first = {one.address: one.was for one in reversed(amended)}
    last = {one.address: one.now for one in amended}
    changed = dict.fromkeys(address.partition(".")[0] for address, now in last.items() if now != first[address])
    late = [key for key in changed if key in CHOSEN and not (sequential and key == "seeds")]
    if not late:
        return []
    remedy = "; --until-resolved adds seeds without that" if "seeds" in late else ""
    return [f"amended after the first run: {', '.join(late)}; p and intervals hold only where no result had been looked at before{remedy}"]


def _failures(cells: Sequence[Cell]) -> list[str]:
    """Cells that have no value, in words."""
    return [
        f"{cell.arm} seed {cell.seed} {cell.ending}: {cell.reason}"
        for cell in {(cell.arm, cell.seed, cell.key): cell for cell in cells}.values()
        if cell.ending in ("diverged", "crashed")
    ]


def _report(result: StudyResult, out: Path) -> None:
    from llmkit.ablate.report import write_report

    write_report(result, out)


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)
