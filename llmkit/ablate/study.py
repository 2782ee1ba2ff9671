"""The study: which differences between specs are to be judged, and how. Read whole, checked whole, before anything runs. Torch-free."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import Field, ValidationError

from llmkit.ablate.arms import Arm, Override, arm_name, filled_specs, product, spec_of
from llmkit.ablate.confounders import KINDS
from llmkit.core.catalog import Catalog
from llmkit.core.compose import OVERRIDE, RECIPE, STUDIES, Layer, Source, inherit_blocks, lay, merge, nested, read_layer, study_names
from llmkit.core.document import Node, located, read_value
from llmkit.core.filled import filled
from llmkit.core.kinds import Kind
from llmkit.core.problems import Place, Problem, SpecError, problems_of, suggestion
from llmkit.core.spec import Part, Spec
from llmkit.runtime import RECIPES, validated
from llmkit.runtime import catalog as installed

Match = Literal["params", "flops", "tokens", "none"]

TRAINING_METRICS = ("val_bits_per_byte", "val_loss")
"""What every run records; any other metric is `EVALUATOR.METRIC`."""

FIRST_TUNING_SEED = 10_000
"""Seeds that are tuned on are never those that are judged."""

Count = Annotated[int, Field(strict=True, ge=1)]
Seeds = Count | Annotated[list[Annotated[int, Field(strict=True, ge=0)]], Field(min_length=1)]
Number = Annotated[float, Field(strict=True)]
Choices = dict[str, str]


class StudyFile(Part):
    """A study as it is written."""

    llmkit: Literal[1] = Field(1, description="version of the form")
    name: str = Field(min_length=1, description="the study's name; the file's stem unless given")
    extends: str | dict[str, Any] = Field(
        description="the spec that every arm is laid over: a path from the study's file on, recipe:NAME, or a spec written here"
    )
    axes: dict[str, dict[str, dict[str, Any] | None]] = Field(
        min_length=1, description="axis -> alternative -> {address: value}; an empty alternative is the spec as it is"
    )
    arms: dict[str, Choices] | list[Choices] | None = Field(
        None, description="the arms by their alternatives, a mapping with names or a list; every combination of the axes unless given"
    )
    baseline: str | Choices = Field(description="what every other arm is compared with: {axis: alternative}, or the name of an arm")
    seeds: Seeds = Field(5, description="how many seeds each arm is trained with, or which")
    match: Match = Field("none", description="what every arm has as much of as the baseline: params, flops (a token), tokens, or none")
    dial: str | list[str] | None = Field(
        None, description="the addresses of whole numbers that are turned until an arm matches; d_ff of every block unless given"
    )
    tune: dict[str, Annotated[list[Any], Field(min_length=2)]] = Field(
        default_factory=dict, description="address -> values that each arm is tried with, on seeds of their own"
    )
    tune_seeds: Seeds = Field(2, description="how many seeds each setting is tried on, or which")
    tune_arms: list[str] | None = Field(None, description="the arms that are tuned; all unless given")
    metric: str = Field("val_bits_per_byte", description="what is judged: val_bits_per_byte, val_loss, or EVALUATOR.METRIC")
    higher_is_better: bool = Field(False, description="whether more of the metric is better")
    equivalence: Annotated[Number, Field(gt=0)] | None = Field(
        None, description="a difference of the metric that is called none; no arm is called equivalent without it"
    )
    alpha: Annotated[Number, Field(gt=0, lt=0.5)] = Field(
        0.05, description="how often an arm that does not differ may be called better or worse"
    )
    power: Annotated[Number, Field(gt=0.5, lt=1)] = Field(0.8, description="how surely the smallest resolvable effect is to be found")
    waive: list[str] = Field(
        default_factory=list, description="confounders that are accepted: by what they are called, or by an address that differs"
    )


@dataclass(frozen=True)
class Study:
    """A study in which every arm's spec is valid.

    base        the spec that every arm is laid over, before blocks inherit
    arms        in the order of the axes, or of the list
    baseline    the name of an arm
    seeds       as they are judged; `tune_seeds` are others
    dials       addresses that are turned to match; empty for the default
    tune_arms   names of the arms that are tuned
    content     what the study says in full, the extended spec filled; `hash` is its SHA-256
    """

    name: str
    base: Node
    axes: Mapping[str, Mapping[str, Mapping[str, Any]]]
    arms: tuple[Arm, ...]
    baseline: str
    seeds: tuple[int, ...]
    match: Match
    dials: tuple[str, ...]
    tune: Mapping[str, tuple[Any, ...]]
    tune_seeds: tuple[int, ...]
    tune_arms: tuple[str, ...]
    metric: str
    higher_is_better: bool
    equivalence: float | None
    alpha: float
    power: float
    waive: tuple[str, ...]
    content: Mapping[str, Any]

    @cached_property
    def hash(self) -> str:
        """Of the content: the same for the same study in another directory, under another name, or with other comments."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    @property
    def evaluator(self) -> tuple[str, str] | None:
        """The evaluator that the metric is of, and what it calls the number; None where every run records it."""
        if self.metric in TRAINING_METRICS:
            return None
        name, _, metric = self.metric.rpartition(".")
        return name, metric

    def arm(self, name: str) -> Arm:
        """The arm of this name; `KeyError` where there is none."""
        found = {arm.name: arm for arm in self.arms}
        return found[name]

    def document(self) -> dict[str, Any]:
        """The study with nothing outside it: `load_study` of this is the same study. What a study's directory keeps."""
        settled = {key: value for key, value in self.content.items() if key != "extends"}
        return {"llmkit": 1, "name": self.name, "extends": self.base.plain(), **settled}


