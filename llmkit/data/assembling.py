"""The funnel, out of the accounts of all stages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import NamedTuple

import numpy as np

from llmkit.core.component import Chosen
from llmkit.core.interfaces.filter import Filter
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.data.accounting import StageAccount, Tally, merged
from llmkit.data.cleaning import EXTRACT, FilterStage
from llmkit.data.documents import Cleaned, Documents
from llmkit.data.encoding import EncodedAccount, Side
from llmkit.data.funnel import Amount, Clusters, Funnel, Sensitivity, Stage
from llmkit.data.learning import figures_of
from llmkit.data.reading import READ

QUANTILES = 100
TYPICAL = 4.0
"""Bytes a token where there is no text to count them on."""


class Encoded(NamedTuple):
    """What came out of the last stage: each source's shards, and the held-out source's where there is one."""

    sources: dict[str, list[EncodedAccount]]
    held_out: list[EncodedAccount]


def assemble(cleaned: Cleaned, key: str, tokenizer: Tokenizer, encoded: Encoded) -> Funnel:
    """Everything that was counted."""
    documents = cleaned.documents
    names = list(dict.fromkeys(name for one in documents for name in one.stages))
    order = [READ, EXTRACT, *(f"filters.{name}" for name in cleaned.spec.data.filters)]
    order += [f"deduplicators.{name}" for name in cleaned.spec.data.deduplicators]
    steps = [name for name in order if name in names]
    accounts = {step: merged(one.stages[step] for one in documents if step in one.stages) for step in steps}
    stages = _with_tokens([_stage(step, documents, accounts[step], steps, cleaned) for step in steps], accounts, tokenizer, encoded)
    broken = sum((one.broken or Counter[str]() for one in cleaned.read), Counter[str]())
    return Funnel(
        llmkit=metadata.version("llmkit"),
        name=cleaned.spec.name,
        fingerprint=key,
        stages=[*stages, *_last_stages(stages[-1], encoded)],
        samples=[ranked.sample for step in steps for ranked in accounts[step].samples],
        sensitivities=_sensitivities(cleaned.filter_stages, accounts),
        clusters=[_clusters(name, cleaned) for name in cleaned.spec.data.deduplicators],
        broken=dict(broken.most_common()),
        lengths=dict(sorted(_lengths(encoded).items())),
        lengths_read=dict(sorted(sum((one.lengths_read or Counter[int]() for one in documents), Counter[int]()).items())),
        languages=dict(_languages(encoded).most_common()),
    )


def _stage(step: str, documents: Sequence[Documents], account: StageAccount, order: Sequence[str], cleaned: Cleaned) -> Stage:
    """A stage over all sources; what a source does not go through, it passes as it is."""
    by_source = {one.source: _passage(step, one, order) for one in documents}
    through = [one.source for one in documents if step in one.stages]
    chosen = _component(step, cleaned)
    filters = cleaned.filter_stages
    name = step.removeprefix("filters.")
    return Stage(
        stage=step,
        type=chosen.type if chosen is not None else "",
        before=_amount(_sum([before for before, _ in by_source.values()])),
        after=_amount(_sum([after for _, after in by_source.values()])),
        removed=account.removed,
        rewritten=account.rewritten,
        reasons=dict(account.reasons.most_common()),
        only=account.only if step.startswith("filters.") else None,
        shared=dict(account.shared),
        by_source={source: (_amount(before), _amount(after)) for source, (before, after) in by_source.items()},
        sources=through if len(through) < len(documents) else [],
        figures=figures_of(filters[name]) if step.startswith("filters.") else {},
        seconds=account.seconds,
    )


def _component(step: str, cleaned: Cleaned) -> Chosen | None:
    data, (kind, _, name) = cleaned.spec.data, step.partition(".")
    if step == EXTRACT:
        return data.extractor
    return {"filters": data.filters, "deduplicators": data.deduplicators}.get(kind, {}).get(name)


def _passage(step: str, one: Documents, order: Sequence[str]) -> tuple[Tally, Tally]:
    """What a source was before a stage and after it: the same where it does not go through it."""
    if step in one.stages:
        return one.stages[step].before, one.stages[step].after
    earlier = next(name for name in reversed(order[: order.index(step)]) if name in one.stages)
    return one.stages[earlier].after, one.stages[earlier].after


def _with_tokens(stages: Sequence[Stage], accounts: Mapping[str, StageAccount], tokenizer: Tokenizer, encoded: Encoded) -> list[Stage]:
    """Tokens from the end, where they are exact, to the beginning: what was removed has as many as its samples have for their bytes."""
    sides = [side for group in encoded.sources.values() for account in group for side in account.sides.values()]
    tokens, size = sum(side.tokens for side in sides), sum(side.bytes for side in sides)
    usual = size / tokens if tokens else TYPICAL
    left, estimated, known = tokens, False, True
    told: list[Stage] = []
    for stage in reversed(stages):
        after = _told(stage.after, left if known else None, estimated)
        removed = stage.before.bytes - stage.after.bytes
        if stage.stage == EXTRACT:
            known = False  # pages have no tokens of their own
        elif removed:
            left, estimated = left + round(removed / (_bytes_a_token(accounts[stage.stage], tokenizer) or usual)), True
        told.append(stage.model_copy(update={"before": _told(stage.before, left if known else None, estimated), "after": after}))
    return told[::-1]


def _told(amount: Amount, tokens: int | None, estimated: bool) -> Amount:
    return amount.model_copy(update={"tokens": tokens, "estimated": estimated and tokens is not None})


def _bytes_a_token(account: StageAccount, tokenizer: Tokenizer) -> float | None:
    texts = [ranked.sample.text for ranked in account.samples if ranked.sample.removal != "broken"]
    size = sum(len(text.encode()) for text in texts)
    return size / (sum(map(len, tokenizer.encode_batch(texts))) + len(texts)) if size else None


def _last_stages(last: Stage, encoded: Encoded) -> list[Stage]:
    """The split, which removes nothing, and the encoding, whose figures are of both sides."""
    sides = {name: _amount_of(_sides(encoded, name)).model_dump(exclude={"estimated"}) for name in ("train", "validation")}
    seconds = sum(account.seconds for group in (*encoded.sources.values(), encoded.held_out) for account in group)
    amount = last.after
    by_source = {source: (after, after) for source, (_, after) in last.by_source.items()}
    exact = {
        source: (both, both)
        for source, group in encoded.sources.items()
        for both in [_amount_of([side for account in group for side in account.sides.values()])]
    }
    return [
        Stage(stage="split", before=amount, after=amount, by_source=by_source, figures=dict(sides)),
        Stage(stage="tokenize", before=amount, after=amount, by_source=exact, figures=dict(sides), seconds=seconds),
    ]


def _sides(encoded: Encoded, name: str) -> list[Side]:
    groups = [*encoded.sources.values(), encoded.held_out]
    return [account.sides[name] for group in groups for account in group if name in account.sides]


def _amount_of(sides: Sequence[Side]) -> Amount:
    return Amount(
        documents=sum(side.documents for side in sides), bytes=sum(side.bytes for side in sides), tokens=sum(side.tokens for side in sides)
    )


def _lengths(encoded: Encoded) -> Counter[int]:
    kept = (side.lengths for group in encoded.sources.values() for account in group for side in account.sides.values())
    return sum(kept, Counter[int]())


def _languages(encoded: Encoded) -> Counter[str]:
    kept = (side.languages for group in encoded.sources.values() for account in group for side in account.sides.values())
    return sum(kept, Counter[str]())


def _sensitivities(filters: Mapping[str, FilterStage], accounts: Mapping[str, StageAccount]) -> list[Sensitivity]:
    return [one for stage in filters.values() if stage.stage in accounts for one in _sensitivity(stage, accounts[stage.stage])]


def _sensitivity(stage: FilterStage, account: StageAccount) -> list[Sensitivity]:
    made: Filter = stage.make()
    found: list[Sensitivity] = []
    for limit in made.limits():
        values = [one.values[limit.statistic] for one in account.measured if limit.statistic in one.values]
        finite = np.array(values, np.float64)
        finite = finite[np.isfinite(finite)]
        if not len(finite):
            continue
        quantiles = np.quantile(finite, np.linspace(0, 1, QUANTILES)).tolist()
        found.append(
            Sensitivity(
                stage=stage.stage,
                parameter=limit.parameter,
                statistic=limit.statistic,
                least=limit.least,
                most=limit.most,
                values=quantiles,
                n=len(finite),
            )
        )
    return found


def _clusters(name: str, cleaned: Cleaned) -> Clusters:
    found, audit = cleaned.found(name)
    return Clusters(stage=f"deduplicators.{name}", sizes=dict(sorted(found.sizes.items())), largest=found.largest, audit=audit)


def _sum(tallies: Sequence[Tally]) -> Tally:
    return Tally(documents=sum(one.documents for one in tallies), bytes=sum(one.bytes for one in tallies))


def _amount(tally: Tally) -> Amount:
    return Amount(documents=tally.documents, bytes=tally.bytes)
