"""Which verdict is given, with which figures and words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

from llmkit.ablate.results import Judgement
from llmkit.ablate.verdict import Values, judge
from llmkit.core.errors import UserError

hundredths = st.integers(-1000, 1000).map(lambda number: number / 100)
tables = st.integers(2, 6).flatmap(
    lambda seeds: st.lists(st.lists(hundredths, min_size=seeds, max_size=seeds), min_size=2, max_size=5).map(
        lambda rows: {f"arm{index}": dict(enumerate(row)) for index, row in enumerate(rows)}
    )
)


def table(shifts: dict[str, float], seeds: int = 6, noise: float = 0.001, seed: int = 0) -> Values:
    """A baseline `mha` and arms that lie so far from it."""
    rng = np.random.default_rng(seed)
    shared = 3.28 + 0.01 * rng.standard_normal(seeds)
    return {
        arm: dict(enumerate((shared + shift + noise * rng.standard_normal(seeds)).tolist()))
        for arm, shift in {"mha": 0.0, **shifts}.items()
    }


def verdicts(values: Values, **options: Any) -> dict[str, str | None]:
    return {one.arm: one.verdict for one in judge(values, "mha", **options)}


def one(values: Values, arm: str, **options: Any) -> Judgement:
    return next(judgement for judgement in judge(values, "mha", **options) if judgement.arm == arm)


def test_lower_is_better_unless_said_otherwise() -> None:
    values = table({"low": -0.02, "high": 0.02})
    assert verdicts(values) == {"mha": None, "low": "better", "high": "worse"}
    assert verdicts(values, higher_is_better=True) == {"mha": None, "low": "worse", "high": "better"}
    assert one(values, "low").difference == one(values, "low", higher_is_better=True).difference
    assert verdicts(values, sequential=True) == {"mha": None, "low": "better", "high": "worse"}
    assert verdicts(values, sequential=True, higher_is_better=True) == {"mha": None, "low": "worse", "high": "better"}


def test_the_baseline_has_its_mean_and_nothing_else() -> None:
    own = judge(table({"gqa": 0.0}), "mha")[0]
    values = list(table({"gqa": 0.0})["mha"].values())
    assert (own.mean, own.deviation) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert {own.difference, own.interval, own.p, own.p_adjusted, own.verdict, own.reason} == {None}


def test_the_figures_are_scipys_and_statsmodels() -> None:
    values = table({"a": -0.003, "b": 0.001, "c": 0.0})
    arms = {arm: np.array(list(of.values())) for arm, of in values.items()}
    ps = [stats.ttest_rel(arms[arm], arms["mha"]).pvalue for arm in "abc"]
    adjusted = multipletests(ps, method="holm")[1]
    for arm, p, holm in zip("abc", ps, adjusted, strict=True):
        judged = one(values, arm, equivalence=0.002)
        interval = stats.ttest_rel(arms[arm], arms["mha"]).confidence_interval(0.95)
        assert (judged.p, judged.p_adjusted) == pytest.approx((p, holm), rel=1e-9)
        assert judged.interval == pytest.approx((interval.low, interval.high), rel=1e-9)
        assert judged.p_equivalent == pytest.approx(ttost_paired(arms[arm], arms["mha"], -0.002, 0.002)[0], rel=1e-9)
        assert judged.noise == pytest.approx(np.std(arms[arm] - arms["mha"], ddof=1))
        assert judged.resolvable and judged.noise
        assert TTestPower().power(judged.resolvable / judged.noise, 6, 0.05 / 3) == pytest.approx(0.8, abs=1e-7)


def test_what_one_arm_alone_would_show_many_arms_do_not() -> None:
    near = {"x": 0.0022}
    alone, among = one(table(near, seed=8), "x"), one(table({**near, **{f"same{index}": 0.0 for index in range(8)}}, seed=8), "x")
    assert alone.verdict == "worse" and among.verdict == "inconclusive"
    assert among.p is not None and among.p < 0.05 < (among.p_adjusted or 0)
    assert "after Holm's correction over 9 arms" in (among.reason or "")


def test_a_difference_within_the_margin_is_equivalent_even_where_it_is_significant() -> None:
    values = table({"tiny": 0.002, "large": 0.02}, seeds=12)
    assert verdicts(values) == {"mha": None, "tiny": "worse", "large": "worse"}
    for sequential in (False, True):
        assert verdicts(values, equivalence=0.006, sequential=sequential) == {"mha": None, "tiny": "equivalent", "large": "worse"}
    reason = one(values, "tiny", equivalence=0.006).reason or ""
    assert "higher than mha" in reason and "which is within the 0.006 that counts as no difference" in reason


def test_under_peeking_equivalent_is_an_interval_within_the_margin() -> None:
    values = table({"a": 0.0005, "b": -0.0005, "c": 0.003}, seeds=10)
    for margin in (0.002, 0.003, 0.004, 0.005):
        for judged in judge(values, "mha", equivalence=margin, sequential=True)[1:]:
            assert judged.interval
            assert (judged.verdict == "equivalent") == (-margin < judged.interval[0] and judged.interval[1] < margin)


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf, 1e200])
def test_a_seed_that_diverged_makes_the_arm_unstable_and_its_figures_stay(value: float | None) -> None:
    values = {arm: dict(of) for arm, of in table({"gqa": -0.02, "mqa": -0.02}).items()}
    values["gqa"][2] = value
    judged = one(values, "gqa")
    assert judged.verdict == "unstable" and judged.seeds == [0, 1, 3, 4, 5]
    assert judged.p is not None and judged.difference == pytest.approx(-0.02, abs=0.005)
    assert judged.reason == "diverged with seed 2 (1 of 6); the figures are of the others, which flatters it"
    assert one(values, "mqa").verdict == "better"


def test_a_baseline_that_diverged_leaves_nothing_to_conclude() -> None:
    values = {arm: dict(of) for arm, of in table({"gqa": -0.02, "mqa": 0.0}).items()}
    values["mha"][1] = None
    assert verdicts(values) == {"mha": None, "gqa": "unstable", "mqa": "unstable"}
    assert "the baseline mha diverged with seed 1" in (one(values, "gqa").reason or "")
    assert "seed 1 (1 of 6)" in (one(values, "mha").reason or "")


def test_a_run_that_crashed_is_not_said_to_have_diverged() -> None:
    values = {arm: dict(of) for arm, of in table({"gqa": -0.02}).items()}
    values["gqa"] |= {1: None, 2: None, 4: None}
    judged = one(values, "gqa", endings={"gqa": {0: "finished", 1: "diverged", 2: "crashed", 4: "diverged"}})
    assert judged.reason == "diverged with seeds 1, 4 and crashed with seed 2 (3 of 6); the figures are of the others, which flatters it"
    values["mha"][3] = None
    assert (one(values, "gqa", endings={"mha": {3: "crashed"}}).reason or "").startswith("the baseline mha crashed with seed 3, so nothing")


def test_an_arm_of_which_no_seed_ended_is_unstable() -> None:
    values = {**table({}), "nope": {0: None, 1: math.nan}}
    judged = one(values, "nope")
    assert (judged.verdict, judged.mean, judged.difference, judged.seeds) == ("unstable", None, None, [])
    assert judged.reason == "diverged with seeds 0, 1 (2 of 2)"


def test_what_is_confounded_is_said_whatever_the_figures() -> None:
    values = table({"gqa": -0.02, "mqa": -0.02})
    judged = one(values, "gqa", confounded={"gqa": ["12% more parameters", "a tuned learning rate"]})
    assert judged.verdict == "confounded" and judged.p == one(values, "gqa").p
    assert (judged.reason or "").startswith("cannot be put down to the change alone: 12% more parameters; a tuned learning rate; 0.0")
    assert verdicts(values, confounded={"gqa": ["x"], "mqa": []})["mqa"] == "better"


def test_one_seed_is_no_verdict() -> None:
    judged = one({"mha": {0: 3.0}, "gqa": {0: 2.0}}, "gqa")
    assert (judged.verdict, judged.difference, judged.p, judged.interval, judged.more_seeds) == ("inconclusive", -1.0, None, None, None)
    assert "two at least are needed" in (judged.reason or "")


def test_two_seeds_are_too_few_for_a_first_look() -> None:
    judged = one({"mha": {0: 3.0, 1: 3.1}, "gqa": {0: 2.0, 1: 2.2}}, "gqa", sequential=True)
    assert (judged.verdict, judged.e_value) == ("inconclusive", None)
    assert judged.difference == pytest.approx(-0.95)
    assert "the first look takes three" in (judged.reason or "")


def test_so_few_differences_that_are_all_equal_decide_nothing_and_more_of_them_do() -> None:
    def shifted(seeds: int) -> Values:
        return {arm: {seed: 1.0 + 2 * seed + shift for seed in range(seeds)} for arm, shift in (("mha", 0.0), ("gqa", 0.5))}

    few = one(shifted(3), "gqa")
    assert (few.verdict, few.p, few.noise, few.resolvable, few.more_seeds) == ("inconclusive", 1 / 16, 0, None, 1)
    assert (few.reason or "").startswith(
        "0.50 higher than mha in each of 3 paired seeds: so few that are all equal may be a coarse metric's"
    )
    enough = one(shifted(4), "gqa")
    assert (enough.verdict, enough.p, enough.interval) == ("worse", 1 / 64, (0.5, 0.5))
    assert one({arm: dict(list(of.items())[:2]) for arm, of in shifted(3).items()}, "gqa").more_seeds == 2


def test_a_coarse_metric_errs_no_more_often_than_alpha_where_all_its_differences_are_equal() -> None:
    """Two seeds, right or wrong by chance: an eighth of all studies has two equal differences that are not zero."""
    rng = np.random.default_rng(0)
    studies = [
        one(dict(zip(("mha", "gqa"), ({0: a, 1: b} for a, b in draw), strict=True)), "gqa")
        for draw in rng.integers(0, 2, (400, 2, 2)) * 1.0
    ]
    assert np.mean([judged.noise == 0 != judged.difference for judged in studies]) == pytest.approx(1 / 8, abs=0.05)
    assert np.mean([judged.verdict in ("better", "worse") for judged in studies]) <= 0.05


def test_arms_that_are_the_same_to_the_bit_are_equivalent_with_a_margin_and_otherwise_called_the_same() -> None:
    values = {"mha": {0: 1.0, 1: 2.0, 2: 4.0}, "gqa": {0: 1.0, 1: 2.0, 2: 4.0}}
    for sequential in (False, True):
        assert one(values, "gqa", equivalence=0.1, sequential=sequential).verdict == "equivalent"
        judged = one(values, "gqa", sequential=sequential)
        assert (judged.verdict, judged.more_seeds) == ("inconclusive", None)
        assert "the same as mha to the last bit, in 3 paired seeds: the change does nothing that this metric shows" in (judged.reason or "")


def test_only_seeds_that_both_have_are_compared() -> None:
    values = table({"gqa": -0.02})
    fewer = {"mha": {seed: values["mha"][seed] for seed in (0, 1, 2, 5)}, "gqa": {seed: values["gqa"][seed] for seed in (5, 3, 2, 1)}}
    judged = one(fewer, "gqa")
    assert list(judged.differences) == [1, 2, 5] and judged.seeds == [5, 3, 2, 1]
    apart = one({"mha": {0: 1.0, 1: 1.1}, "gqa": {2: 1.0, 3: 1.1}}, "gqa")
    assert (apart.verdict, apart.difference) == ("inconclusive", None)


def test_the_seeds_that_would_settle_it_are_those_of_the_power_calculation() -> None:
    values = table({"gqa": 0.0006}, seeds=8, seed=5)
    judged = one(values, "gqa")
    assert judged.verdict == "inconclusive" and judged.difference and judged.noise and judged.more_seeds
    needed = TTestPower().solve_power(abs(judged.difference) / judged.noise, alpha=0.05, power=0.8)
    assert 8 + judged.more_seeds == math.ceil(needed)
    assert f"about {judged.more_seeds:,} more seeds would settle it" in (judged.reason or "")


def test_a_margin_settles_it_sooner_where_the_arms_are_alike() -> None:
    values = table({"gqa": 0.0}, seeds=5, seed=3)
    without, within = one(values, "gqa").more_seeds, one(values, "gqa", equivalence=0.002).more_seeds
    assert within and without and within < without


def test_what_would_take_more_than_ten_thousand_seeds_is_said_so() -> None:
    values = {"mha": {0: 1.0, 1: 2.0, 2: 3.0}, "gqa": {0: 1.001, 1: 1.9, 2: 3.1}}
    judged = one(values, "gqa")
    assert judged.more_seeds is None and "more than 10,000 seeds" in (judged.reason or "")


def test_under_peeking_a_rejection_once_made_stays() -> None:
    differences = [-1.0, -1.1, -0.9, -1.0, -1.05, -0.95, 3.0, 3.0, 3.0]
    values = {"mha": dict.fromkeys(range(9), 3.0), "gqa": {seed: 3 + one for seed, one in enumerate(differences)}}
    judged = one(values, "gqa", sequential=True)
    assert judged.verdict == "better" and (judged.difference or 0) > 0
    assert one(values, "gqa").verdict == "inconclusive"


def test_looks_are_in_the_order_in_which_the_baseline_has_its_seeds() -> None:
    differences = [-1.0, -1.1, -0.9, -1.0, -1.05, -0.95, 3.0, 3.0, 3.0]
    turned = {"mha": dict.fromkeys(range(8, -1, -1), 3.0), "gqa": {seed: 3 + one for seed, one in enumerate(differences)}}
    assert one(turned, "gqa", sequential=True).verdict == "inconclusive"


def test_unpaired_runs_are_compared_by_welchs_test() -> None:
    values = table({"gqa": -0.02})
    renamed = {"mha": values["mha"], "gqa": {seed + 100: value for seed, value in list(values["gqa"].items())[:4]}}
    judged = one(renamed, "gqa", paired=False)
    theirs = stats.ttest_ind(list(renamed["gqa"].values()), list(renamed["mha"].values()), equal_var=False)
    assert judged.p == pytest.approx(theirs.pvalue, rel=1e-9)
    assert judged.interval == pytest.approx(tuple(theirs.confidence_interval(0.95)), rel=1e-9)
    assert judged.differences == {} and judged.p_sign_flip is None


def test_a_quotable_reason_has_the_size_its_interval_and_the_corrected_p() -> None:
    values = {"mha": {0: 1.0, 1: 2.0, 2: 3.0}, "gqa": {0: 0.98, 1: 1.99, 2: 2.97}}
    interval = stats.ttest_1samp([-0.02, -0.01, -0.03], 0).confidence_interval(0.95)
    reason = one(values, "gqa", metric="val_bits_per_byte").reason
    assert reason is not None and reason.startswith("no difference shown: 0.020 bits per byte lower than mha (")
    assert f"({interval.high:.3f} higher to {-interval.low:.3f} lower, p 0.074)" in reason
    clear = one(table({"gqa": -0.012, "mqa": 0.0}, noise=0.002), "gqa", metric="val_loss").reason
    assert clear is not None and "nats lower than mha (0.0" in clear and clear.endswith("after Holm's correction over 2 arms)")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0}, "alpha 0"),
        ({"alpha": math.nan}, "alpha nan"),
        ({"power": 1}, "power 1"),
        ({"equivalence": 0}, "equivalence 0"),
        ({"equivalence": -0.1}, "equivalence -0.1"),
        ({"equivalence": math.inf}, "equivalence inf"),
        ({"sequential": True, "paired": False}, "needs paired seeds"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_its_value(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        judge(table({"gqa": 0.0}), "mha", **options)


def test_an_unknown_baseline_is_refused_with_the_nearest_arm() -> None:
    with pytest.raises(UserError, match="did you mean 'mha'"):
        judge(table({"gqa": 0.0}), "mah")


def test_a_baseline_alone_has_nothing_to_be_compared_with() -> None:
    assert [judged.verdict for judged in judge(table({}), "mha")] == [None]


@settings(max_examples=60, deadline=None)
@given(tables, st.floats(0.01, 100), st.booleans(), st.sampled_from([None, 0.5]))
def test_the_unit_changes_no_verdict_and_a_turned_scale_with_higher_is_better_neither(
    values: Values, scale: float, sequential: bool, margin: float | None
) -> None:
    def turned(by: float) -> Values:
        return {arm: {seed: by * (value or 0) for seed, value in of.items()} for arm, of in values.items()}

    here = judge(values, "arm0", sequential=sequential, equivalence=margin)
    if any(abs((p or 1) - 0.05) < 1e-6 or (p or 1) < 1e-12 for one in here for p in (one.p_adjusted, one.p_equivalent)):
        return
    unit = judge(turned(scale), "arm0", sequential=sequential, equivalence=margin and margin * scale)
    mirror = judge(turned(-1), "arm0", sequential=sequential, equivalence=margin, higher_is_better=True)
    assert [one.verdict for one in here] == [one.verdict for one in unit] == [one.verdict for one in mirror]
    assert [-(one.difference or 0) for one in here] == pytest.approx([one.difference or 0 for one in mirror])


@settings(max_examples=60, deadline=None)
@given(tables, st.lists(st.integers(-8, 8), min_size=6, max_size=6), st.booleans())
def test_what_a_seed_adds_to_every_arm_changes_no_difference(values: Values, shifts: list[int], sequential: bool) -> None:
    moved = {arm: {seed: (value or 0) + shifts[seed] for seed, value in of.items()} for arm, of in values.items()}
    here, there = (judge(each, "arm0", sequential=sequential) for each in (values, moved))
    assert [one.difference or 0 for one in there] == pytest.approx([one.difference or 0 for one in here], abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.dictionaries(st.integers(0, 5), st.none() | st.floats(), max_size=6), min_size=1, max_size=4),
    st.sampled_from([{}, {"sequential": True}, {"paired": False}]),
    st.none() | st.floats(1e-300, 1e300),
)
def test_whatever_the_values_every_judgement_can_be_written_as_json(
    rows: list[dict[int, float | None]], options: dict[str, bool], margin: float | None
) -> None:
    values = {f"arm{index}": row for index, row in enumerate(rows)}
    for judged in judge(values, "arm0", equivalence=margin, **options):  # type: ignore[arg-type]
        assert Judgement.model_validate_json(judged.model_dump_json()) == judged
        assert judged.arm == "arm0" or judged.reason
