"""Studies to write reports of: a whole one with everything that can happen, and small ones that lack almost everything.

Made with numpy and scipy as a study would make them: the statistics are not what is tested here, but the numbers belong together.
"""

from __future__ import annotations

import math

import numpy as np
from scipy import stats

from llmkit.ablate.results import Amendment, ArmResult, Cell, Difference, Judgement, StudyResult, Tuned, Verdict, Worth

TOKENS = 1_966_080
SEEDS = [0, 1, 2, 3, 4]
POINTS = 24
ALPHA = 0.05


def curve(final: float, rng: np.random.Generator, tokens: int = TOKENS) -> list[tuple[int, float]]:
    """A loss that falls as losses do, and ends at the given value."""
    places = np.linspace(tokens / POINTS, tokens, POINTS)
    fall = 5.5 * ((places / places[0]) ** -0.85 - (tokens / places[0]) ** -0.85)
    noise = rng.normal(0, 0.004, POINTS) * np.linspace(1, 0, POINTS)
    return [(int(place), float(final + drop + shake)) for place, drop, shake in zip(places, fall, noise)]


def cells(arm: str, finals: dict[int, float], rng: np.random.Generator) -> list[Cell]:
    return [
        Cell(
            arm=arm,
            seed=seed,
            key=f"{sum(arm.encode()) * 1000 + seed:016x}"[:16],
            directory=f"cells/{arm.replace('/', '+')}/seed-{seed}",
            ending="finished",
            value=value,
            curve=curve(value, rng),
            tokens=TOKENS,
            seconds=41.7,
            tokens_per_second=47_150.0 + 100 * seed,
            peak_memory_bytes=412_876_800,
        )
        for seed, value in finals.items()
    ]


def judged(
    arm: str, finals: dict[int, float], baseline: dict[int, float], verdict: Verdict | None, reason: str, more_seeds: int | None = None
) -> Judgement:
    """The figures of a paired t-test."""
    values = np.array(list(finals.values()))
    differences = {seed: finals[seed] - baseline[seed] for seed in finals if seed in baseline}
    spread = np.array(list(differences.values()))
    number = len(spread)
    mean, deviation = float(spread.mean()), float(spread.std(ddof=1))
    half = float(stats.t.ppf(1 - ALPHA / 2, number - 1)) * deviation / math.sqrt(number)
    found = float(stats.ttest_1samp(spread, 0.0).pvalue)
    p = found if math.isfinite(found) else 1.0
    return Judgement(
        arm=arm,
        seeds=list(finals),
        mean=float(values.mean()),
        deviation=float(values.std(ddof=1)),
        difference=mean,
        interval=(mean - half, mean + half),
        differences=differences,
        p=p,
        p_adjusted=min(1.0, 3 * p),
        p_sign_flip=0.0625 if p < 0.05 else 0.4375,
        p_equivalent=0.011 if verdict == "equivalent" else 0.62,
        noise=deviation,
        resolvable=deviation * 1.68,
        more_seeds=more_seeds,
        verdict=verdict,
        reason=reason,
    )


def alone(arm: str, finals: dict[int, float]) -> Judgement:
    values = np.array(list(finals.values()))
    return Judgement(arm=arm, seeds=list(finals), mean=float(values.mean()), deviation=float(values.std(ddof=1)))


