"""The arms of a study: what is laid over the spec that it extends, and where the filled results differ. Torch-free."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmkit.ablate.results import Difference
from llmkit.core.catalog import Catalog
from llmkit.core.compose import nested, overlay
from llmkit.core.document import Node, located
from llmkit.core.filled import differences
from llmkit.core.problems import Place, Problem, SpecError
from llmkit.core.spec import Spec
from llmkit.runtime import validated

if TYPE_CHECKING:
    from llmkit.ablate.study import Study


@dataclass(frozen=True)
class Override:
    """One `address: value` of an alternative, with where it stands in the study."""

    axis: str
    address: str
    node: Node

    def layer(self) -> Node:
        """As a layer over a spec."""
        return nested(self.address.split("."), self.node, self.node.key or self.node.place)


@dataclass(frozen=True)
class Arm:
    """One of the models that a study compares.

    name       its choices in the order of the axes, joined by `/`, unless the study gives it another
    choices    axis -> alternative
    overrides  what the alternatives lay over the extended spec, in the order of the axes
    """

    name: str
    choices: Mapping[str, str]
    overrides: tuple[Override, ...]


def product(axes: Mapping[str, Sequence[str]]) -> Iterator[dict[str, str]]:
    """Every combination of alternatives, the last axis turning fastest."""
    for chosen in itertools.product(*axes.values()):
        yield dict(zip(axes, chosen, strict=True))


def arm_name(choices: Mapping[str, str]) -> str:
    """`gqa/rmsnorm`."""
    return "/".join(choices.values())


def filled_specs(study: Study, catalog: Catalog | None = None) -> dict[str, Spec]:
    """The spec of every arm, by its name. `SpecError` with all problems of all arms: each names its arms, where the alternative stands."""
    found: dict[str, Spec] = {}
    problems: dict[Problem, list[str]] = {}
    for arm in study.arms:
        try:
            found[arm.name] = spec_of(study, arm, catalog=catalog)
        except SpecError as error:
            for problem in error.problems:
                problems.setdefault(problem, []).append(arm.name)
    if problems:
        raise SpecError(_of_arms(problem, names, len(study.arms)) for problem, names in problems.items())
    return found


def _of_arms(problem: Problem, names: Sequence[str], n_arms: int) -> Problem:
    """A problem of every arm is one of the spec that the study extends."""
    if len(names) == n_arms > 1:
        return problem
    return Problem(problem.place, problem.address, f"arm {', '.join(map(repr, names))}: {problem.message}")


def spec_of(study: Study, arm: Arm, settings: Mapping[str, Any] | None = None, catalog: Catalog | None = None) -> Spec:
    """The spec of an arm, under these settings by address (a learning rate that is tried)."""
    layers = [override.layer() for override in arm.overrides]
    layers += [_setting(address, value) for address, value in (settings or {}).items()]
    return validated(overlay(study.base, layers), catalog).spec


def with_settings(spec: Spec, settings: Mapping[str, Any], catalog: Catalog | None = None) -> Spec:
    """A filled spec under settings by address: a seed, a learning rate, a matched dial. By the laws of `--set`."""
    layers = [_setting(address, value) for address, value in settings.items()]
    return validated(overlay(located(spec.model_dump(mode="json"), Place("<spec>")), layers), catalog).spec


def _setting(address: str, value: Any) -> Node:
    place = Place(f"{address}={value}")
    return nested(address.split("."), value if isinstance(value, Node) else located(value, place), place)


def axes_between(study: Study, arm: Arm) -> dict[str, tuple[str, ...]]:
    """The axes on which an arm differs from the baseline, each with the addresses that either of the two alternatives sets."""
    chosen = study.arm(study.baseline).choices
    return {
        axis: tuple(dict.fromkeys([*alternatives[chosen[axis]], *alternatives[arm.choices[axis]]]))
        for axis, alternatives in study.axes.items()
        if chosen[axis] != arm.choices[axis]
    }


def arm_differences(baseline: Spec, spec: Spec, given: Sequence[str]) -> list[Difference]:
    """Where an arm's spec differs from the baseline's.

    given  the addresses that the two arms' alternatives set: what differs elsewhere follows from them, or was turned to match
    """
    return [
        Difference(address=address, baseline=ours, value=theirs, derived=not any(within(address, one) for one in given))
        for address, ours, theirs in differences(baseline, spec)
    ]


def within(address: str, whole: str) -> bool:
    """Whether an address is another, or lies in it."""
    return address == whole or address.startswith(f"{whole}.")
