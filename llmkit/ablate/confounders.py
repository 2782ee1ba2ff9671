"""What differs between an arm and the baseline besides the thing under study, told before any compute is spent. Torch-free.

The thing under study is what the axes set. An axis that sets a learning rate, a budget or a width, and nothing else, studies just that,
and no arm is confounded by it. What *follows* from a choice (grouped heads have fewer parameters), or is set *beside* it (a new
attention, and with it another learning rate), confounds: a difference in the metric could come from either.

    confounded  the arm's verdict is `confounded`, whatever its numbers say, unless the study waives it
    note        a cost or a circumstance that a reader should know; it decides nothing
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from llmkit.ablate.arms import axes_between
from llmkit.core.filled import differences
from llmkit.core.slot import plain
from llmkit.core.spec import Spec

if TYPE_CHECKING:
    from llmkit.ablate.arms import Arm
    from llmkit.ablate.study import Study

Kind = Literal[
    "parameters", "flops", "tokens", "text", "vocabulary", "validation", "data_order", "learning_rate", "optimizer", "optimizer_groups",
    "initial_scale", "schedule", "precision", "training",
]  # fmt: skip
"""What a confounder is called, and waived by."""

KINDS: tuple[str, ...] = get_args(Kind)

Severity = Literal["confounded", "note"]

TOLERANCE = 0.01
"""Costs that differ by less, as a part of the baseline's, are called equal."""

NOTABLE_NATS = 0.1
"""A difference of the initial losses, above ln V each, that is worth a word."""

SIZES = frozenset({"model.d_model", "model.n_layers"})
"""Numbers that are nothing but the model's size: an axis of these alone studies the number of parameters itself."""

QUIET = (
    "train.checkpoint_every", "train.keep_checkpoints", "train.keep_every", "train.keep_best", "train.eval_every", "train.eval_sequences",
    "train.sample_every", "train.sample_prompts", "train.sample_tokens", "train.trackers", "train.micro_batch_size", "train.recompute",
    "train.offload_optimizer", "train.compile", "data.cache", "parallel", "eval", "name", "requires", "llmkit",
)  # fmt: skip
"""What changes nothing that is learned, but for rounding."""

KIND_OF: tuple[tuple[str, Kind], ...] = (
    ("train.steps", "tokens"),
    ("train.tokens", "tokens"),
    ("train.batch_size", "data_order"),
    ("train.seq_len", "data_order"),
    ("train.data_seed", "data_order"),
    ("train.schedule", "schedule"),
    ("train.precision", "precision"),
    ("train.optimizer", "optimizer"),
    ("train", "training"),
    ("tokenizer", "vocabulary"),
    ("model.vocab_size", "vocabulary"),
    ("data", "text"),
)
"""By the beginning of an address, the first that fits: what it is that an axis of something else sets beside it."""

AFTER_THE_SPLIT = ("data.mask_documents", "data.shuffle_documents", "data.mixer")
"""What changes how the training text is read, and nothing of what is held out."""

PER_TOKEN = frozenset({"loss", "perplexity", "val_loss"})
"""Metrics counted by the token, whose unit changes with the vocabulary."""


