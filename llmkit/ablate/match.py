"""Arms that cost the same: a free dial of each arm is turned until it has as many parameters, or FLOPs a token, as the baseline.

    params   all learned numbers, embeddings included; a tied head counts once
    flops    training FLOPs a token, as `llmkit build` counts them: with the same tokens, the same total compute
    tokens   what each run reads: the arm's steps follow from its batch size and sequence length. No dial is turned

A study says whether an arm is better *at the same cost*, and only one cost can be held: with equal parameters FLOPs may differ,
and the other way round. What is not held is told as a note.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llmkit.ablate.arms import with_settings
from llmkit.ablate.confounders import TOLERANCE, percent
from llmkit.core.catalog import Catalog
from llmkit.core.checks import blocks
from llmkit.core.problems import SpecError
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.count import forward_flops

CLOSE = TOLERANCE / 4
"""Near enough to keep a dial at a multiple of 8, which kernels like."""

MULTIPLES = (8, 1)

MAX_TURNS = 40
"""Values of the dial that are looked at; costs grow about linearly with a width, so that a handful is enough."""

MAX_WALK = 128
"""How far from a value of the dial that no component takes another is looked for."""

DIAL = "d_ff"
"""The parameter that is turned unless the study names another: the hidden width of a feed-forward network."""


@dataclass(frozen=True)
class Matched:
    """An arm after its dial was turned.

    settings  what was set, by address; empty where nothing needed turning
    words     what was done and how near it came; None where nothing was to be done
    apart     how far its cost still lies from the baseline's, as a part of the baseline's
    """

    spec: Spec
    settings: Mapping[str, int] = field(default_factory=dict)
    words: str | None = None
    apart: float = 0.0


def parameters_of(spec: Spec) -> float:
    """What `match: params` holds equal."""
    return sum(parameter.numel() for parameter in build(spec, device="meta").parameters())


def flops_of(spec: Spec) -> float:
    """What `match: flops` holds equal."""
    length = spec.model.max_seq_len
    return 3 * forward_flops(build(spec, device="meta"), length) / length


COSTS: dict[str, tuple[Callable[[Spec], float], str]] = {
    "params": (parameters_of, "parameters"),
    "flops": (flops_of, "training FLOPs a token"),
}


def tokens_of(spec: Spec) -> int:
    """What a run of a spec reads: whole steps."""
    return spec.steps * spec.train.batch_size * spec.seq_len


def match(spec: Spec, baseline: Spec, by: str, dials: Sequence[str] = (), catalog: Catalog | None = None) -> Matched:
    """An arm's spec, turned until it costs what the baseline does.

    by     params, flops, tokens, or none
    dials  addresses of whole numbers, turned in proportion; `d_ff` of every block where there are none
    """
    if by == "tokens":
        return match_tokens(spec, baseline, catalog)
    if by not in COSTS:
        return Matched(spec)
    cost, unit = COSTS[by]
    return _Turning(spec, cost, unit, cost(baseline), dials, catalog).matched()


def match_tokens(spec: Spec, baseline: Spec, catalog: Catalog | None = None) -> Matched:
    """The arm trained for as many tokens as the baseline; a step is never cut, so that it may read up to one step more."""
    before, target = tokens_of(spec), tokens_of(baseline)
    if before == target:
        return Matched(spec)
    turned = with_settings(spec, {"train.tokens": target}, catalog)
    after = tokens_of(turned)
    words = f"train.tokens {before:,} -> {target:,}: {after:,} tokens in {turned.steps:,} steps, {percent(after / target - 1)}"
    return Matched(turned, {"train.tokens": target}, words, after / target - 1)


def default_dials(spec: Spec) -> dict[str, int]:
    """`d_ff` of every block that has one, with the value that it has or that follows from the width."""
    found: dict[str, int] = {}
    for address, block in blocks(spec):
        params = block.ffn.params
        if DIAL not in type(params).model_fields:
            continue
        hidden = getattr(params, "hidden", None)
        value = hidden(spec.model.d_model) if callable(hidden) else getattr(params, DIAL)
        if value is not None:
            found[f"{address}.ffn.{DIAL}"] = int(value)
    return found


def _value_at(spec: Spec, address: str) -> int | None:
    value: Any = spec.model_dump(mode="json")
    for part in address.split("."):
        value = value[int(part)] if isinstance(value, list) else value.get(part)
    return value if isinstance(value, int) else None


class _Turning:
    """The search for the value of a dial. `t` is the first dial's value; the others stay in proportion to it."""

    def __init__(
        self, spec: Spec, cost: Callable[[Spec], float], unit: str, target: float, dials: Sequence[str], catalog: Catalog | None
    ) -> None:
        self.cost, self.unit, self.target, self.spec, self.catalog = cost, unit, target, spec, catalog
        started = default_dials(spec)
        if dials:
            started = {address: value for address in dials if (value := started.get(address) or _value_at(spec, address)) is not None}
        self.started = started
        self.start = next(iter(started.values()), 0)
        self.seen: dict[int, Matched | None] = {self.start: Matched(spec, apart=cost(spec) / target - 1)}

    def matched(self) -> Matched:
        """The arm nearest to the target."""
        found = Matched(self.spec, apart=self._apart(self.start))
        if abs(found.apart) <= CLOSE:
            return found
        if not self.started:
            words = f"nothing to turn, no feed-forward network has {DIAL!r}: {self._achieved(found)}"
            return replace(found, words=words)
        found = self._nearest(self._solution())
        turned = ", ".join(f"{self._short(address)} {self.started[address]:,} -> {value:,}" for address, value in found.settings.items())
        return replace(found, words=f"{turned or 'nothing turned'}: {self._achieved(found)}")

    def _achieved(self, found: Matched) -> str:
        return f"{(1 + found.apart) * self.target:,.0f} {self.unit}, {percent(found.apart)}"

    def _short(self, address: str) -> str:
        """A dial by its last part, where that is enough."""
        return address.rpartition(".")[2] if len(self.started) == 1 else address

    def _solution(self) -> int:
        """The value of the dial at which nothing is left between the costs, by the secant through the two values tried last."""
        low = self.start
        high = low + 8 if self._apart(low) < 0 else max(1, low - 8)
        for _ in range(MAX_TURNS):
            left, right = self._apart(low), self._apart(high)
            if left == right:
                break
            following = max(1, round(high - right * (high - low) / (right - left)))
            if following in (low, high):
                break
            low, high = high, following
        return min(low, high, key=lambda t: abs(self._apart(t)))

    def _nearest(self, solution: int) -> Matched:
        """The roundest value that is close enough; else the closest of all."""
        found = [near] if (near := self._at(self._taken(solution))) is not None else []
        for multiple in MULTIPLES:
            down = max(multiple, solution // multiple * multiple)
            around = [one for t in (down, down + multiple) if (one := self._at(t)) is not None]
            found += around
            close = [one for one in around if abs(one.apart) <= CLOSE]
            if close:
                return min(close, key=_distance)
        return min(found, key=_distance)

    def _apart(self, t: int) -> float:
        found = self._at(self._taken(t))
        assert found is not None
        return found.apart

    def _taken(self, t: int) -> int:
        """The value nearest to this one that every component takes: heads must divide a width."""
        return next((one for one in _around(t) if self._at(one) is not None), self.start)

    def _at(self, t: int) -> Matched | None:
        """The arm with its dial at `t`; None where that is no valid spec."""
        if t not in self.seen:
            settings = {address: max(1, round(value * t / self.start)) for address, value in self.started.items()}
            try:
                spec = with_settings(self.spec, settings, self.catalog)
            except SpecError:
                self.seen[t] = None
            else:
                self.seen[t] = Matched(spec, settings, apart=self.cost(spec) / self.target - 1)
        return self.seen[t]


def _distance(found: Matched) -> float:
    return abs(found.apart)


def _around(t: int) -> Iterator[int]:
    """t, t + 1, t - 1, t + 2, ..."""
    yield t
    for step in range(1, MAX_WALK + 1):
        yield t + step
        if t - step >= 1:
            yield t - step
