"""Positions that are added to the embeddings: learned and sinusoidal."""

from __future__ import annotations

import math

import torch

from llmkit.core.site import Site
from llmkit.plugins.positions.components import LearnedParams, SinusoidalParams
from llmkit.plugins.positions.learned import Learned
from llmkit.plugins.positions.sinusoidal import Sinusoidal

SITE = Site(d_model=6, width=6, n_layers=1, layer=0, max_seq_len=16, vocab_size=10)


def test_learned_positions_add_the_row_of_each_position() -> None:
    learned = Learned(LearnedParams(), SITE)
    torch.nn.init.normal_(learned.weight)
    x, positions = torch.randn(2, 3, 6), torch.tensor([[0, 1, 2], [7, 8, 15]])
    added = learned.embed(x, positions) - x
    torch.testing.assert_close(added[1, 2], learned.weight[15])
    torch.testing.assert_close(added[0, 1], learned.weight[1])
    assert learned.weight.shape == (16, 6)


def test_sinusoidal_positions_are_the_papers_sines_and_cosines() -> None:
    x = torch.zeros(1, 2, 6)
    table = Sinusoidal(SinusoidalParams(), SITE).embed(x, torch.tensor([[0, 11]]))
    assert table[0, 0].tolist() == [0, 1, 0, 1, 0, 1]
    for channel in range(6):
        angle = 11 / 10_000 ** ((channel - channel % 2) / 6)
        expected = math.cos(angle) if channel % 2 else math.sin(angle)
        assert abs(float(table[0, 1, channel]) - expected) < 1e-5


def test_sinusoidal_positions_have_no_parameters() -> None:
    assert not list(Sinusoidal(SinusoidalParams(), SITE).parameters())
