"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864).

Channel pair i of a head turns by p * theta^(-2i/R) radians at position p, so that a score depends on distance alone:

    [a'] = [cos  -sin] [a]      half: a, b = x[i], x[i + R/2]      interleaved: a, b = x[2i], x[2i + 1]
    [b']   [sin   cos] [b]

Shapes: B batch, H heads, T tokens, R turned channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from llmkit.core.interfaces.position import Position, Tables
from llmkit.core.site import Site
from llmkit.plugins.positions.components import LinearScaling, Llama3Scaling, RopeParams, YarnScaling


class Rope(Position):
    """Turns queries and keys by their position. Angles are in fp32: a bf16 position is off by whole turns."""

    def __init__(self, params: RopeParams, site: Site) -> None:
        super().__init__()
        self.params = params
        self.width = site.width
        self.interleaved = params.layout == "interleaved"

    def tables(self, positions: Tensor) -> Tables:
        """`cos` and `sin` of every pair's angle, (B, 1, T, R/2) fp32."""
        angles = positions[:, None, :, None].float() * frequencies(self.params, self.width, positions.device)
        factor = attention_factor(self.params)
        return {"cos": angles.cos() * factor, "sin": angles.sin() * factor}

    def rotate(self, x: Tensor, tables: Tables) -> Tensor:
        """x (B, H, T, R) -> the same shape and dtype, turned in fp32."""
        cos, sin = tables["cos"], tables["sin"]
        if self.interleaved:
            a, b = x.float().view(*x.shape[:-1], -1, 2).unbind(-1)
            return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2).to(x.dtype)
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1).to(x.dtype)


def frequencies(params: RopeParams, width: int, device: torch.device | None = None) -> Tensor:
    """Radians a token of every channel pair, (width / 2,) fp32, scaled for a longer context where the parameters say so."""
    plain = params.theta ** (-torch.arange(0, width, 2, dtype=torch.float32, device=device) / width)
    match params.scaling:
        case LinearScaling(factor=factor):
            return plain / factor
        case Llama3Scaling() as scaling:
            return _llama3(plain, scaling)
        case YarnScaling() as scaling:
            return _yarn(plain, scaling, params.theta, width)
        case _:
            return plain


def attention_factor(params: RopeParams) -> float:
    """What cos and sin are multiplied by: YaRN's temperature, else 1."""
    scaling = params.scaling
    if not isinstance(scaling, YarnScaling):
        return 1.0
    return scaling.attention_factor or 0.1 * math.log(scaling.factor) + 1.0


def _llama3(plain: Tensor, scaling: Llama3Scaling) -> Tensor:
    rotations = scaling.original_max_seq_len * plain / (2 * math.pi)
    kept = (rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0, 1)
    return plain * kept + plain / scaling.factor * (1 - kept)


def _yarn(plain: Tensor, scaling: YarnScaling, theta: float, width: int) -> Tensor:
    low = max(math.floor(_pair_with_rotations(scaling.beta_fast, scaling, theta, width)), 0)
    high = min(math.ceil(_pair_with_rotations(scaling.beta_slow, scaling, theta, width)), width - 1)
    pair = torch.arange(width // 2, dtype=torch.float32, device=plain.device)
    divided = ((pair - low) / max(high - low, 0.001)).clamp(0, 1)
    return plain / scaling.factor * divided + plain * (1 - divided)


def _pair_with_rotations(rotations: float, scaling: YarnScaling, theta: float, width: int) -> float:
    """The (fractional) channel pair that turns so many times over the original context."""
    return width * math.log(scaling.original_max_seq_len / (rotations * 2 * math.pi)) / (2 * math.log(theta))