class Amended(NamedTuple):
    """An address at which a study says something else than it did; None where it says nothing."""

    address: str
    was: Any
    now: Any


def amendments(old: Study, new: Study) -> list[Amended]:
    """What was changed in a study, by address; those of the spec that it extends begin with `extends`."""
    was, now = (dict(_leaves(study.content)) for study in (old, new))
    return [Amended(address, was.get(address), now.get(address)) for address in {**was, **now} if was.get(address) != now.get(address)]


def _leaves(content: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    return ((address, node.plain()) for address, node in located(content, Place("")).leaves())


def load_study(source: Source, overrides: Sequence[str] = (), catalog: Catalog | None = None) -> Study:
    """A study all of whose arms are valid.

    source     a path, `recipe:NAME` for one that ships, or a mapping
    overrides  `address=value`: of the study where the address begins with one of its keys (`seeds=3`), else of the spec that it
               extends (`train.steps=100`)
    catalog    the components that specs may name; what is installed unless given

    Raises `SpecError` (a `UserError`) with every problem: file, line, column, address, and what to do.
    """
    known = installed() if catalog is None else catalog
    layer = read_layer(_named(source), RECIPES)
    sets = [text for text in overrides if not _is_of_study(text)]
    document = _document(layer, [text for text in overrides if _is_of_study(text)])
    form = _form(document, known)
    return _Reading(document, form, _base(layer, document, sets), known).study()


def _named(source: Source) -> Source:
    """`recipe:attention` is `recipe:studies/attention`."""
    if not isinstance(source, str) or not source.startswith(RECIPE):
        return source
    within = f"{STUDIES}{source.removeprefix(RECIPE)}"
    return RECIPE + within if within in study_names(RECIPES) else source


def _is_of_study(override: str) -> bool:
    return override.partition("=")[0].split(".")[0].strip() in StudyFile.model_fields


DEPTH = {"axes": 3, "tune": 1}
"""Below so many keys of a study, the rest of an override's address is an address of the spec, one key however many dots it has."""


def _document(layer: Layer, overrides: Sequence[str]) -> Node:
    """The study's own layers: the file, then overrides."""
    document = layer.node
    if document.child("axes") is None and not overrides:
        message = "is no study: it has no `axes`; add them, such as `axes: {norm: {rms: {}, layer: {model.block.norm: layernorm}}}`"
        raise SpecError([Problem(document.place, "", message)])
    for text in overrides:
        document = merge(document, _override(text))
    if "name" not in document.value:
        document = merge(document, Node({"name": Node(layer.stem, Place(layer.file, 1, 1))}, document.place, bare=True))
    return document


def _override(text: str) -> Node:
    address, equals, value = text.partition("=")
    parts = address.strip().split(".")
    place = Place(f"{OVERRIDE}{text}")
    if not equals or not all(parts):
        raise SpecError([Problem(place, "", "is no override; write ADDRESS=VALUE, such as seeds=3")])
    if parts[0] == "extends":
        raise SpecError([Problem(place, "extends", "cannot be set from outside; set what it stands for")])
    depth = DEPTH.get(parts[0], len(parts))
    parts = [*parts[:depth], *filter(None, [".".join(parts[depth:])])]
    return nested(parts, read_value(value, place.file), place)


def _form(document: Node, catalog: Catalog) -> StudyFile:
    try:
        return StudyFile.model_validate(document.plain())
    except ValidationError as error:
        raise SpecError(problems_of(error, StudyFile, document, catalog)) from None


def _base(layer: Layer, document: Node, overrides: Sequence[str]) -> Node:
    """The spec that is extended, every layer of it merged: the study's file is a layer that says nothing but what it extends."""
    extends: Node = document.value["extends"]
    top = extends if isinstance(extends.value, dict) else replace(document, value={"extends": extends})
    return lay(layer._replace(node=top), overrides, RECIPES)


class _Reading:
    """One study that was read: its form is right, and everything else is to be checked."""

    def __init__(self, document: Node, form: StudyFile, base: Node, catalog: Catalog) -> None:
        self.document, self.form, self.base, self.catalog = document, form, base, catalog
        self.axes = {axis: {name: values or {} for name, values in alternatives.items()} for axis, alternatives in form.axes.items()}
        self.problems: list[Problem] = []

    def study(self) -> Study:
        """The study, or all that is wrong with it: first what its words mean, then what its arms are."""
        self._check_axes()
        self._check_seeds()
        self._check_metric()
        self._stop()
        baseline = self._baseline()
        arms = self._arms(baseline)
        name = self._baseline_arm(baseline, arms)
        self._stop()
        study = self._made(arms, name)
        specs = filled_specs(study, self.catalog)
        self._check_arms_differ(specs)
        self._check_addresses(study, specs)
        self._stop()
        return study

    def _say(self, parts: Sequence[str | int], message: str, *, key: bool = False) -> None:
        """A problem at these keys of the study."""
        found, node = self.document.walk(parts)
        place = node.key or node.place if key or not node.is_scalar else node.place
        self.problems.append(Problem(place if len(found) == len(parts) else node.place, ".".join(map(str, parts)), message))

    def _stop(self) -> None:
        if self.problems:
            raise SpecError(self.problems)

    def _check_axes(self) -> None:
        for axis, alternatives in self.axes.items():
            if not alternatives:
                self._say(["axes", axis], "has no alternatives; add them, or remove the axis")
            for name in alternatives:
                if not _NAME.fullmatch(name):
                    self._say(
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
                self._say(["axes", axis, name], f"says the same as {first!r}; change one of them, or remove it", key=True)

    def _check_own(self, axis: str, name: str, values: Mapping[str, Any]) -> None:
        """What an alternative may not set: each cell has a seed and a name of its own."""
        for address in values:
            if address in _NOT_OF_AN_ARM:
                self._say(["axes", axis, name, address], f"cannot differ between arms: {_NOT_OF_AN_ARM[address]}", key=True)
            elif not all(address.split(".")):
                self._say(["axes", axis, name, address], f"{address!r} is no address; write such as model.block.norm", key=True)

    def _check_shared(self) -> None:
        """Two axes that set one address: the later would have its way, silently."""
        first: dict[str, str] = {}
        for axis, alternatives in self.axes.items():
            for address in dict.fromkeys(address for values in alternatives.values() for address in values):
                if first.setdefault(address, axis) != axis:
                    where = next(name for name, values in alternatives.items() if address in values)
                    self._say(["axes", axis, where, address], f"is set by axis {first[address]!r} too; let one axis set it", key=True)

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
                        self._say(["axes", axis, name, address], f"is turned back by match: {self.form.match}; {remedy}", key=True)

    def _check_seeds(self) -> None:
        for key in ("seeds", "tune_seeds"):
            seeds = getattr(self.form, key)
            for index, seed in enumerate(seeds if isinstance(seeds, list) else ()):
                if seed in seeds[:index]:
                    self._say([key, index], f"seed {seed} is given twice, and would count as evidence twice; remove one")
        shared = set(_seeds(self.form.seeds)) & set(_seeds(self.form.tune_seeds, FIRST_TUNING_SEED))
        if shared:
            self._say(["tune_seeds"], f"{_listed(sorted(shared))} is judged as well; a setting is chosen on seeds that are not judged")

    def _check_metric(self) -> None:
        metric = self.form.metric
        if metric in TRAINING_METRICS:
            return
        evaluator, dot, _ = metric.rpartition(".")
        known = self.catalog.names(Kind.evaluator)
        if not dot:
            hint = suggestion(metric, [*TRAINING_METRICS, *(f"{name}.METRIC" for name in known)])
            self._say(["metric"], f"no metric is called {metric!r}; {hint}")
        elif evaluator not in known:
            self._say(["metric"], self.catalog.missing(Kind.evaluator, evaluator))

    def _baseline(self) -> dict[str, str] | None:
        """The baseline by its choices; None where it is called by an arm's name."""
        given = self.form.baseline
        if isinstance(given, str):
            return None
        self._check_choices(["baseline"], given)
        missing = [axis for axis in self.axes if axis not in given]
        if missing:
            self._say(
                ["baseline"], f"names no alternative of axis {_listed(missing)}; add {missing[0]}: {next(iter(self.axes[missing[0]]))}"
            )
        self._stop()
        return {axis: given[axis] for axis in self.axes}

    def _check_choices(self, parts: Sequence[str | int], choices: Choices) -> None:
        for axis, alternative in choices.items():
            if axis not in self.axes:
                self._say([*parts, axis], f"no axis is called {axis!r}; {suggestion(axis, self.axes)}", key=True)
            elif alternative not in self.axes[axis]:
                hint = suggestion(alternative, self.axes[axis])
                self._say([*parts, axis], f"axis {axis!r} has no alternative {alternative!r}; {hint}")

    def _arms(self, baseline: dict[str, str] | None) -> tuple[Arm, ...]:
        given = self.form.arms
        if given is None:
            return tuple(self._arm(None, choices) for choices in product({axis: list(names) for axis, names in self.axes.items()}))
        rows: list[tuple[str | int, Choices]] = [*given.items()] if isinstance(given, dict) else [*enumerate(given)]
        arms: list[Arm] = []
        for key, choices in rows:
            self._check_choices(["arms", key], choices)
            full = {**(baseline or {}), **choices}
            missing = [axis for axis in self.axes if axis not in full]
            if missing:
                self._say(
                    ["arms", key], f"names no alternative of axis {_listed(missing)}; add it, or give the baseline by its alternatives"
                )
        self._stop()
        for key, choices in rows:
            full = {**(baseline or {}), **choices}
            arms.append(self._arm(key if isinstance(key, str) else None, {axis: full[axis] for axis in self.axes}))
        self._check_named(arms, [key for key, _ in rows])
        return tuple(arms)

    def _arm(self, name: str | None, choices: dict[str, str]) -> Arm:
        overrides = []
        for axis, alternative in choices.items():
            _, node = self.document.walk(["axes", axis, alternative])
            if isinstance(node.value, dict):
                overrides += [Override(axis, address, value) for address, value in node.value.items()]
        return Arm(name or arm_name(choices), choices, tuple(overrides))

    def _check_named(self, arms: Sequence[Arm], keys: Sequence[str | int]) -> None:
        for index, arm in enumerate(arms):
            for other in arms[:index]:
                if other.choices == arm.choices or other.name == arm.name:
                    self._say(["arms", keys[index]], f"is arm {other.name!r} again; remove one of them", key=True)
            if not all(_NAME.fullmatch(part) for part in arm.name.split("/")):
                self._say(["arms", keys[index]], f"{arm.name!r} cannot name a directory; use letters, digits, dots, dashes", key=True)
        if len(arms) < 2:
            self._say(["arms"], "a study compares at least two arms; add another")

    def _baseline_arm(self, choices: dict[str, str] | None, arms: Sequence[Arm]) -> str:
        given = self.form.baseline
        names = (
            [arm.name for arm in arms if arm.choices == choices] if choices is not None else [arm.name for arm in arms if arm.name == given]
        )
        if len(arms) < 2 and not self.problems:
            self._say(["axes"], "a study compares at least two arms; add an alternative")
        if not names:
            called = given if isinstance(given, str) else arm_name(choices or {})
            self._say(["baseline"], f"no arm is called {called!r}; {suggestion(called, [arm.name for arm in arms])}")
        return names[0] if names else ""

    def _made(self, arms: tuple[Arm, ...], baseline: str) -> Study:
        form = self.form
        names = {arm.name for arm in arms}
        for index, name in enumerate(form.tune_arms or ()):
            if name not in names:
                self._say(["tune_arms", index], f"no arm is called {name!r}; {suggestion(name, names)}")
        self._stop()
        tuned = tuple(form.tune_arms if form.tune_arms is not None else [arm.name for arm in arms]) if form.tune else ()
        dials = (form.dial,) if isinstance(form.dial, str) else tuple(form.dial or ())
        seeds, tune_seeds = _seeds(form.seeds), _seeds(form.tune_seeds, FIRST_TUNING_SEED)
        base = validated(inherit_blocks(self.base), self.catalog).spec
        content = {
            "extends": {key: value for key, value in filled(base).items() if key not in ("llmkit", "name", "derived")},
            "axes": self.axes,
            "arms": {arm.name: dict(arm.choices) for arm in arms},
            "baseline": baseline,
            "seeds": list(seeds),
            "match": form.match,
            "dial": list(dials),
            "tune": form.tune,
            "tune_seeds": list(tune_seeds),
            "tune_arms": list(tuned) if form.tune else None,
            "metric": form.metric,
            "higher_is_better": form.higher_is_better,
            "equivalence": form.equivalence,
            "alpha": form.alpha,
            "power": form.power,
            "waive": form.waive,
        }
        return Study(
            name=form.name,
            base=self.base,
            axes=self.axes,
            arms=arms,
            baseline=baseline,
            seeds=seeds,
            match=form.match,
            dials=dials,
            tune={address: tuple(values) for address, values in form.tune.items()},
            tune_seeds=tune_seeds,
            tune_arms=tuned,
            metric=form.metric,
            higher_is_better=form.higher_is_better,
            equivalence=form.equivalence,
            alpha=form.alpha,
            power=form.power,
            waive=tuple(form.waive),
            content=content,
        )

    def _check_arms_differ(self, specs: Mapping[str, Spec]) -> None:
        """Arms that are the same spec in the end: an alternative says what the spec says already, or reaches no block."""
        seen: dict[str, str] = {}
        for name, spec in specs.items():
            first = seen.setdefault(json.dumps(spec.model_dump(mode="json"), sort_keys=True), name)
            if first != name:
                parts = self._where_they_differ(first, name)
                self._say(
                    parts, f"arms {first!r} and {name!r} are one spec: this changes nothing; change the alternative, or remove it", key=True
                )

    def _where_they_differ(self, one: str, other: str) -> list[str]:
        if self.form.arms is not None and isinstance(self.form.arms, dict):
            return ["arms", other]
        choices = {arm.name: arm.choices for arm in self._arms(self._baseline())}
        axis = next(axis for axis in self.axes if choices[one][axis] != choices[other][axis])
        return ["axes", axis, choices[other][axis]]

    def _check_addresses(self, study: Study, specs: Mapping[str, Spec]) -> None:
        """What is tuned, turned and waived must be there."""
        known = {
            name: {address for address in located(spec.model_dump(mode="json"), Place("")).addresses() if address}
            for name, spec in specs.items()
        }
        every = {address for addresses in known.values() for address in addresses}
        for address in study.tune:
            self._check_tuned(study, address, known, every)
        for index, address in enumerate(study.dials):
            lacking = [name for name in known if address not in known[name]]
            if lacking:
                parts: list[str | int] = ["dial"] if isinstance(self.form.dial, str) else ["dial", index]
                self._say(parts, f"arm {lacking[0]!r} has no {address!r}; {suggestion(address, known[lacking[0]])}")
        for index, name in enumerate(study.waive):
            if name not in KINDS and name not in every:
                self._say(["waive", index], f"{name!r} is no confounder and no address of an arm; {suggestion(name, KINDS)}")

    def _check_tuned(self, study: Study, address: str, known: Mapping[str, set[str]], every: set[str]) -> None:
        lacking = [name for name in study.tune_arms if address not in known[name]]
        if lacking:
            everywhere = len(lacking) == len(known)
            whose = f"no arm has {address!r}" if everywhere else f"arm {lacking[0]!r} has no {address!r}"
            self._say(["tune", address], f"{whose}; {suggestion(address, every if everywhere else known[lacking[0]])}", key=True)
            return
        if address in _NOT_OF_AN_ARM:
            self._say(["tune", address], f"cannot be tuned: {_NOT_OF_AN_ARM[address]}", key=True)
            return
        node = self.document.walk(["tune", address])[1]
        for name in study.tune_arms:
            for value in node.value:
                try:
                    spec_of(study, study.arm(name), {address: value}, self.catalog)
                except SpecError as error:
                    self.problems += [replace(problem, message=f"arm {name!r}: {problem.message}") for problem in error.problems]


_NAME = re.compile(r"(?!\.+$)[^/\\+\0\s]+")

_NOT_OF_AN_ARM = {
    "train": "it holds the seed, which every arm has in common; set what is under it",
    "train.seed": "every arm is trained with the same seeds; give them as `seeds`",
    "name": "the study names its cells",
    "llmkit": "all are read by this llmkit",
}


def _seeds(given: int | Sequence[int], first: int = 0) -> tuple[int, ...]:
    return tuple(range(first, first + given)) if isinstance(given, int) else tuple(given)


def _listed(names: Sequence[Any]) -> str:
    return ", ".join(map(str, names))
