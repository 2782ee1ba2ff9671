"""What is acme's own, and no law of llmkit's."""

import pytest
import torch
from llmkit_acme import FadingParams, UnitNormParams
from llmkit_acme.fading import FadingAttention, Memory
from llmkit_acme.repetition import repeated
from llmkit_acme.unit_norm import UnitNorm

from llmkit import Site

SITE = Site(d_model=16, width=16, n_layers=1, layer=0, max_seq_len=64, vocab_size=8)


def test_a_memory_is_as_large_for_a_long_text_as_for_a_short_one():
    attention = FadingAttention(FadingParams(n_heads=2), SITE)
    sizes = {attention.new_cache(1, length, like=torch.zeros(())).nbytes for length in (1, 10, 1000)}
    assert sizes == {2 * 8 * 8 * 4}


def test_a_memory_of_later_tokens_is_not_taken_apart():
    memory = Memory(1, 2, 8, like=torch.zeros(()))
    memory.truncate(0)
    memory.last[:] = 5
    with pytest.raises(ValueError, match="cannot be taken apart"):
        memory.truncate(3)


def test_a_unit_norm_has_one_parameter_and_unit_root_mean_square():
    norm = UnitNorm(UnitNormParams(), SITE)
    torch.nn.init.ones_(norm.scale)
    assert sum(parameter.numel() for parameter in norm.parameters()) == 1
    y = norm(5 * torch.randn(4, 16))
    torch.testing.assert_close(y.square().mean(dim=-1).sqrt(), torch.ones(4))


@pytest.mark.parametrize(("text", "share"), [("", 0), ("one", 0), ("a b c d", 0), ("a b a b", 1 / 3), ("no no no no no", 3 / 4)])
def test_repeated_is_the_share_of_pairs_seen_before(text, share):
    assert repeated(text) == pytest.approx(share)
