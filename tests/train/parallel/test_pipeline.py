"""Which layers lie on which stage."""

import pytest

from llmkit.train.parallel.pipeline import layers_of


@pytest.mark.parametrize(("stages", "n_layers"), [(1, 3), (2, 4), (3, 7), (4, 4)])
def test_stages_share_all_layers_in_order_and_as_evenly_as_can_be(stages, n_layers):
    shares = [layers_of(stage, stages, n_layers) for stage in range(stages)]
    assert [layer for share in shares for layer in share] == list(range(n_layers))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