@dataclass(frozen=True)
class Confounder:
    """One thing that differs besides the thing under study.

    addresses  of the spec at which it can be waived
    waived     whether the study accepts it, and it is a note for that reason
    """

    kind: Kind
    arm: str
    message: str
    addresses: tuple[str, ...] = ()
    severity: Severity = "confounded"
    waived: bool = False

    def row(self) -> dict[str, Any]:
        """As `ablate --plan --json` prints it."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "waived": self.waived,
            "addresses": list(self.addresses),
            "message": self.message,
        }


@dataclass(frozen=True)
class Facts:
    """What is known of an arm before it trains.

    parameters      total, embedding, non_embedding
    training_flops  a token
    groups          parameter -> (weight decay, peak learning rate) of the optimizer's group that holds it
    initial_excess  loss of the untrained model on random tokens above ln V, in nats; None where it was not measured
    """

    spec: Spec
    parameters: Mapping[str, int]
    training_flops: float
    groups: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    initial_excess: float | None = None

    @property
    def tokens(self) -> int:
        """That its run reads."""
        return self.spec.steps * self.spec.train.batch_size * self.spec.seq_len


def confounders(study: Study, facts: Mapping[str, Facts]) -> dict[str, list[Confounder]]:
    """Of every arm but the baseline, what differs besides the thing under study; what the study waives is a note."""
    found: dict[str, list[Confounder]] = {}
    for arm in study.arms:
        pair = _Pair(study, arm, facts[study.baseline], facts[arm.name])
        found[arm.name] = [] if arm.name == study.baseline else [_waived(one, study.waive) for one in pair.confounders()]
    return found


def _waived(one: Confounder, waive: Sequence[str]) -> Confounder:
    if one.severity == "note":
        return one
    by = next((name for name in waive if name == one.kind or any(_related(name, address) for address in one.addresses)), None)
    return one if by is None else replace(one, severity="note", waived=True, message=f"{one.message} (waived: {by})")


def _related(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")


class _Pair:
    """An arm beside the baseline.

    axes  those whose choices differ -> the addresses that either alternative sets
    """

    def __init__(self, study: Study, arm: Arm, baseline: Facts, facts: Facts) -> None:
        self.study, self.arm, self.baseline, self.facts = study, arm, baseline, facts
        self.axes = axes_between(study, arm)
        self.set = tuple(address for addresses in self.axes.values() for address in addresses)
        self.changed = [
            address for address, _, _ in differences(baseline.spec, facts.spec) if not any(_related(address, one) for one in QUIET)
        ]

    def confounders(self) -> Iterator[Confounder]:
        """Everything, the gravest sorts first."""
        yield from self._vocabulary()
        yield from self._validation()
        yield from self._tokens()
        yield from self._parameters()
        yield from self._flops()
        yield from self._tuned()
        yield from self._beside()
        yield from self._data_order()
        yield from self._schedule()
        yield from self._groups()
        yield from self._initial_scale()

    def _said(self, kind: Kind, message: str, addresses: Iterable[str] = (), severity: Severity = "confounded") -> Confounder:
        return Confounder(kind, self.arm.name, message, tuple(addresses), severity)

    def _vocabulary(self) -> Iterator[Confounder]:
        """Nats a token mean another thing where tokens do."""
        ours, theirs = self.facts.spec, self.baseline.spec
        changed = [address for address in self.changed if _related(address, "tokenizer") or address == "model.vocab_size"]
        if not changed:
            return
        metric = self.study.metric.rpartition(".")[2]
        if metric in PER_TOKEN and (plain(ours.tokenizer) != plain(theirs.tokenizer)):
            sizes = f"{ours.vocab_size:,} ids against {theirs.vocab_size:,}"
            yield self._said(
                "vocabulary",
                f"the tokenizer differs ({sizes}), and {self.study.metric} counts by the token: a token is not the same amount of text; "
                "take a metric of bits per byte",
                changed,
            )
        if plain(ours.tokenizer) != plain(theirs.tokenizer):
            yield self._said("text", "as many tokens of another tokenizer are another amount of text", changed, "note")

    def _validation(self) -> Iterator[Confounder]:
        """A number measured on another text says nothing of the model. A text of its own (`data.holdout`) is the same however the source
        is cleaned; a part of the source is cleaned with it."""
        touching = ("data.holdout", "data.extractor") if self.facts.spec.data.holdout is not None else ("data",)
        changed = [
            address
            for address in self.changed
            if any(_related(address, one) for one in touching) and not any(_related(address, one) for one in AFTER_THE_SPLIT)
        ]
        if not changed:
            return
        message = f"{_listed(changed)}: what is held out may be another text, on which {self.study.metric} is another yardstick"
        if self.study.evaluator is None:
            remedy = "give a text of its own as data.holdout, judge by an evaluator that has one, or waive it where it is the same"
            yield self._said("validation", f"{message}; {remedy}", changed)
        else:
            yield self._said("validation", f"{message} unless the evaluator has a text of its own", changed, "note")

    def _tokens(self) -> Iterator[Confounder]:
        ours, theirs = self.facts.tokens, self.baseline.tokens
        step = max(one.spec.train.batch_size * one.spec.seq_len for one in (self.facts, self.baseline))
        if abs(ours - theirs) < step or self._studied(("train.tokens", "train.steps")):
            return
        remedy = "give train.tokens in the spec, or match: tokens"
        yield self._said(
            "tokens", f"reads {ours:,} tokens, the baseline {theirs:,} ({percent(ours / theirs - 1)}); {remedy}", self._setting("train")
        )

    def _parameters(self) -> Iterator[Confounder]:
        ours, theirs = self.facts.parameters["total"], self.baseline.parameters["total"]
        if abs(ours / theirs - 1) <= TOLERANCE or self._is_size():
            return
        said = f"{ours:,} parameters, the baseline {theirs:,} ({percent(ours / theirs - 1)})"
        if self.study.match == "flops":
            yield self._said("parameters", f"{said}: FLOPs were matched", self.set, "note")
        elif self._sorts() == {"tokenizer"} and self._same_inside():
            yield self._said("parameters", f"{said}: all of it in the tables of tokens", self.set, "note")
        elif self.study.match == "params":
            yield self._said("parameters", f"{said}: the dial could not be turned far enough; name another as `dial`", self.set)
        else:
            yield self._said("parameters", f"{said}, which follows from the choice; give match: params", self.set)

    def _same_inside(self) -> bool:
        ours, theirs = _without_tables(self.facts), _without_tables(self.baseline)
        return abs(ours / theirs - 1) <= TOLERANCE

    def _flops(self) -> Iterator[Confounder]:
        ours, theirs = self.facts.training_flops, self.baseline.training_flops
        if abs(ours / theirs - 1) <= TOLERANCE or self._is_size():
            return
        said = f"{ours:,.0f} training FLOPs a token, the baseline {theirs:,.0f} ({percent(ours / theirs - 1)})"
        if self.study.match == "flops":
            yield self._said("flops", f"{said}: the dial could not be turned far enough; name another as `dial`", self.set)
        else:
            yield self._said("flops", f"{said}: a cost of the choice, which was not held equal", self.set, "note")

    def _tuned(self) -> Iterator[Confounder]:
        """A search for one side only is an advantage of that side."""
        tuned = [name for name in (self.study.baseline, self.arm.name) if name in self.study.tune_arms]
        if len(tuned) != 1:
            return
        addresses = list(self.study.tune)
        whose, other = ("the baseline", "this arm") if tuned[0] == self.study.baseline else ("this arm", "the baseline")
        yield self._said(
            "learning_rate", f"{_listed(addresses)} tuned for {whose} only, {other} has the spec's own; tune every arm, or none", addresses
        )

    def _beside(self) -> Iterator[Confounder]:
        """What an axis sets beside the thing that it is about."""
        for axis, addresses in self.axes.items():
            main = _main(addresses)
            beside: dict[Kind, list[str]] = {}
            for address in addresses:
                if _sort(address) != main and any(_related(address, one) for one in self.changed):
                    beside.setdefault(_kind(address), []).append(address)
            for kind, given in beside.items():
                if kind not in ("tokens", "validation"):
                    yield self._set_beside(axis, main, kind, given)

    def _set_beside(self, axis: str, main: str, kind: Kind, given: list[str]) -> Confounder:
        """Something of the training that comes with a choice of, say, the model; fair only where every arm was given its own."""
        ours, theirs = (set(self.study.axes[axis][one.choices[axis]]) for one in (self.arm, self.study.arm(self.study.baseline)))
        tuned = [address for address in given if any(_related(address, one) for one in self.study.tune)]
        if len(tuned) == len(given) and {self.arm.name, self.study.baseline} <= set(self.study.tune_arms):
            return self._said(kind, f"axis {axis!r} sets {_listed(given)} beside the {main}, and it is tuned for both", given, "note")
        if kind in ("learning_rate", "optimizer") and set(given) <= ours & theirs:
            return self._said(kind, f"axis {axis!r} gives each arm a {_listed(given)} of its own beside the {main}", given, "note")
        whose = "this arm" if set(given) <= ours - theirs else "the baseline" if set(given) <= theirs - ours else "each arm"
        return self._said(
            kind,
            f"axis {axis!r} sets {_listed(given)} for {whose} beside the {main}: a difference could come from either; "
            "give it an axis of its own, or tune it for all",
            given,
        )

    def _data_order(self) -> Iterator[Confounder]:
        """Sequences of another length follow from another context."""
        ours, theirs = self.facts.spec.seq_len, self.baseline.spec.seq_len
        if ours != theirs and not self._setting("train"):
            yield self._said("data_order", f"reads sequences of {ours:,} tokens, the baseline of {theirs:,}", self.set, "note")

    def _schedule(self) -> Iterator[Confounder]:
        """Runs are compared at the end of a completed decay: one that still learns fast looks worse than it is."""
        # Of a run of one length, since the last step of a short one stands further above the floor.
        steps = max(self.facts.spec.steps, self.baseline.spec.steps)
        ours, theirs = last_factor(self.facts.spec, steps), last_factor(self.baseline.spec, steps)
        if math.isclose(ours, theirs, abs_tol=0.02) or self._studied(("train.schedule", "train.steps", "train.tokens", "train.optimizer")):
            return
        message = (
            f"its learning rate ends at {ours:.2g} of the peak, the baseline's at {theirs:.2g}; compare at the end of a completed decay"
        )
        yield self._said("schedule", message, self._setting("train"))

    def _groups(self) -> Iterator[Confounder]:
        """The optimizer treats what both arms have otherwise in one of them."""
        if self._studied(("train.optimizer", "model.init")):
            return
        shared = [name for name in self.facts.groups if name in self.baseline.groups]
        decays = [name for name in shared if (self.facts.groups[name][0] == 0) != (self.baseline.groups[name][0] == 0)]
        if decays:
            yield self._said("optimizer_groups", f"weight decay holds for one of the two only at {_some(decays)}", self.set)
        if self._setting("train.optimizer"):
            return
        rates = [name for name in shared if not math.isclose(self.facts.groups[name][1], self.baseline.groups[name][1], rel_tol=1e-6)]
        if rates:
            yield self._said(
                "optimizer_groups", f"the peak learning rate differs at {_some(rates)}, by the rule of `model.init`", self.set, "note"
            )

    def _initial_scale(self) -> Iterator[Confounder]:
        ours, theirs = self.facts.initial_excess, self.baseline.initial_excess
        if ours is None or theirs is None or abs(ours - theirs) <= NOTABLE_NATS:
            return
        message = f"begins with a loss {ours:.2f} nats above that of no idea, the baseline {theirs:.2f}: another initial scale"
        yield self._said("initial_scale", message, self.set, "note")

    def _studied(self, addresses: Sequence[str]) -> bool:
        """Whether an axis that sets nothing of another sort sets one of these."""
        return any(
            any(_related(one, address) for one in given for address in addresses) and len({_sort(one) for one in given}) == 1
            for given in self.axes.values()
        )

    def _setting(self, root: str) -> list[str]:
        return [address for address in self.set if _related(address, root)]

    def _sorts(self) -> set[str]:
        return {_sort(address) for address in self.set}

    def _is_size(self) -> bool:
        """Whether the arms differ in nothing but numbers of the model's size."""
        sizes = SIZES | set(self.study.dials) | {address for address in self.set if address.endswith(".ffn.d_ff")}
        axes = [given for given in self.axes.values() if not set(given) <= sizes and "model" in {_sort(one) for one in given}]
        return not axes and any(set(given) <= sizes for given in self.axes.values())


