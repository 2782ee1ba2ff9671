"""A verdict in one sentence that can be quoted. Torch-free, and free of numpy: it only puts figures into words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmkit.ablate.results import Judgement

if TYPE_CHECKING:
    from llmkit.ablate.verdict import Question


@dataclass(frozen=True)
class Reason:
    """What a judgement's reason is made of: its figures, what was asked, and the adjusted p of equivalence, which it does not hold."""

    judgement: Judgement
    question: Question
    p_equivalent: float
    confounders: Sequence[str]

    def __str__(self) -> str:
        match self.judgement.verdict:
            case "confounded":
                return f"cannot be put down to the change alone: {'; '.join(self.confounders)}{self._figures('; ')}"
            case "equivalent":
                return self._equivalent()
            case "better" | "worse":
                return f"{self._size()} ({self._range()}, {self._p()})"
            case _:
                return self._inconclusive()

    def _equivalent(self) -> str:
        margin = f"{self.question.margin:g}"
        judgement = self.judgement
        if not judgement.noise and not judgement.difference:
            return f"the same as {self.question.baseline} to the last bit, in {self._seeds()}"
        within = f"within the {margin} that counts as no difference (p {written_p(self.p_equivalent)})"
        if judgement.p_adjusted is not None and judgement.p_adjusted <= self.question.alpha:
            return f"{self._size()} ({self._range()}, {self._p()}), which is {within}"
        return f"{self._size()} ({self._range()}), {within}"

    def _inconclusive(self) -> str:
        judgement, question = self.judgement, self.question
        if judgement.difference is None:
            return "too few seeds finished to compare it: two at least are needed"
        if judgement.noise is None:
            return f"one seed says nothing of the noise: two at least are needed{self._figures('; ')}"
        if judgement.noise == 0 == judgement.difference:
            return f"the same as {question.baseline} to the last bit, in {self._seeds()}: the change does nothing that this metric shows"
        if judgement.p is None:
            return f"{self._size()} in {self._seeds()}; the first look takes three"
        if not judgement.noise:
            coarse = f"so few that are all equal may be a coarse metric's ({self._p()})"
            return f"{self._size()} in each of {self._seeds()}: {coarse}; {self._more()}"
        return f"no difference shown: {self._size()} ({self._range()}, {self._p()}); {self._resolution()}; {self._more()}"

    def _resolution(self) -> str:
        judgement = self.judgement
        noise = f"noise {_figures(judgement.noise or 0.0)}"
        if judgement.resolvable is None:
            return f"{noise}, and so few seeds show nothing however large"
        return f"{noise}, and {self._seeds()} show {_figures(judgement.resolvable)} with power {self.question.power:g}"

    def _more(self) -> str:
        more = self.judgement.more_seeds
        if more is None:
            return "more than 10,000 seeds would be needed for what was seen"
        return f"about {more:,} more seed{'s' * (more > 1)} would settle it if the difference is what was seen"

    def _figures(self, before: str) -> str:
        judgement = self.judgement
        if judgement.difference is None:
            return ""
        if judgement.p is None:
            return f"{before}{self._size()}"
        return f"{before}{self._size()} ({self._range()}, {self._p()})"

    def _seeds(self) -> str:
        paired = len(self.judgement.differences)
        return f"{paired} paired seeds" if paired else "these seeds"

    def _size(self) -> str:
        """`0.0120 bits per byte lower than mha`."""
        difference, question = self.judgement.difference or 0.0, self.question
        unit = f" {question.unit}" if question.unit else ""
        if not difference:
            return f"level with {question.baseline}"
        return f"{self._decimal(abs(difference))}{unit} {'higher' if difference > 0 else 'lower'} than {question.baseline}"

    def _range(self) -> str:
        """`0.0060 to 0.0180`, in the direction of the difference."""
        if self.judgement.interval is None:
            return "no interval yet"
        low, high = self.judgement.interval
        up = (self.judgement.difference or 0.0) >= 0
        near, far = (low, high) if up else (-high, -low)
        if near < 0:
            return f"{self._decimal(-near)} {'lower' if up else 'higher'} to {self._decimal(far)} {'higher' if up else 'lower'}"
        return f"{self._decimal(near)} to {self._decimal(far)}"

    def _p(self) -> str:
        p = f"p {written_p(1.0 if self.judgement.p_adjusted is None else self.judgement.p_adjusted)}"
        looks = " at all looks" if self.question.sequential else ""
        family = f" after Holm's correction over {self.question.arms} arms" if self.question.arms > 1 else ""
        return f"{p}{looks}{family}"

    def _decimal(self, value: float) -> str:
        """With as many places as the interval's half is told with two figures."""
        low, high = self.judgement.interval or (0.0, 0.0)
        scale = (high - low) / 2 or abs(self.judgement.difference or 0.0)
        if not scale or not 1e-9 < scale < 1e9:
            return f"{value:.3g}"
        return f"{value:.{max(0, 1 - math.floor(math.log10(scale)))}f}"


def written_p(p: float) -> str:
    """`0.0031`, `< 0.0001`: two figures, and no more zeros than a person counts."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"


def _figures(value: float) -> str:
    return f"{value:.3g}"
