"""Batches and windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.core.interfaces.objective import IGNORED
from llmkit.data.batches import Batches, windows
from llmkit.data.tokens import TokenFile, TokenWriter, seal

EOS = 999


def token_file(directory: Path, lengths: list[int]) -> TokenFile:
    """Documents of these lengths; every token is its own place in the file, so that a mistake shows."""
    with TokenWriter(directory, "train", vocab_size=1000, eos_id=EOS, tokenizer="abc") as writer:
        place = 1
        for index, length in enumerate(lengths):
            writer.add(f"d{index}", list(range(place, place + length)), length)
            place += length + 1
    seal(directory, "train", sources={"text": len(lengths)})
    return TokenFile(directory, "train")


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    return token_file(tmp_path, [7, 0, 12, 3, 25, 1, 30])


def test_a_sequence_is_t_inputs_and_the_same_one_further_on(tokens: TokenFile) -> None:
    batches = Batches(tokens, seq_len=8, batch_size=3, seed=0)
    items = np.array([4, 0, 2])
    batch = batches.batch(items)
    for row, item in enumerate(items):
        assert batch.ids[row].tolist() == tokens.read(item * 8, item * 8 + 8).tolist()
        assert batch.targets[row].tolist() == tokens.read(item * 8 + 1, item * 8 + 9).tolist()
    assert batch.ids.dtype == batch.targets.dtype == torch.int64 and batch.ids.is_contiguous()
    assert batch.item_ids is not None and batch.item_ids.tolist() == [4, 0, 2]
    assert batch.positions is None and batch.segments is None and batch.weights is None


def test_an_epoch_has_every_sequence_once_and_the_next_begins_within_a_batch(tokens: TokenFile) -> None:
    batches = Batches(tokens, seq_len=8, batch_size=4, seed=3)
    assert batches.n_sequences == (tokens.n_tokens - 1) // 8 == 10
    seen = np.concatenate([batches.items(step) for step in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10].tolist() != seen[10:].tolist()


def test_a_step_has_the_same_sequences_whenever_it_is_asked_for(tokens: TokenFile) -> None:
    first, second = (Batches(tokens, seq_len=8, batch_size=4, seed=3) for _ in range(2))
    for step in range(20):
        second.items(step)
    assert first.items(17).tolist() == second.items(17).tolist()
    assert first.items(17).tolist() != Batches(tokens, seq_len=8, batch_size=4, seed=4).items(17).tolist()


@given(batch_size=st.integers(1, 23), parts=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_the_stream_of_sequences_does_not_depend_on_the_batch(
    tmp_path_factory: pytest.TempPathFactory, batch_size: int, parts: int
) -> None:
    tokens = token_file(tmp_path_factory.mktemp("tokens"), [40, 40])
    big = Batches(tokens, seq_len=8, batch_size=batch_size * parts, seed=1).items(2)
    small = Batches(tokens, seq_len=8, batch_size=batch_size, seed=1)
    assert big.tolist() == np.concatenate([small.items(2 * parts + part) for part in range(parts)]).tolist()


def test_masked_documents_begin_at_position_0_with_the_end_of_text_before_them(tokens: TokenFile) -> None:
    batch = Batches(tokens, seq_len=16, batch_size=1, seed=0, mask_documents=True).batch(np.array([0]))
    assert batch.ids[0].tolist() == [EOS, 1, 2, 3, 4, 5, 6, 7, EOS, EOS, 10, 11, 12, 13, 14, 15]
    assert batch.segments is not None and batch.segments[0].tolist() == [1] * 8 + [2] + [3] * 7
    assert batch.positions is not None and batch.positions[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 0, 1, 2, 3, 4, 5, 6]
    assert batch.targets[0].tolist() == [1, 2, 3, 4, 5, 6, 7, EOS, EOS, 10, 11, 12, 13, 14, 15, 16], "every target counts"


def test_a_masked_sequence_that_begins_within_a_document_begins_at_position_0(tokens: TokenFile) -> None:
    batch = Batches(tokens, seq_len=4, batch_size=1, seed=0, mask_documents=True).batch(np.array([1]))
    assert batch.ids[0].tolist() == [4, 5, 6, 7] and batch.positions is not None and batch.segments is not None
    assert batch.positions[0].tolist() == [0, 1, 2, 3] and batch.segments[0].tolist() == [0, 0, 0, 0]


@given(seq_len=st.integers(1, 90), batch_size=st.integers(1, 9), of=st.integers(1, 3), mask=st.booleans())
@settings(max_examples=40, deadline=None)
def test_windows_predict_every_token_but_the_first_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, seq_len: int, batch_size: int, of: int, mask: bool
) -> None:
    tokens = token_file(tmp_path_factory.mktemp("tokens"), [7, 0, 12, 3, 25])
    predicted = []
    for shard in range(of):
        for batch in windows(tokens, seq_len, batch_size=batch_size, mask_documents=mask, shard=shard, of=of):
            assert batch.ids.shape == batch.targets.shape and batch.ids.shape[0] <= batch_size and batch.item_ids is not None
            for item, ids, targets in zip(batch.item_ids.tolist(), batch.ids, batch.targets, strict=True):
                counted = targets != IGNORED
                predicted += [(item * seq_len + index + 1, int(targets[index])) for index in counted.nonzero().flatten().tolist()]
                assert ids[counted].tolist() == tokens.read(item * seq_len, item * seq_len + int(counted.sum())).tolist()
    assert sorted(predicted) == list(enumerate(tokens.read().tolist()))[1:]


def test_a_last_window_by_itself_is_filled_up_with_end_of_text_and_not_with_what_its_targets_ignore(tokens: TokenFile) -> None:
    alone = list(windows(tokens, 4, batch_size=1))
    together = next(windows(tokens, 4, batch_size=len(alone)))
    assert torch.equal(torch.cat([batch.ids for batch in alone]), together.ids) and together.ids.min() >= 0
    assert torch.equal(torch.cat([batch.targets for batch in alone]), together.targets)
    assert (together.targets[-1] == IGNORED).any()


def test_a_limit_takes_the_first_windows(tokens: TokenFile) -> None:
    items = [batch.item_ids.tolist() for batch in windows(tokens, 8, batch_size=2, limit=3) if batch.item_ids is not None]
    assert items == [[0, 1], [2]]


def test_too_little_text_for_one_sequence_is_refused_with_the_remedy(tokens: TokenFile) -> None:
    assert Batches(tokens, seq_len=tokens.n_tokens - 1, batch_size=1, seed=0).n_sequences == 1
    with pytest.raises(UserError, match=r"86 tokens.*train\.seq_len 86 needs 87"):
        Batches(tokens, seq_len=tokens.n_tokens, batch_size=1, seed=0)


def test_a_sequence_is_found_in_its_documents(tokens: TokenFile) -> None:
    batches = Batches(tokens, seq_len=8, batch_size=1, seed=0)
    assert [tuple(passage) for passage in batches.locate(1)] == [("d0", 7, 8), ("d1", 0, 1), ("d2", 0, 7)]