def whole() -> StudyResult:
    """Six arms by five seeds: one better, one worse, one equivalent, one inconclusive, one confounded, one unstable."""
    rng = np.random.default_rng(7)
    seed_effect = rng.normal(0, 0.006, len(SEEDS))

    def finals(shift: float, noise: float = 0.0016) -> dict[int, float]:
        return {seed: float(2.0134 + shift + seed_effect[seed] + rng.normal(0, noise)) for seed in SEEDS}

    base = finals(0.0)
    arms = [
        ArmResult(
            name="mha/rmsnorm",
            choices={"attention": "mha", "norm": "rmsnorm"},
            parameters={"total": 5_770_240, "embedding": 1_048_576, "non_embedding": 4_721_664},
            flops_per_token={"forward": 1.1796e7, "training": 3.5389e7},
            kv_cache_bytes_per_token=6144,
            tokens=TOKENS,
            tokens_per_second=47_350,
            peak_memory_bytes=412_876_800,
            cells=cells("mha/rmsnorm", base, rng),
            judgement=alone("mha/rmsnorm", base),
            tuned=Tuned(trials=trials(rng, 2.014), chosen={"train.optimizer.lr": 0.001}, at_edge=False),
        )
    ]
    values = finals(-0.0118)
    arms.append(
        ArmResult(
            name="gqa/rmsnorm",
            choices={"attention": "gqa", "norm": "rmsnorm"},
            differences=[
                Difference(address="model.block.attention.type", baseline="mha", value="gqa"),
                Difference(address="model.block.attention.n_kv_heads", baseline=None, value=2),
                Difference(address="model.block.ffn.d_ff", baseline=688, value=752, derived=True),
            ],
            matched="model.block.ffn.d_ff 688 -> 752: 5,775,616 parameters, +0.09% of the baseline's",
            parameters={"total": 5_775_616, "embedding": 1_048_576, "non_embedding": 4_727_040},
            flops_per_token={"forward": 1.1801e7, "training": 3.5404e7},
            kv_cache_bytes_per_token=1536,
            tokens=TOKENS,
            tokens_per_second=49_230,
            peak_memory_bytes=398_458_880,
            cells=cells("gqa/rmsnorm", values, rng),
            judgement=judged("gqa/rmsnorm", values, base, "better", "the interval of the difference lies below zero (adjusted p 0.0003)"),
            worth=Worth(fraction=0.07, interval=(0.04, 0.10), words="worth 7% (4\u201310%) of the training tokens"),
            tuned=Tuned(
                trials=trials(rng, 2.002),
                chosen={"train.optimizer.lr": 0.002},
                at_edge=True,
                fixed=judged("gqa/rmsnorm", finals(-0.006), base, "inconclusive", "zero lies in the interval"),
            ),
        )
    )
    values = finals(0.0171)
    arms.append(
        ArmResult(
            name="mqa/rmsnorm",
            choices={"attention": "mqa", "norm": "rmsnorm"},
            differences=[
                Difference(address="model.block.attention.type", baseline="mha", value="mqa"),
                Difference(address="model.block.ffn.d_ff", baseline=688, value=768, derived=True),
            ],
            matched="model.block.ffn.d_ff 688 -> 768: 5,772,544 parameters, +0.04% of the baseline's",
            parameters={"total": 5_772_544, "embedding": 1_048_576, "non_embedding": 4_723_968},
            flops_per_token={"forward": 1.18e7, "training": 3.54e7},
            kv_cache_bytes_per_token=768,
            tokens=TOKENS,
            tokens_per_second=49_980,
            peak_memory_bytes=396_361_728,
            cells=cells("mqa/rmsnorm", values, rng),
            judgement=judged("mqa/rmsnorm", values, base, "worse", "the interval of the difference lies above zero (adjusted p 0.0002)"),
            worth=Worth(fraction=-0.11, interval=(-0.15, -0.08), words="costs 11% (8\u201315%) more training tokens"),
        )
    )
    values = finals(0.0002, 0.0011)
    arms.append(
        ArmResult(
            name="mha/layernorm",
            choices={"attention": "mha", "norm": "layernorm"},
            differences=[Difference(address="model.block.norm.type", baseline="rmsnorm", value="layernorm")],
            parameters={"total": 5_773_568, "embedding": 1_048_576, "non_embedding": 4_724_992},
            flops_per_token={"forward": 1.1796e7, "training": 3.5389e7},
            kv_cache_bytes_per_token=6144,
            tokens=TOKENS,
            tokens_per_second=46_010,
            peak_memory_bytes=415_236_096,
            cells=cells("mha/layernorm", values, rng),
            judgement=judged("mha/layernorm", values, base, "equivalent", "the 90% interval lies within the margin of 0.005 either way"),
        )
    )
    values = finals(-0.0031, 0.0042)
    arms.append(
        ArmResult(
            name="gqa/layernorm",
            choices={"attention": "gqa", "norm": "layernorm"},
            differences=[
                Difference(address="model.block.attention.type", baseline="mha", value="gqa"),
                Difference(address="model.block.attention.n_kv_heads", baseline=None, value=2),
                Difference(address="model.block.norm.type", baseline="rmsnorm", value="layernorm"),
                Difference(address="model.block.ffn.d_ff", baseline=688, value=752, derived=True),
            ],
            matched="model.block.ffn.d_ff 688 -> 752: 5,778,944 parameters, +0.15% of the baseline's",
            parameters={"total": 5_778_944, "embedding": 1_048_576, "non_embedding": 4_730_368},
            flops_per_token={"forward": 1.1801e7, "training": 3.5404e7},
            kv_cache_bytes_per_token=1536,
            tokens=TOKENS,
            tokens_per_second=48_120,
            peak_memory_bytes=400_556_032,
            cells=cells("gqa/layernorm", values, rng),
            judgement=judged("gqa/layernorm", values, base, "inconclusive", "zero lies in the interval; 6 more would settle it", 6),
        )
    )
    values = finals(-0.0312)
    arms.append(
        ArmResult(
            name="wide",
            choices={"attention": "mha", "norm": "rmsnorm", "width": "320"},
            differences=[
                Difference(address="model.d_model", baseline=256, value=320),
                Difference(address="model.block.attention", baseline={"type": "mha", "n_heads": 8}, value={"type": "mha", "n_heads": 10}),
            ],
            confounders=["48% more parameters than the baseline (8,552,000 against 5,770,240)", "51% more FLOPs per token"],
            parameters={"total": 8_552_000, "embedding": 1_310_720, "non_embedding": 7_241_280},
            flops_per_token={"forward": 1.781e7, "training": 5.343e7},
            kv_cache_bytes_per_token=7680,
            tokens=TOKENS,
            tokens_per_second=33_870,
            peak_memory_bytes=530_579_456,
            cells=cells("wide", values, rng),
            judgement=judged("wide", values, base, "confounded", "more parameters and more compute than the baseline"),
        )
    )
    arms.append(unstable(finals(0.004), base, rng))
    return StudyResult(
        study="attention",
        hash="9f2c61d0a4b7e85310cc7d5e2f8b96a1443fe07d5b21c98e6a70d3f4128b5ce9",
        baseline="mha/rmsnorm",
        metric="val_bits_per_byte",
        alpha=ALPHA,
        equivalence=0.005,
        match="params",
        arms=arms,
        amendments=[Amendment(when="2026-03-02T09:14:51Z", address="equivalence", was=None, now=0.005)],
        warnings=["the margin of equivalence was set after the first run"],
        command="llmkit ablate recipe:studies/attention --out studies/attention --workers 2",
        created="2026-03-01T18:02:11Z",
        llmkit="0.1.0",
        machine={"torch": "2.13.0", "python": "3.11.2", "processor": "x86_64, 2 threads", "precision": "fp32"},
        seconds=1544.0,
    )


