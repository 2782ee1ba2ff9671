"""ALiBi's slopes and the bias made of them."""

from __future__ import annotations

import pytest
import torch

from llmkit.core.site import Site
from llmkit.plugins.positions.alibi import Alibi, slopes
from llmkit.plugins.positions.components import AlibiParams


def test_slopes_of_eight_heads_are_the_papers() -> None:
    assert slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_slopes_of_sixteen_heads_start_at_the_root_of_a_half() -> None:
    assert slopes(16) == pytest.approx([0.5 ** (n / 2) for n in range(1, 17)])


def test_slopes_of_twelve_heads_are_those_of_eight_and_every_other_of_sixteen() -> None:
    assert slopes(12) == pytest.approx(slopes(8) + slopes(16)[0:8:2])


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 12, 20, 32])
def test_slopes_are_those_of_transformers(heads: int) -> None:
    pytest.importorskip("transformers")
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    theirs = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32).view(heads, 2)[:, 1]
    assert slopes(heads) == pytest.approx(theirs.tolist(), rel=1e-6)


def test_the_bias_falls_by_the_slope_with_every_token_of_distance() -> None:
    site = Site(d_model=32, width=8, n_layers=1, layer=0, max_seq_len=64, vocab_size=10, heads=4)
    alibi = Alibi(AlibiParams(), site)
    at = torch.arange(5)
    bias = alibi.bias(at[:, None], at[None, :], torch.arange(4)[:, None, None], alibi.tables(at[None]))
    assert bias.shape == (4, 5, 5)
    assert torch.equal(bias[0, 4], torch.tensor([-1.0, -0.75, -0.5, -0.25, 0.0]))
    assert torch.equal(bias.diagonal(dim1=1, dim2=2), torch.zeros(4, 5))
