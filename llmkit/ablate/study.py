"""The study: which differences between specs are to be judged, and how. Read whole, checked whole, before anything runs. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

from pydantic import ValidationError

from llmkit.ablate.arms import Arm, Override, arm_name, filled_specs, product, spec_of
from llmkit.ablate.confounders import KINDS
from llmkit.ablate.study_checks import NAME, NOT_OF_AN_ARM, Checked, listed
from llmkit.ablate.study_file import FIRST_TUNING_SEED, TRAINING_METRICS, Choices, Match, StudyFile, seeds_of
from llmkit.core.catalog import Catalog
from llmkit.core.compose import OVERRIDE, RECIPE, STUDIES, Layer, Source, inherit_blocks, lay, merge, nested, read_layer, study_names
from llmkit.core.document import Node, located, read_value
from llmkit.core.filled import filled
from llmkit.core.problems import Place, Problem, SpecError, problems_of, suggestion
from llmkit.core.spec import Spec
from llmkit.runtime import RECIPES, validated
from llmkit.runtime import catalog as installed


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


class _Reading(Checked):
    """One study that was read: its form is right, and everything else is to be checked."""

    def __init__(self, document: Node, form: StudyFile, base: Node, catalog: Catalog) -> None:
        super().__init__(document, form, catalog)
        self.base = base

    def study(self) -> Study:
        """The study, or all that is wrong with it: first what its words mean, then what its arms are."""
        self.check_words()
        baseline = self._baseline()
        arms = self._arms(baseline)
        name = self._baseline_arm(baseline, arms)
        self.stop()
        study = self._made(arms, name)
        specs = filled_specs(study, self.catalog)
        self._check_arms_differ(specs)
        self._check_addresses(study, specs)
        self.stop()
        return study

    def _baseline(self) -> dict[str, str] | None:
        """The baseline by its choices; None where it is called by an arm's name."""
        given = self.form.baseline
        if isinstance(given, str):
            return None
        self.check_choices(["baseline"], given)
        missing = [axis for axis in self.axes if axis not in given]
        if missing:
            self.say(["baseline"], f"names no alternative of axis {listed(missing)}; add {missing[0]}: {next(iter(self.axes[missing[0]]))}")
        self.stop()
        return {axis: given[axis] for axis in self.axes}

    def _arms(self, baseline: dict[str, str] | None) -> tuple[Arm, ...]:
        given = self.form.arms
        if given is None:
            return tuple(self._arm(None, choices) for choices in product({axis: list(names) for axis, names in self.axes.items()}))
        rows: list[tuple[str | int, Choices]] = [*given.items()] if isinstance(given, dict) else [*enumerate(given)]
        arms: list[Arm] = []
        for key, choices in rows:
            self.check_choices(["arms", key], choices)
            full = {**(baseline or {}), **choices}
            missing = [axis for axis in self.axes if axis not in full]
            if missing:
                self.say(["arms", key], f"names no alternative of axis {listed(missing)}; add it, or give the baseline by its alternatives")
        self.stop()
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
                    self.say(["arms", keys[index]], f"is arm {other.name!r} again; remove one of them", key=True)
            if not all(NAME.fullmatch(part) for part in arm.name.split("/")):
                self.say(["arms", keys[index]], f"{arm.name!r} cannot name a directory; use letters, digits, dots, dashes", key=True)
        if len(arms) < 2:
            self.say(["arms"], "a study compares at least two arms; add another")

    def _baseline_arm(self, choices: dict[str, str] | None, arms: Sequence[Arm]) -> str:
        given = self.form.baseline
        names = (
            [arm.name for arm in arms if arm.choices == choices] if choices is not None else [arm.name for arm in arms if arm.name == given]
        )
        if len(arms) < 2 and not self.problems:
            self.say(["axes"], "a study compares at least two arms; add an alternative")
        if not names:
            called = given if isinstance(given, str) else arm_name(choices or {})
            self.say(["baseline"], f"no arm is called {called!r}; {suggestion(called, [arm.name for arm in arms])}")
        return names[0] if names else ""

    def _made(self, arms: tuple[Arm, ...], baseline: str) -> Study:
        form = self.form
        names = {arm.name for arm in arms}
        for index, name in enumerate(form.tune_arms or ()):
            if name not in names:
                self.say(["tune_arms", index], f"no arm is called {name!r}; {suggestion(name, names)}")
        self.stop()
        tuned = tuple(form.tune_arms if form.tune_arms is not None else [arm.name for arm in arms]) if form.tune else ()
        dials = (form.dial,) if isinstance(form.dial, str) else tuple(form.dial or ())
        seeds, tune_seeds = seeds_of(form.seeds), seeds_of(form.tune_seeds, FIRST_TUNING_SEED)
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
                self.say(
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
                self.say(parts, f"arm {lacking[0]!r} has no {address!r}; {suggestion(address, known[lacking[0]])}")
        for index, name in enumerate(study.waive):
            if name not in KINDS and name not in every:
                self.say(["waive", index], f"{name!r} is no confounder and no address of an arm; {suggestion(name, KINDS)}")

    def _check_tuned(self, study: Study, address: str, known: Mapping[str, set[str]], every: set[str]) -> None:
        lacking = [name for name in study.tune_arms if address not in known[name]]
        if lacking:
            everywhere = len(lacking) == len(known)
            whose = f"no arm has {address!r}" if everywhere else f"arm {lacking[0]!r} has no {address!r}"
            self.say(["tune", address], f"{whose}; {suggestion(address, every if everywhere else known[lacking[0]])}", key=True)
            return
        if address in NOT_OF_AN_ARM:
            self.say(["tune", address], f"cannot be tuned: {NOT_OF_AN_ARM[address]}", key=True)
            return
        node = self.document.walk(["tune", address])[1]
        for name in study.tune_arms:
            for value in node.value:
                try:
                    spec_of(study, study.arm(name), {address: value}, self.catalog)
                except SpecError as error:
                    self.problems += [replace(problem, message=f"arm {name!r}: {problem.message}") for problem in error.problems]
