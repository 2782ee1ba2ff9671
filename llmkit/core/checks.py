"""Laws between slots, told before anything is built. They speak of traits and numbers, never of a component by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from llmkit.core.component import Chosen, Params
from llmkit.core.errors import UserError
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
    return [*_vocabulary(spec), *_sites(spec), *_traits(spec), *_training(spec)]


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


def _site(spec: Spec, address: str) -> Site:
    model = spec.model
    vocab = model.vocab_size or int(spec.tokenizer.params.vocab_size)
    return Site(model.d_model, model.d_model, model.n_layers, 0, model.max_seq_len, vocab, address=address)


def _sites(spec: Spec) -> Iterator[Violation]:
    """What each component says of its own place."""
    try:
        site = _site(spec, "")
    except UserError:
        return
    positions = {"model.position"} | {f"{address}.position" for address, _ in blocks(spec)}
    for address, _, chosen in spec.slots():
        if address in positions or not isinstance(chosen.params, Params):
            continue
        yield from _said(chosen, address, site)
    for address, chosen, attention in _pairs(spec):
        for width in _head_widths(attention, spec.model.d_model):
            heads = int(getattr(attention.params, "n_heads", 1))
            here = Site(site.d_model, width, site.n_layers, 0, site.max_seq_len, site.vocab_size, heads, address)
            yield from _said(chosen, address, here)


def _said(chosen: Chosen, address: str, site: Site) -> Iterator[Violation]:
    for message in chosen.params.check(site):
        yield Violation(address, message)


def _head_widths(attention: Chosen, d_model: int) -> Iterator[int]:
    """How many channels of a head the attention hands to its position, where its parameters tell (`width(d_model)`)."""
    width = getattr(attention.params, "width", None)
    if callable(width):
        yield int(width(d_model))


def _pairs(spec: Spec) -> Iterator[tuple[str, Chosen, Chosen]]:
    """Every position with the address where it was written and an attention that it serves."""
    for address, block in blocks(spec):
        if block.position is not None:
            yield f"{address}.position", block.position, block.attention
        else:
            yield "model.position", spec.model.position, block.attention


def _traits(spec: Spec) -> Iterator[Violation]:
    """A position asks traits of the attention it serves; an attention that offers none takes no stand."""
    for address, position, attention in _pairs(spec):
        needs, offers = position.component.needed(position.params), attention.component.offered(attention.params)
        lacking = sorted(needs - offers)
        if offers and lacking:
            yield Violation(
                address,
                f"position {position.type!r} needs an attention that offers {', '.join(lacking)}, and {attention.type!r} offers "
                f"{', '.join(sorted(offers))}; change one of them",
            )
    for address, _, chosen in spec.slots():
        if chosen.component.kind is not Kind.attention:
            continue
        block_positions = [position for _, position, attention in _pairs(spec) if attention is chosen]
        needs = chosen.component.needed(chosen.params)
        for position in block_positions:
            lacking = sorted(needs - position.component.offered(position.params))
            if lacking:
                yield Violation(
                    address, f"attention {chosen.type!r} needs a position that offers {', '.join(lacking)}, not {position.type!r}"
                )


BOUNDED = "bounded"
"""Trait of a position that has nothing for a position beyond `max_seq_len`."""


def _training(spec: Spec) -> Iterator[Violation]:
    train = spec.train
    if train.steps is None and train.tokens is None:
        yield Violation("train", "has neither `steps` nor `tokens`; give one of them")
    if train.micro_batch_size is not None and train.batch_size % train.micro_batch_size:
        yield Violation(
            "train.micro_batch_size", f"{train.micro_batch_size} does not divide batch_size {train.batch_size}; change one of them"
        )
    bounded = BOUNDED in spec.model.position.component.offered(spec.model.position.params)
    if bounded and spec.seq_len > spec.model.max_seq_len:
        yield Violation(
            "train.seq_len",
            f"{spec.seq_len} is beyond max_seq_len {spec.model.max_seq_len}, and position {spec.model.position.type!r} ends there; "
            "lower it, or raise model.max_seq_len",
        )
