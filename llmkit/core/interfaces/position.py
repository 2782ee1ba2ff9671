"""Position encodings: what a model is told of where its tokens stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

Tables = dict[str, Tensor]


class Position(nn.Module):
    """A position encoding, built with `(params, site)`. The model owns every one; attentions get a handle to it.

    Override what the encoding does and declare it by the component's traits: `embed`, `rotate`, `bias`.

    * One that embeds is built once, `site.width` = d_model and `site.heads` = 0.
    * One that rotates or biases is built for an attention's `(heads, width)`: `site.heads`, `site.width`.

    `tables` runs once a forward pass, in the model; `rotate` and `bias` run in every attention, on those tables. They may
    read plain attributes of `self` (numbers, strings), never a parameter or a buffer: what is a tensor travels in the tables.
    Positions are absolute, `(B, T)` int64, at least 0 here (the model clamps padding, which has position -1).
    """

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add to the embeddings: x (B, T, D), positions (B, T) -> (B, T, D). Learned, sinusoidal."""
        return x

    def tables(self, positions: Tensor) -> Tables:
        """What this forward needs, computed once: cos and sin, slopes, a learned table. positions (B, T).

        What depends on the length of the text depends on that of each document alone: rows and packed documents are strangers.
        """
        return {}

    def refuses_cache(self, max_len: int) -> str | None:
        """Why no cache for up to `max_len` positions can be right, or None where it can.

        Keys are cached after rotation, so a rotation that depends on how long the text is would leave the cached ones as they were
        in a shorter text. The model asks this for every cache, and the reason goes to the user: say what to do instead.
        """
        return None

    def rotary_width(self, width: int) -> int:
        """How many leading channels of a head of `width` channels `rotate` turns."""
        return width

    def rotate(self, x: Tensor, tables: Tables) -> Tensor:
        """Turn queries or keys: x (B, H, T, R) with R = `rotary_width`; the caller slices what is to be turned."""
        return x

    def bias(self, q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
        """Added to the attention scores, elementwise: three int64 tensors that broadcast -> scores of their common shape.

        The same function makes a dense mask and serves as a flex-attention `score_mod`, so it may only index and compute.
        Key positions may be -1 or lie in the future; those scores are masked, but must be finite here.
        """
        raise NotImplementedError


class Rotate(Protocol):
    def __call__(self, x: Tensor, tables: Tables) -> Tensor: ...


class Bias(Protocol):
    def __call__(self, q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables, /) -> Tensor: ...


class PositionHandle(NamedTuple):
    """What an attention holds of its position: no module, no tensor.

    key     where the tables of this forward lie: `ctx.tables[key]`
    width   how many leading channels of a head are turned; 0 where the position does not rotate
    rotate  `(x (B, H, T, width), tables) -> x`
    bias    `(q_pos, k_pos, head, tables) -> scores`, or None where the position does not bias
    """

    key: str
    width: int
    rotate: Rotate
    bias: Bias | None


def constant(values: Sequence[float], device: torch.device) -> Tensor:
    """Numbers that a spec gives, for tables: (n,) fp32 on a device, from memory that a GPU reads while the CPU goes on.

    `torch.tensor(values, device=device)` would wait until the GPU has computed all that was asked of it before.
    """
    return torch.tensor(values, dtype=torch.float32, pin_memory=device.type == "cuda").to(device, non_blocking=True)
