"""What the words of a study mean, checked before any arm is made: each mistake where it stands, with what to do. Torch-free."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from llmkit.ablate.study_file import FIRST_TUNING_SEED, TRAINING_METRICS, Choices, StudyFile, seeds_of
from llmkit.core.catalog import Catalog
from llmkit.core.document import Node
from llmkit.core.kinds import Kind
from llmkit.core.problems import Problem, SpecError, suggestion

NAME = re.compile(r"(?!\.+$)[^/\\+\0\s]+")
"""Of an alternative, or a part of an arm's: what can be part of a directory's name."""

NOT_OF_AN_ARM = {
    "train": "it holds the seed, which every arm has in common; set what is under it",
    "train.seed": "every arm is trained with the same seeds; give them as `seeds`",
    "name": "the study names its cells",
    "llmkit": "all are read by this llmkit",
}
"""Addresses that no alternative may set, and that cannot be tuned, with the reason."""


class Checked:
    """A study that was read: its form is right, and what it says is to be checked. `problems` are what was found so far."""

    def __init__(self, document: Node, form: StudyFile, catalog: Catalog) -> None:
        self.document, self.form, self.catalog = document, form, catalog
        self.axes = {axis: {name: values or {} for name, values in alternatives.items()} for axis, alternatives in form.axes.items()}
        self.problems: list[Problem] = []

    def check_words(self) -> None:
        """`SpecError` where an axis, a seed or the metric cannot be what it is given as."""
        self._check_axes()
        self._check_seeds()
        self._check_metric()
        self.stop()

    def say(self, parts: Sequence[str | int], message: str, *, key: bool = False) -> None:
        """A problem at these keys of the study."""
        found, node = self.document.walk(parts)
        place = node.key or node.place if key or not node.is_scalar else node.place
        self.problems.append(Problem(place if len(found) == len(parts) else node.place, ".".join(map(str, parts)), message))

    def stop(self) -> None:
        """Raise what was found so far, where there is anything."""
        if self.problems:
            raise SpecError(self.problems)

    def _check_axes(self) -> None:
        for axis, alternatives in self.axes.items():
            if not alternatives:
                self.say(["axes", axis], "has no alternatives; add them, or remove the axis")
            for name in alternatives:
                if not NAME.fullmatch(name):
                    self.say(
                        ["axes", axis, name], f"{name!r} cannot be part of a directory's name; use letters, digits, dots, dashes", key=True
                    )
            self._check_equal(axis, alternatives)
            for name, values in alternatives.items():
                self._check_own(axis, name, values)
        self._check_shared()
        self._check_undone()

    def _check_equal(self, axis: str, alternatives: Mapping[str, Any]) -> None:
        seen: dict[str, str] = {}
        for name, values in alternatives.items():
            first = seen.setdefault(json.dumps(values, sort_keys=True), name)
            if first != name:
                self.say(["axes", axis, name], f"says the same as {first!r}; change one of them, or remove it", key=True)

    def _check_own(self, axis: str, name: str, values: Mapping[str, Any]) -> None:
        """What an alternative may not set: each cell has a seed and a name of its own."""
        for address in values:
            if address in NOT_OF_AN_ARM:
                self.say(["axes", axis, name, address], f"cannot differ between arms: {NOT_OF_AN_ARM[address]}", key=True)
            elif not all(address.split(".")):
                self.say(["axes", axis, name, address], f"{address!r} is no address; write such as model.block.norm", key=True)

    def _check_shared(self) -> None:
        """Two axes that set one address: the later would have its way, silently."""
        first: dict[str, str] = {}
        for axis, alternatives in self.axes.items():
            for address in dict.fromkeys(address for values in alternatives.values() for address in values):
                if first.setdefault(address, axis) != axis:
                    where = next(name for name, values in alternatives.items() if address in values)
                    self.say(["axes", axis, where, address], f"is set by axis {first[address]!r} too; let one axis set it", key=True)

    def _check_undone(self) -> None:
        """What matching would turn back to the baseline's."""
        dials = [self.form.dial] if isinstance(self.form.dial, str) else self.form.dial
        for axis, alternatives in self.axes.items():
            for name, values in alternatives.items():
                for address in values:
                    budget = self.form.match == "tokens" and address in ("train.tokens", "train.steps")
                    turned = address in dials if dials else address.endswith(".ffn.d_ff")
                    if budget or (turned and self.form.match in ("params", "flops")):
                        remedy = "remove `match`" if budget else "name another `dial`, or remove `match`"
                        self.say(["axes", axis, name, address], f"is turned back by match: {self.form.match}; {remedy}", key=True)

    def _check_seeds(self) -> None:
        for key in ("seeds", "tune_seeds"):
            seeds = getattr(self.form, key)
            for index, seed in enumerate(seeds if isinstance(seeds, list) else ()):
                if seed in seeds[:index]:
                    self.say([key, index], f"seed {seed} is given twice, and would count as evidence twice; remove one")
        shared = set(seeds_of(self.form.seeds)) & set(seeds_of(self.form.tune_seeds, FIRST_TUNING_SEED))
        if shared:
            self.say(["tune_seeds"], f"{listed(sorted(shared))} is judged as well; a setting is chosen on seeds that are not judged")

    def _check_metric(self) -> None:
        metric = self.form.metric
        if metric in TRAINING_METRICS:
            return
        evaluator, dot, _ = metric.rpartition(".")
        known = self.catalog.names(Kind.evaluator)
        if not dot:
            hint = suggestion(metric, [*TRAINING_METRICS, *(f"{name}.METRIC" for name in known)])
            self.say(["metric"], f"no metric is called {metric!r}; {hint}")
        elif evaluator not in known:
            self.say(["metric"], self.catalog.missing(Kind.evaluator, evaluator))

    def check_choices(self, parts: Sequence[str | int], choices: Choices) -> None:
        """That these keys name axes and alternatives that there are."""
        for axis, alternative in choices.items():
            if axis not in self.axes:
                self.say([*parts, axis], f"no axis is called {axis!r}; {suggestion(axis, self.axes)}", key=True)
            elif alternative not in self.axes[axis]:
                hint = suggestion(alternative, self.axes[axis])
                self.say([*parts, axis], f"axis {axis!r} has no alternative {alternative!r}; {hint}")


def listed(names: Sequence[Any]) -> str:
    """As a sentence names them."""
    return ", ".join(map(str, names))
