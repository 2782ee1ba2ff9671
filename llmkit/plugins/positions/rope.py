"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

Channel pair i of a head turns by p * theta^(-2i/R) radians at position p, so that a score depends on distance alone:

    [a'] = [cos  -sin] [a]      half: a, b = x[i], x[i + R/2]      interleaved: a, b = x[2i], x[2i + 1]
    [b']   [sin   cos] [b]

R is the head's width times `fraction`: the first R channels are turned, the others carry no position. Scalings for a longer
context, s the factor, L the length of the text, O the original context, f_i = theta^(-2i/R):

    linear    f_i / s: position interpolation (arXiv 2306.15595)
    ntk       base theta s^(R/(R-2)): the fastest pair as it was, the slowest divided by s
    dynamic   ntk with s L / O - s + 1 for s, where L > O, else plain (arXiv 2309.00071, B.2)
    llama3    f_i / s below the wavelength band, f_i above it, a smooth step within (arXiv 2407.21783)
    yarn      the same by turns over O, and cos, sin times 0.1 ln s + 1 (arXiv 2309.00071)
    longrope  f_i / short_i where L <= O, else f_i / long_i, and cos, sin times sqrt(1 + ln s / ln O) (arXiv 2402.13753)

Where L decides, it is that of each document, and a cache that may outgrow O is refused: its keys were turned in a shorter text.

Shapes: B batch, H heads, T tokens, R turned channels. Cost: cos and sin once a forward pass, B T R; 3 R multiplications and
additions for each query and key head of a token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llmkit.core.interfaces.position import Position, Tables, constant
from llmkit.core.site import Site
from llmkit.plugins.positions.components import (
    DynamicScaling,
    LinearScaling,
    Llama3Scaling,
    LongRopeScaling,
    NTKScaling,
    RopeParams,
    YarnScaling,
)


class Rope(Position):
    """Turns queries and keys by their position. Angles are in fp32: a bf16 position is off by whole turns."""

    def __init__(self, params: RopeParams, site: Site) -> None:
        super().__init__()
        self.params = params
        self.width = params.rotary_width(site.width)
        self.interleaved = params.layout == "interleaved"

    def rotary_width(self, width: int) -> int:
        """The first channels of a head, `fraction` of them."""
        return self.params.rotary_width(width)

    def refuses_cache(self, max_len: int) -> str | None:
        """A text that outgrows the original context turns all its keys anew, where the length decides."""
        scaling = self.params.scaling
        match scaling:
            case DynamicScaling(original_max_seq_len=original):
                instead = "`ntk` scales the same way at every length"
            case LongRopeScaling(original_max_seq_len=original, use="fitting"):
                instead = "`use: long` takes the factors of long texts always"
            case _:
                return None
        if max_len <= original:
            return None
        return (
            f"scaling {scaling.type!r} turns every key anew once a text is longer than {original} tokens, and keys are cached as they were "
            f"turned; stay within {original}, or change the scaling: {instead}"
        )

    def tables(self, positions: Tensor) -> Tables:
        """`cos` and `sin` of every pair's angle, (B, 1, T, R/2) fp32."""
        turns = frequencies(self.params, self.width, positions)
        angles = positions[..., None].float() * turns
        factor = attention_factor(self.params)
        return {"cos": (angles.cos() * factor)[:, None], "sin": (angles.sin() * factor)[:, None]}

    def rotate(self, x: Tensor, tables: Tables) -> Tensor:
        """x (B, H, T, R) -> the same shape and dtype, turned in fp32."""
        cos, sin = tables["cos"], tables["sin"]
        if self.interleaved:
            a, b = x.float().view(*x.shape[:-1], -1, 2).unbind(-1)
            return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2).to(x.dtype)
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def document_lengths(positions: Tensor) -> Tensor:
    """How long the text is that each token stands in: positions (B, T), at least 0 -> (B, T). A text ends where they do not rise."""
    falls = positions[:, 1:] <= positions[:, :-1]
    document = torch.nn.functional.pad(falls.cumsum(dim=1), (1, 0))
    last = torch.zeros_like(positions).scatter_reduce(1, document, positions, "amax")
    return last.gather(1, document) + 1


def frequencies(params: RopeParams, width: int, positions: Tensor) -> Tensor:
    """Radians a token of each pair of `width` turned channels, fp32, scaled for a longer context where the parameters say so.

    positions (B, T) -> (R/2,), or (B, T, R/2) where a scaling depends on the length of the text.
    """
    exponents = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width
    plain: Tensor = params.theta**-exponents
    match params.scaling:
        case LinearScaling(factor=factor):
            return plain / factor
        case NTKScaling(factor=factor):
            return plain * factor ** -(exponents * width / (width - 2))
        case DynamicScaling() as scaling:
            return _dynamic(exponents, scaling, params.theta, width, positions)
        case Llama3Scaling() as scaling:
            return _llama3(plain, scaling)
        case YarnScaling() as scaling:
            return _yarn(plain, scaling, params.theta, width)
        case LongRopeScaling() as scaling:
            return plain / _longrope(scaling, positions)
        case _:
            return plain


def attention_factor(params: RopeParams) -> float:
    """What cos and sin are multiplied by: the temperature of YaRN and LongRoPE, else 1."""
    scaling = params.scaling
    if not isinstance(scaling, YarnScaling | LongRopeScaling):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if isinstance(scaling, YarnScaling):
        return 0.1 * math.log(scaling.factor) + 1.0
    return math.sqrt(1 + math.log(scaling.factor) / math.log(scaling.original_max_seq_len))


def _dynamic(exponents: Tensor, scaling: DynamicScaling, theta: float, width: int, positions: Tensor) -> Tensor:
    longer = (document_lengths(positions) / scaling.original_max_seq_len).clamp(min=1)
    base: Tensor = theta * (scaling.factor * longer - (scaling.factor - 1)) ** (width / (width - 2))
    return base[..., None] ** -exponents


def _llama3(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    rotations = scaling.original_max_seq_len * plain / (2 * math.pi)
    kept = (rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0, 1)
    return plain * kept + plain / scaling.factor * (1 - kept)


def _yarn(plain: Tensor, scaling: YarnScaling, theta: float, width: int) -> Tensor:
    first = _pair_with_rotations(scaling.beta_fast, scaling, theta, width)
    last = _pair_with_rotations(scaling.beta_slow, scaling, theta, width)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, width - 1)
    pair = torch.arange(width // 2, dtype=torch.float32, device=plain.device)
    divided = ((pair - first) / max(last - first, 0.001)).clamp(0, 1)
    return plain / scaling.factor * divided + plain * (1 - divided)


def _pair_with_rotations(rotations: float, scaling: YarnScaling, theta: float, width: int) -> float:
    """The (fractional) channel pair that turns so many times over the original context."""
    return width * math.log(scaling.original_max_seq_len / (rotations * 2 * math.pi)) / (2 * math.log(theta))


def _longrope(scaling: LongRopeScaling, positions: Tensor) -> Tensor:
    """What each pair is divided by: (R/2,), or by the text's length (B, T, R/2)."""
    short, long = (constant(factors, positions.device) for factors in (scaling.short_factor, scaling.long_factor))
    if scaling.use == "fitting":
        return torch.where((document_lengths(positions) > scaling.original_max_seq_len)[..., None], long, short)
    return long if scaling.use == "long" else short
