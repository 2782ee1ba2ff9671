"""Batches and windows."""

from __future__ import annotations

from itertools import pairwise
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


def mixed_file(directory: Path, lengths: dict[str, list[int]]) -> TokenFile:
    """Documents of these lengths, source by source; every token is its own place in the file."""
    place = 1
    with TokenWriter(directory, "train", vocab_size=1 << 20, eos_id=0, tokenizer="abc") as writer:
        for length in (length for source in lengths.values() for length in source):
            writer.add(str(place), list(range(place, place + length)), length)
            place += length + 1
    seal(directory, "train", sources={name: len(source) for name, source in lengths.items()})
    return TokenFile(directory, "train")


@given(
    lengths=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=6), min_size=1, max_size=4),
    seq_len=st.integers(1, 9),
    seed=st.integers(0, 9),
)
@settings(max_examples=50, deadline=None)
def test_a_sequence_is_a_source_s_where_all_that_it_predicts_is(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[list[int]], seq_len: int, seed: int
) -> None:
    tokens = mixed_file(tmp_path_factory.mktemp("tokens"), {str(index): source for index, source in enumerate(lengths)})
    if tokens.n_tokens <= seq_len:
        return
    n_sequences = Batches(tokens, seq_len=seq_len, batch_size=1, seed=0).n_sequences
    predicted = [range(item * seq_len + 1, (item + 1) * seq_len + 1) for item in range(n_sequences)]
    for source in tokens.sources:
        whole = [item for item, targets in enumerate(predicted) if source.start <= targets[0] and targets[-1] < source.end]
        if not whole:
            with pytest.raises(UserError, match=rf"source '{source.source}' has {source.end - source.start} tokens"):
                Batches(tokens, seq_len=seq_len, batch_size=1, seed=seed, proportions={source.source: 1.0})
            continue
        batches = Batches(tokens, seq_len=seq_len, batch_size=len(whole), seed=seed, proportions={source.source: 1.0})
        assert sorted(batches.items(0).tolist()) == sorted(batches.items(1).tolist()) == whole


@given(batch_size=st.integers(1, 23), parts=st.integers(1, 4), ahead=st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_mixed_sequences_do_not_depend_on_the_batch_nor_on_what_was_asked_before(
    tmp_path_factory: pytest.TempPathFactory, batch_size: int, parts: int, ahead: int
) -> None:
    tokens = mixed_file(tmp_path_factory.mktemp("tokens"), {"a": [400, 300], "b": [500], "c": [90]})
    mixed = {"a": 0.5, "b": 0.2, "c": 0.3}
    big = Batches(tokens, seq_len=8, batch_size=batch_size * parts, seed=1, proportions=mixed)
    for step in range(ahead):
        big.items(step * 97)
    small = Batches(tokens, seq_len=8, batch_size=batch_size, seed=1, proportions=mixed)
    assert big.items(50).tolist() == np.concatenate([small.items(50 * parts + part) for part in range(parts)]).tolist()


def test_mixed_sequences_are_read_and_found_as_any_others(tmp_path: Path) -> None:
    tokens = mixed_file(tmp_path, {"a": [40, 30], "b": [50]})
    batches = Batches(tokens, seq_len=8, batch_size=4, seed=0, proportions={"a": 0.75, "b": 0.25})
    items = batches.items(3)
    batch = batches.batch(items)
    assert batch.item_ids is not None and batch.item_ids.tolist() == items.tolist()
    for row, item in enumerate(items.tolist()):
        assert batch.ids[row].tolist() == tokens.read(item * 8, item * 8 + 8).tolist()
        assert {passage.document for passage in batches.locate(item)} <= set(tokens.document_ids)


def test_proportions_of_steps_are_those_that_were_asked_for(tmp_path: Path) -> None:
    tokens = mixed_file(tmp_path, {"a": [4000], "b": [500]})
    batches = Batches(tokens, seq_len=8, batch_size=32, seed=0, proportions={"a": 0.25, "b": 0.75})
    boundary = tokens.sources[1].start // 8
    parts = [float(np.mean(batches.items(step) < boundary)) for step in range(160)]
    # Ten blocks of 512 sequences are all of these steps.
    assert np.mean(parts) == 0.25 and np.std(parts) < 0.1


@given(cuts=st.lists(st.integers(0, 30), max_size=5), step=st.integers(0, 300), mixed=st.booleans(), mask=st.booleans())
@settings(max_examples=25, deadline=None)
def test_batches_do_not_depend_on_where_the_file_is_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], step: int, mixed: bool, mask: bool
) -> None:
    lengths = [40 + 3 * index for index in range(30)]
    bounds = [0, *sorted(cuts), len(lengths)]
    found = []
    for cut in ([0, len(lengths)], bounds):
        directory = tmp_path_factory.mktemp("tokens")
        for shard, (start, end) in enumerate(pairwise(cut)):
            with TokenWriter(directory, "train", vocab_size=1 << 20, eos_id=0, tokenizer="abc", shard=shard) as writer:
                for index in range(start, end):
                    writer.add(str(index), [1000 * index + place for place in range(lengths[index])], 1)
        seal(directory, "train", sources={"a": 10, "b": 20})
        proportions = {"a": 0.7, "b": 0.3} if mixed else None
        batches = Batches(TokenFile(directory, "train"), seq_len=16, batch_size=8, seed=5, mask_documents=mask, proportions=proportions)
        found.append(batches.batch(batches.items(step)))
    for one, other in zip(*found, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)
