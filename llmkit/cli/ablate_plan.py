"""`llmkit ablate --plan`: what a study is going to compare, told before anything is trained. Imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmkit.cli.output import person, quantity, result, show_rows, written

if TYPE_CHECKING:
    from llmkit.ablate.plan import Plan, PlannedArm


def show_plan(plan: Plan) -> None:
    """The arms and what they cost, what differs, what confounds, and how long it takes. Tables on a terminal, plain lines elsewhere."""
    study = plan.study
    person.print(
        f"{study.name}: {len(plan.arms)} arms, {len(study.seeds)} seeds, judged by {study.metric}; baseline {study.baseline}; "
        f"match {study.match}; study {study.hash[:12]}",
        markup=False,
        soft_wrap=True,
    )
    show_rows(HEADS, [_costs(plan, arm) for arm in plan.arms])
    _show_differences(plan)
    matched = [(arm.name, arm.matched) for arm in plan.arms if arm.matched is not None]
    if matched:
        show_rows(("arm", "matched"), matched)
    _show_confounders(plan)
    for text in plan.warnings:
        person.print(f"warning: {text}", style="yellow", markup=False, soft_wrap=True)
    person.print(time_words(plan), markup=False, soft_wrap=True)


HEADS = ("arm", "parameters", "non-embedding", "training FLOPs a token", "KV bytes a token", "tokens", "seconds a run", "")


def _costs(plan: Plan, arm: PlannedArm) -> tuple[str, ...]:
    """An arm's row; in the last column whether it can be judged at all."""
    last = "baseline" if arm.name == plan.study.baseline else "confounded" if arm.confounded else ""
    return (
        arm.name,
        f"{arm.parameters['total']:,}",
        f"{arm.parameters['non_embedding']:,}",
        quantity(arm.flops_per_token["training"]),
        f"{arm.kv_cache_bytes_per_token:,}",
        f"{arm.tokens:,}",
        "-" if arm.seconds is None else f"{arm.seconds:,.0f}",
        last,
    )


def _show_differences(plan: Plan) -> None:
    """Every address at which some arm differs from the baseline: what was chosen first, then what follows (`*`)."""
    found: dict[str, dict[str, str]] = {}
    derived: dict[str, bool] = {}
    for arm in plan.arms:
        for one in arm.differences:
            found.setdefault(one.address, {plan.study.baseline: written(one.baseline)})[arm.name] = written(one.value)
            derived[one.address] = derived.get(one.address, True) and one.derived
    names = [arm.name for arm in plan.arms]
    rows = []
    for address, values in sorted(found.items(), key=lambda item: derived[item[0]]):
        own = values[plan.study.baseline]
        rows.append((f"{address} *" if derived[address] else address, *(values.get(name, own) for name in names)))
    show_rows(("spec", *names), rows)
    if any(derived.values()) and result.is_terminal:
        person.print("* follows from the others, or was turned to match", style="dim")


def _show_confounders(plan: Plan) -> None:
    rows = [(arm.name, one.severity, one.kind, one.message) for arm in plan.arms for one in arm.confounders]
    show_rows(("arm", "besides", "kind", "what differs besides the thing under study"), sorted(rows, key=lambda row: row[1]))


def time_words(plan: Plan) -> str:
    """How long the whole takes, in words."""
    from llmkit.ablate.plan import runs

    n = runs(plan.study)
    if plan.estimate is None:
        return f"{n} runs; how long they take was not probed"
    at_once = "one after the other" if plan.estimate.workers == 1 else f"{plan.estimate.workers} at once"
    return (
        f"{n} runs, {at_once}: about {duration(plan.estimate.seconds)}, by a probe of {plan.estimate.probe_seconds:.0f} s "
        "that had the machine to itself"
    )


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `2.1 days`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 129_600 else f"{seconds / 86_400:.1f} days"