def _sort(address: str) -> str:
    """Which of the things that can be under study an address belongs to."""
    if address == "model.vocab_size":
        return "tokenizer"
    return address.split(".")[0]


def _main(addresses: Sequence[str]) -> str:
    """What an axis is about: the first of these that it sets; the rest comes beside."""
    sorts = {_sort(address) for address in addresses}
    return next((one for one in ("model", "tokenizer", "data", "train") if one in sorts), "spec")


def _kind(address: str) -> Kind:
    last = address.rpartition(".")[2]
    if _related(address, "train.optimizer") and (last == "lr" or last.startswith("lr_") or last.endswith("_lr")):
        return "learning_rate"
    return next((kind for start, kind in KIND_OF if _related(address, start)), "training")


def _without_tables(facts: Facts) -> int:
    """Parameters apart from what there is for each token of the vocabulary: the embedding, and the head where it is another."""
    model = facts.spec.model
    return facts.parameters["total"] - facts.spec.vocab_size * model.d_model * (1 if model.tie_embeddings else 2)


def last_factor(spec: Spec, steps: int) -> float:
    """Of the learning rate in the last step of a run of so many."""
    return float(spec.train.schedule.make()(steps - 1, steps))


def percent(part: float) -> str:
    """`+0.21%`, `+150%`; `equal` where nothing is left."""
    if abs(part) < 0.00005:
        return "equal"
    return f"{100 * part:+,.0f}%" if abs(part) >= 0.1 else f"{100 * part:+.2g}%"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)


def _some(names: Sequence[str], shown: int = 3) -> str:
    return _listed(names[:shown]) + (f" and {len(names) - shown} more" if len(names) > shown else "")