def trials(rng: np.random.Generator, best: float) -> list[dict[str, object]]:
    rates = [0.0005, 0.001, 0.002]
    return [
        {"train.optimizer.lr": rate, "values": {"1000": best + 0.01 * abs(index - 1)}, "mean": best + 0.01 * abs(index - 1)}
        for index, rate in enumerate(rates)
    ]


def unstable(finals: dict[int, float], base: dict[int, float], rng: np.random.Generator) -> ArmResult:
    """One seed diverges half-way, another crashes."""
    name = "mha/none"
    kept = {seed: value for seed, value in finals.items() if seed not in (1, 3)}
    ran = cells(name, kept, rng)
    half = curve(2.02, rng)[: POINTS // 2]
    risen = [*half[:-3], *((tokens, value + rise) for (tokens, value), rise in zip(half[-3:], (0.4, 1.9, 6.2)))]
    ran.append(
        Cell(arm=name, seed=1, key="d1", ending="diverged", reason="loss is not finite at step 431 of 960", curve=risen, tokens=882_688)
    )
    ran.append(Cell(arm=name, seed=3, key="c3", ending="crashed", reason="killed by signal 9 (out of memory?)", curve=half[:2]))
    told = judged(name, kept, base, "unstable", "2 of 5 seeds did not finish: one diverged, one crashed")
    return ArmResult(
        name=name,
        choices={"attention": "mha", "norm": "none"},
        differences=[Difference(address="model.block.norm.type", baseline="rmsnorm", value="none")],
        parameters={"total": 5_766_912, "embedding": 1_048_576, "non_embedding": 4_718_336},
        flops_per_token={"forward": 1.1796e7, "training": 3.5389e7},
        kv_cache_bytes_per_token=6144,
        tokens=TOKENS,
        tokens_per_second=51_480,
        peak_memory_bytes=401_604_608,
        cells=sorted(ran, key=lambda cell: cell.seed),
        judgement=told,
    )


def sequential() -> StudyResult:
    """The same, looked at after every seed, and not yet at its end."""
    study = whole()
    arms = [
        arm.model_copy(update={"judgement": arm.judgement.model_copy(update={"e_value": None if place == 0 else 10.0 ** (place - 2)})})
        for place, arm in enumerate(study.arms)
    ]
    waiting = [Cell(arm="gqa/layernorm", seed=5, key="w5", ending="missing")]
    arms[4] = arms[4].model_copy(update={"cells": [*arms[4].cells, *waiting]})
    return study.model_copy(update={"sequential": True, "complete": False, "arms": arms})


def table_only() -> StudyResult:
    """What `llmkit verdict` knows: values, and nothing of any run."""
    base = {0: 3.2801, 1: 3.2779}
    other = {0: 3.2755, 1: 3.2741}
    arms = [
        ArmResult(name="old", judgement=alone("old", base)),
        ArmResult(name="new", judgement=judged("new", other, base, "inconclusive", "two seeds say little", more_seeds=3)),
    ]
    return StudyResult(study="runs", hash="", baseline="old", metric="value", arms=arms)


def baseline_only() -> StudyResult:
    """One arm, nothing to compare it with."""
    return StudyResult(
        study="alone",
        hash="ab12",
        baseline="it",
        metric="val_loss",
        arms=[ArmResult(name="it", judgement=alone("it", {0: 1.25, 1: 1.35}))],
    )


def nothing_yet() -> StudyResult:
    """A study of which no run has ended."""
    arms = [
        ArmResult(
            name=name,
            cells=[Cell(arm=name, seed=0, key=f"{name}0", ending="missing")],
            judgement=Judgement(arm=name, seeds=[]),
        )
        for name in ("a", "b")
    ]
    return StudyResult(study="fresh", hash="cd34", baseline="a", metric="val_loss", complete=False, arms=arms)


HOSTILE = ("<script>alert(1)</script>", 'a&b "quoted" \u4e2d\u6587 \u00e9', "x_1 | 50% $y$ # {z} ~^\\ `code` [1]*")
"""Names that mean something to HTML, to Markdown, and to LaTeX."""


def hostile() -> StudyResult:
    """Everything that a person can write has marks in it."""
    base, rng = {0: 1.0, 1: 1.01, 2: 0.99}, np.random.default_rng(0)
    arms = [ArmResult(name=HOSTILE[0], cells=cells(HOSTILE[0], base, rng), judgement=alone(HOSTILE[0], base))]
    for place, name in enumerate(HOSTILE[1:]):
        values = {seed: value + 0.1 * (place + 1) + 0.001 * seed for seed, value in base.items()}
        difference = Difference(address=f"model.{name}", baseline="</code><b>", value={"k": "<img src=x onerror=alert(1)>"})
        told = judged(name, values, base, "worse", "because a < b & c > d")
        arms.append(ArmResult(name=name, differences=[difference], cells=cells(name, values, rng), judgement=told))
    return StudyResult(
        study='<b>"study" & co</b>',
        hash="ef56",
        baseline=HOSTILE[0],
        metric="my<eval>.score|x",
        higher_is_better=True,
        arms=arms,
        warnings=["<i>warned</i> & more | $5"],
        command="llmkit ablate 'a & b.yaml' --out \"<dir>\" `x`",
        machine={"<gpu>": {"name": "A&B"}},
    )


def many() -> StudyResult:
    """Twenty-four arms with long names and costs that differ: what a figure has least room for."""
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 0.005, 4)
    base = {seed: 1.5 + float(shared[seed]) for seed in range(4)}
    arms = [
        ArmResult(name="baseline", parameters={"total": 1_000_000}, cells=cells("baseline", base, rng), judgement=alone("baseline", base))
    ]
    for place in range(23):
        name = f"optimizer-{place:02d}/warmup-{place % 5}/schedule-with-a-long-name-{place}"
        shift = float(rng.normal(0, 0.01))
        values = {seed: 1.5 + float(shared[seed]) + shift + float(rng.normal(0, 0.002)) for seed in range(4)}
        judgement = judged(name, values, base, "worse" if shift > 0.003 else "better" if shift < -0.003 else "inconclusive", "as it is")
        parameters = {"total": 1_000_000 + 40_000 * place}
        arms.append(ArmResult(name=name, parameters=parameters, cells=cells(name, values, rng), judgement=judgement))
    return StudyResult(study="many", hash="9a", baseline="baseline", metric="val_loss", arms=arms, command="llmkit ablate many.yaml")
