"""Needles are found where a search for each of them finds them, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.plugins.filters import needles as module
from llmkit.plugins.filters.needles import Haystack, Needles, gathered, load, needles_of, save, windows

LETTERS = st.binary(max_size=300).map(lambda raw: bytes(97 + byte % 3 for byte in raw))


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


def whole(strings: list[bytes], common: int | None = None) -> list[Needles]:
    parts = [
        part for owner, string in enumerate(strings) for part in needles_of(array(string), np.array([0]), np.array([len(string)]), owner)
    ]
    return gathered(parts, common)[0]


def found(strings: list[bytes], text: bytes) -> set[tuple[int, int, int]]:
    hit = Haystack(whole(strings)).find(array(text))
    return set(zip(hit.starts.tolist(), hit.lengths.tolist(), hit.owners.tolist(), strict=True))


def searched(strings: list[bytes], text: bytes) -> set[tuple[int, int, int]]:
    return {
        (place, len(string), owner)
        for owner, string in enumerate(strings)
        for place in range(len(text) - len(string) + 1)
        if text[place : place + len(string)] == string
    }


@given(text=LETTERS, strings=st.lists(LETTERS.filter(bool).map(lambda raw: raw[:40]), max_size=8))
@settings(max_examples=150, deadline=None)
def test_random_needles_are_found_where_brute_force_finds_them(text: bytes, strings: list[bytes]) -> None:
    assert found(strings, text) == searched(strings, text)


@given(text=LETTERS, cuts=st.lists(st.tuples(st.integers(0, 299), st.integers(1, 130)), min_size=1, max_size=6), block=st.integers(1, 50))
@settings(max_examples=100, deadline=None)
def test_parts_of_the_text_are_found_across_blocks(text: bytes, cuts: list[tuple[int, int]], block: int) -> None:
    strings = [part for start, length in cuts if (part := text[start : start + length])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        assert found(strings, text) == searched(strings, text)


def test_windows_are_equal_where_the_bytes_are_and_differ_where_they_differ() -> None:
    data = array(np.random.default_rng(0).integers(0, 2, 400).astype(np.uint8).tobytes())
    for power, hashes in windows(data, 5):
        strings = [data[place : place + (1 << power)].tobytes() for place in range(len(hashes))]
        assert len(set(zip(strings, hashes.tolist(), strict=True))) == len(set(strings)) == len(set(hashes.tolist()))


def test_a_needle_of_more_owners_than_allowed_is_left_out_for_all_of_them() -> None:
    strings = [b"everybody has this", b"everybody has this", b"everybody has this", b"two of them have", b"two of them have"]
    parts = [
        part for owner, string in enumerate(strings) for part in needles_of(array(string), np.array([0]), np.array([len(string)]), owner)
    ]
    classes, left_out = gathered(parts, 2)
    assert left_out == 3
    assert sorted(owner for one in classes for owner in one.owners.tolist()) == [3, 4]


def test_a_part_that_a_string_has_twice_is_one_needle_of_its_owner() -> None:
    data = array(b"again and again and ")
    parts = [part for owner in (0, 1) for part in needles_of(data, np.array([0, 10]), np.array([10, 20]), owner)]
    (one,) = gathered(parts, 2)[0]
    assert one.owners.tolist() == [0, 1]


def test_what_was_saved_is_found_again(tmp_path: Path) -> None:
    strings = [b"short one", b"one that is a good deal longer than the other"]
    save(whole(strings), tmp_path)
    hit = Haystack(load(tmp_path)).find(array(b"a short one"))
    assert (hit.starts.tolist(), hit.owners.tolist()) == ([2], [0])


def test_nothing_is_found_where_there_is_nothing_to_find(tmp_path: Path) -> None:
    save([], tmp_path)
    assert len(Haystack(load(tmp_path)).find(array(b"text")).starts) == 0
    assert len(Haystack(whole([b"a needle"])).find(array(b"")).starts) == 0
