"""Laws of position encodings besides those of a decoder."""

from __future__ import annotations

import torch
from torch import Tensor

from llmkit.core.interfaces.attention import Context, attend, visible
from llmkit.core.interfaces.position import Position, PositionHandle, Tables
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.lawbook.decoder import module_of
from llmkit.testing.model import finite, same
from llmkit.testing.subject import Subject

HEADS, KEYS = 4, 8


def traits_tell_what_it_does(subject: Subject) -> None:
    """It offers `embed`, `rotate`, `bias` exactly where it overrides the method of that name."""
    cls = subject.component.resolve()
    offered = subject.component.offered(subject.params)
    for trait in ("embed", "rotate", "bias"):
        overrides = getattr(cls, trait) is not getattr(Position, trait)
        if overrides and trait not in offered:
            raise LawBroken(f"it overrides `{trait}` and does not offer it, so the model never calls it")
        if trait in offered and not overrides:
            raise LawBroken(f"it offers `{trait}` and leaves the method as it is")


def a_refused_cache_says_why(subject: Subject) -> None:
    """Where it refuses a cache, it gives a reason, and refuses every longer one as well."""
    for position in subject.model.positions.values():
        refused = 0
        for max_len in (1, 2, 3, 5, 8, 13, 64, 4096, 1_000_000_000):
            reason = position.refuses_cache(max_len)  # type: ignore[operator]
            if reason is None and refused:
                raise LawBroken(f"it refuses a cache of {refused} positions and not one of {max_len}")
            if reason is None:
                continue
            if not reason.strip():
                raise LawBroken(f"a cache of {max_len} positions is refused without a reason")
            refused = max_len


def rotation_is_relative(subject: Subject) -> None:
    """Where it rotates, the product of a query and a key of one text depends on their distance alone."""
    if "rotate" not in subject.component.offered(subject.params):
        return
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, HEADS, 1, KEYS, generator=generator)
    for length in (5, 22):
        products = _products(_position(subject), q, k, length)
        for distance in (0, 1, 4):
            for shift in range(1, length - distance):
                what = f"a query at {distance} and a key at 0 give another product than one at {distance + shift} and {shift}"
                same(products[..., distance + shift, shift], products[..., distance, 0], f"in a text of {length} tokens, {what}")


def _products(position: Position, q: Tensor, k: Tensor, length: int) -> Tensor:
    """The same query and the same key, turned as at every place of a text: q, k (1, H, 1, K) -> (1, H, length, length)."""
    width = position.rotary_width(KEYS)
    tables = _tables(position, torch.arange(length)[None])
    turned = [position.rotate(x[..., :width].expand(-1, -1, length, -1), tables) for x in (q, k)]
    return turned[0] @ turned[1].transpose(-1, -2)


def rotation_keeps_distances_apart(subject: Subject) -> None:
    """Where it rotates, the product of a query and a key is another at another distance, and queries and keys are turned alike."""
    if "rotate" not in subject.component.offered(subject.params):
        return
    position = _position(subject)
    q = torch.randn(1, HEADS, 1, KEYS, generator=torch.Generator().manual_seed(0))
    products = _products(position, q, q, 2)
    if position.rotary_width(KEYS) and torch.allclose(products[..., 0, 0], products[..., 1, 0], rtol=1e-4):
        raise LawBroken("at distances 0 and 1 a query and a key have the same product")


def bias_is_elementwise(subject: Subject) -> None:
    """Where it biases, each score evaluated by itself is the one evaluated with all others, finite even where it will be masked."""
    if "bias" not in subject.component.offered(subject.params):
        return
    position = _position(subject)
    places = torch.tensor([[0, 1, 2, 7]])
    tables = _tables(position, places)
    keys = torch.tensor([-1, 0, 1, 2, 7, 9])
    with torch.no_grad():
        heads = torch.arange(HEADS)
        whole = position.bias(places[0][None, :, None], keys[None, None, :], heads[:, None, None], tables)
        if whole.shape != (HEADS, len(places[0]), len(keys)):
            raise LawBroken(
                f"{HEADS} heads, {len(places[0])} queries, {len(keys)} keys, broadcast, give scores of shape {tuple(whole.shape)}"
            )
        finite(whole, "scores of keys at -1 or in the future are not finite")
        for head in range(HEADS):
            for row, q_at in enumerate(places[0]):
                for column, k_at in enumerate(keys):
                    alone = position.bias(q_at, k_at, heads[head], tables)
                    what = f"head {head}, query at {q_at}, key at {k_at}: the score alone differs from the one among all"
                    same(alone, whole[head, row, column], what)


def bias_agrees_with_a_dense_mask(subject: Subject) -> None:
    """Where it biases, `attend` gives what a softmax over scores and the bias, written out element by element, gives."""
    if "bias" not in subject.component.offered(subject.params):
        return
    position = _position(subject)
    length = 5
    places = torch.arange(length)[None]
    tables = _tables(position, places)
    handle = PositionHandle("it", 0, position.rotate, position.bias)
    q, k, v = torch.randn(3, 1, HEADS, length, KEYS, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = attend(q, k, v, Context(places, {"it": tables}, None, {None: visible(places, places, None)}, True), position=handle)
        scores = q @ k.transpose(-1, -2) * KEYS**-0.5
        for head in range(HEADS):
            for row in range(length):
                for column in range(length):
                    at = position.bias(torch.tensor(row), torch.tensor(column), torch.tensor(head), tables)
                    scores[0, head, row, column] += at if column <= row else float("-inf")
    same(found, scores.softmax(dim=-1) @ v, f"{length} tokens through `attend` and through a dense mask differ")


def _position(subject: Subject) -> Position:
    """The component as the small model holds it."""
    found = module_of(subject)
    if not isinstance(found, Position):
        raise LawBroken(f"{type(found).__name__} is no llmkit.Position")
    return found


def _tables(position: Position, places: Tensor) -> Tables:
    with torch.no_grad():
        return position.tables(places)


LAWS = (
    Law(traits_tell_what_it_does, once=True),
    Law(a_refused_cache_says_why),
    Law(rotation_is_relative),
    Law(rotation_keeps_distances_apart),
    Law(bias_is_elementwise),
    Law(bias_agrees_with_a_dense_mask),
)
