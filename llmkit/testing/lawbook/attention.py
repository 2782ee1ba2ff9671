"""Laws of attention besides those of a decoder."""

from __future__ import annotations

import torch

from llmkit.testing.law import Law, LawBroken
from llmkit.testing.lawbook.decoder import caches_for, module_of
from llmkit.testing.model import same, tokens
from llmkit.testing.subject import Subject


def tokens_are_mixed(subject: Subject) -> None:
    """The last output depends on the token before it: what mixes nothing is no attention."""
    ids = tokens(1, 2)
    changed = ids.clone()
    changed[0, 0] = 65
    if torch.equal(subject.logits(ids)[:, -1], subject.logits(changed)[:, -1]):
        raise LawBroken("of 2 tokens, changing the first changes nothing at the second")


def without_padding_or_packing_the_short_way_is_the_long_way(subject: Subject) -> None:
    """Where the caller vouches that nothing is masked (`ctx.plain`), the logits are those of the way that looks at positions."""
    for length in (1, 2, 5, 9):
        ids = tokens(2, length)
        positions = torch.arange(length).expand(2, -1)
        segments = torch.zeros_like(ids)
        same(
            subject.logits(ids),
            subject.logits(ids, positions=positions, segments=segments),
            f"{length} tokens have other logits when positions and segments are written out",
        )


def new_cache_needs_no_memory_to_be_measured(subject: Subject) -> None:
    """`new_cache` works on the meta device and knows the bytes of what it holds for tokens."""
    attention = module_of(subject)
    for batch, length in ((1, 1), (2, 4)):
        cache = attention.new_cache(batch, length, like=torch.empty((), dtype=torch.bfloat16, device="meta"))  # type: ignore[operator]
        if not isinstance(cache.nbytes, int) or cache.nbytes < 0:
            raise LawBroken(f"new_cache({batch}, {length}).nbytes is {cache.nbytes!r}; it must be a whole number of bytes")


def a_cache_holds_what_it_said(subject: Subject) -> None:
    """A cache holds as many bytes after tokens were read as `new_cache` said it would: `build` tells no other number."""
    for rows, length in ((1, 1), (2, 7)):
        caches = caches_for(subject.model, rows, length)
        if caches is None:
            continue
        said = [cache.nbytes for cache in caches.layers]
        subject.logits(tokens(rows, length), caches=caches)
        held = [cache.nbytes for cache in caches.layers]
        if held != said:
            raise LawBroken(f"a cache that has read {rows} rows of {length} tokens holds {held[0]} bytes, and said {said[0]}")


def beside_a_rotation_only_distance_matters(subject: Subject) -> None:
    """Beside a position that rotates, the logits are the same wherever the sequence starts: queries and keys are turned alike."""
    position = subject.model.spec.model.position
    if position.component.offered(position.params) & {"rotate", "embed", "bias"} != {"rotate"}:
        return
    for length in (2, 5):
        ids = tokens(1, length)
        for start in (1, 7):
            positions = torch.arange(start, start + length)[None]
            found = subject.logits(ids, positions=positions)
            same(found, subject.logits(ids), f"{length} tokens from position {start} on have other logits than from 0 on")


LAWS = (
    Law(beside_a_rotation_only_distance_matters, combined=True),
    Law(tokens_are_mixed),
    Law(without_padding_or_packing_the_short_way_is_the_long_way, combined=True),
    Law(new_cache_needs_no_memory_to_be_measured),
    Law(a_cache_holds_what_it_said),
)
