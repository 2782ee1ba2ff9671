"""Laws between slots, told before anything is built. They speak of traits and numbers, never of a component by its name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from llmkit.core.component import Chosen
from llmkit.core.errors import UserError
from llmkit.core.interfaces.mixer import MixerParams
from llmkit.core.kinds import Kind
from llmkit.core.problems import suggestion
from llmkit.core.site import Site
from llmkit.core.spec import BlockSpec, Pattern, Spec


class Violation(NamedTuple):
    """What is wrong between slots: the address to point at, and what to do."""

    address: str
    message: str


def violations(spec: Spec) -> list[Violation]:
    """Everything that is wrong with a spec whose every part is right by itself."""
    if spec.model.blocks is not None or spec.model.pattern is not None:
        patterns = list(_pattern(spec))
        if patterns:
            return patterns
    return [*_name(spec), *_vocabulary(spec), *_sites(spec), *_traits(spec), *_init(spec), *_data(spec), *_training(spec)]


def blocks(spec: Spec) -> Iterator[tuple[str, BlockSpec]]:
    """Every distinct block with its address."""
    if spec.model.blocks is not None:
        for name, block in spec.model.blocks.items():
            yield f"model.blocks.{name}", block
    elif spec.model.block is not None:
        yield "model.block", spec.model.block


def _pattern(spec: Spec) -> Iterator[Violation]:
    model = spec.model
    if model.blocks is None:
        yield Violation("model.pattern", "a pattern names blocks, and there are none; add `blocks:`, or remove the pattern")
        return
    if not model.blocks:
        yield Violation("model.blocks", "names no block; add one, or remove it and give `block`")
        return
    pattern = model.pattern
    if pattern is None:
        return
    rows = [("", pattern)] if isinstance(pattern, list) else [(f".{part}", getattr(pattern, part)) for part in Pattern.model_fields]
    for part, names in rows:
        for index, name in enumerate(names):
            if name not in model.blocks:
                yield Violation(f"model.pattern{part}.{index}", f"no block is called {name!r}; {suggestion(name, model.blocks)}")
    if isinstance(pattern, list) and not pattern:
        yield Violation("model.pattern", f"is empty; name blocks, of {', '.join(model.blocks)}")
    if isinstance(pattern, Pattern) and (ends := len(pattern.first) + len(pattern.last)) > model.n_layers:
        yield Violation("model.pattern", f"first and last name {ends} layers of {model.n_layers}; shorten them, or raise n_layers")


def _vocabulary(spec: Spec) -> Iterator[Violation]:
    try:
        least = int(spec.tokenizer.params.vocab_size)
    except UserError as error:
        yield Violation("tokenizer", str(error))
        return
    given = spec.model.vocab_size
    if given is not None and given < least:
        yield Violation(
            "model.vocab_size", f"{given} is less than the tokenizer's {least} ids; give {least} or more, or leave it out to take them"
        )


class Pair(NamedTuple):
    """A position and an attention that it serves, each with the address where it was chosen."""

    position_address: str
    position: Chosen
    attention_address: str
    attention: Chosen


def pairs(spec: Spec) -> Iterator[Pair]:
    """Every attention of the spec with the position that serves it: its block's own, or the model's."""
    for address, block in blocks(spec):
        attention = (f"{address}.attention", block.attention)
        if block.position is not None:
            yield Pair(f"{address}.position", block.position, *attention)
        else:
            yield Pair("model.position", spec.model.position, *attention)


def _sites(spec: Spec) -> Iterator[Violation]:
    """What each component says of its own place. What is nested in another has a place that only the outer one knows."""
    model = spec.model
    try:
        vocab_size = spec.vocab_size
    except UserError:
        return
    site = Site(model.d_model, model.d_model, model.n_layers, 0, model.max_seq_len, vocab_size)
    outer = ""
    for address, kind, chosen in spec.slots():
        if outer and address.startswith(f"{outer}."):
            continue
        outer = address
        if kind is not Kind.position or EMBEDS in chosen.component.offered(chosen.params):
            yield from _said(chosen, replace(site, address=address))
    for pair in pairs(spec):
        served = position_site(pair.attention, replace(site, address=pair.position_address))
        if served is not None:
            yield from _said(pair.position, served)


def _said(chosen: Chosen, site: Site) -> Iterator[Violation]:
    for message in chosen.params.check(site):
        yield Violation(site.address, message)


def position_site(attention: Chosen, site: Site) -> Site | None:
    """Where an attention puts its position, in a model of these numbers: its `n_heads`, and the channels of a head that it hands to
    the position, `width(d_model)`. None where its parameters do not tell."""
    width = getattr(attention.params, "width", None)
    if not callable(width):
        return None
    return replace(site, width=int(width(site.d_model)), heads=int(getattr(attention.params, "n_heads", 1)))


def _traits(spec: Spec) -> Iterator[Violation]:
    """A position and its attention offer what the other needs; an attention that offers nothing takes no stand on positions."""
    for pair in pairs(spec):
        offers = pair.attention.component.offered(pair.attention.params)
        lacking = pair.position.component.needed(pair.position.params) - offers
        if offers and lacking:
            yield Violation(
                pair.position_address,
                f"position {pair.position.type!r} needs an attention that offers {_listed(lacking)}, and {pair.attention.type!r} offers "
                f"{_listed(offers)}; change one of them",
            )
        missed = pair.attention.component.needed(pair.attention.params) - pair.position.component.offered(pair.position.params)
        if missed:
            yield Violation(
                pair.attention_address,
                f"attention {pair.attention.type!r} needs a position that offers {_listed(missed)}, and {pair.position.type!r} does not; "
                "change one of them",
            )


def _listed(traits: frozenset[str]) -> str:
    return ", ".join(sorted(traits))


EMBEDS = "embed"
"""Trait of a position that is added to the embeddings: its site is the model's, not an attention's."""

BOUNDED = "bounded"
"""Trait of a position that has nothing for a position beyond `max_seq_len`."""


def _init(spec: Spec) -> Iterator[Violation]:
    """Learning rates that an initialisation scales hold for a certain sort of optimizer only."""
    init, optimizer = spec.model.init, spec.train.optimizer
    lacking = init.component.needed(init.params) - optimizer.component.offered(optimizer.params)
    if lacking:
        yield Violation(
            "model.init",
            f"init {init.type!r} needs an optimizer that offers {_listed(lacking)}, and {optimizer.type!r} does not; change one of them",
        )


def _data(spec: Spec) -> Iterator[Violation]:
    """Whatever names a source names one that is there."""
    data = spec.data
    if data.source is None and data.sources is None:
        yield Violation("data", "has neither `source` nor `sources`; give one of them")
        return
    if data.mixer is not None and data.sources is None:
        yield Violation("data.mixer", f"{data.mixer.type!r} mixes named sources, and there are none; give `data.sources`, or remove it")
    elif data.mixer is not None and isinstance(data.mixer.params, MixerParams):
        for place, message in data.mixer.params.check_sources(data.named_sources):
            yield Violation(f"data.mixer.{place}", message)
    for name, chosen in data.filters.items():
        for index, source in enumerate(getattr(chosen.params, "sources", None) or ()):
            if source not in data.named_sources:
                yield Violation(
                    f"data.filters.{name}.sources.{index}", f"no source is called {source!r}; {suggestion(source, data.named_sources)}"
                )


def _training(spec: Spec) -> Iterator[Violation]:
    train = spec.train
    if train.steps is None and train.tokens is None:
        yield Violation("train", "has neither `steps` nor `tokens`; give one of them")
    if train.micro_batch_size is not None and train.batch_size % train.micro_batch_size:
        yield Violation(
            "train.micro_batch_size", f"{train.micro_batch_size} does not divide batch_size {train.batch_size}; change one of them"
        )
    for pair in pairs(spec):
        if BOUNDED in pair.position.component.offered(pair.position.params) and spec.seq_len > spec.model.max_seq_len:
            yield Violation(
                "train.seq_len",
                f"{spec.seq_len} is beyond max_seq_len {spec.model.max_seq_len}, and position {pair.position.type!r} ends there; "
                "lower it, or raise model.max_seq_len",
            )


def _name(spec: Spec) -> Iterator[Violation]:
    """A name becomes a directory under `runs`."""
    if not spec.name.strip() or spec.name in (".", "..") or set(spec.name) & set("/\\\0"):
        yield Violation("name", f"{spec.name!r} cannot name a run's directory; use letters, digits, dots, dashes and underscores")
