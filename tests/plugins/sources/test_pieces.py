"""A stream cut into pieces."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.plugins.sources.pieces import RAW, paragraphs, separated, whole

STREAM = st.binary(max_size=80).map(lambda data: bytes(b"ab-\n"[byte % 4] for byte in data))
SEPARATOR = st.sampled_from([b"\n", b"-", b"--", b"ab", b"-\n"])


def in_blocks(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@given(data=STREAM, size=st.integers(1, 9), separator=SEPARATOR)
@settings(max_examples=200, deadline=None)
def test_pieces_are_what_split_gives_however_the_stream_comes(data: bytes, size: int, separator: bytes) -> None:
    found = list(separated(in_blocks(data, size), 3, separator, 1000))
    assert [piece.data for piece in found] == data.split(separator)
    assert all(piece.whole and data[piece.offset - 3 :].startswith(piece.data) for piece in found)


@given(data=STREAM, size=st.integers(1, 9), separator=SEPARATOR, limit=st.integers(1, 12))
@settings(max_examples=200, deadline=None)
def test_a_piece_that_is_too_long_is_counted_and_not_held(data: bytes, size: int, separator: bytes, limit: int) -> None:
    found = list(separated(in_blocks(data, size), 0, separator, limit))
    assert [piece.length for piece in found] == [len(piece) for piece in data.split(separator)]
    assert all(piece.whole == (piece.length <= limit) and len(piece.data) <= limit for piece in found)
    assert all(data[piece.offset :].startswith(piece.data) for piece in found)


@given(data=STREAM, size=st.integers(1, 9), limit=st.integers(1, 1000))
@settings(max_examples=200, deadline=None)
def test_paragraphs_end_at_blank_lines_and_hold_no_more_than_allowed(data: bytes, size: int, limit: int) -> None:
    found = [piece for piece in paragraphs(separated(in_blocks(data, size), 0, b"\n", limit), limit) if piece.length]
    expected = [paragraph.strip(b"\n") for paragraph in data.split(b"\n\n")]
    assert [piece.length for piece in found] == [len(paragraph) for paragraph in expected if paragraph]
    assert [piece.data for piece in found if piece.whole] == [paragraph for paragraph in expected if paragraph and len(paragraph) <= limit]


def test_a_long_stream_without_a_separator_is_never_held() -> None:
    blocks = (b"x" * (1 << 20) for _ in range(1 << 6))
    [piece] = separated(blocks, 0, b"\n", 1 << 20)
    assert piece.length == 1 << 26 and len(piece.data) == RAW


def test_a_whole_stream_keeps_its_beginning_where_it_is_too_long() -> None:
    assert whole([b"abc", b"def"], 0, 6).data == b"abcdef"
    piece = whole([b"abc", b"def"], 0, 5)
    assert not piece.whole and piece.length == 6 and piece.data == b"abcde"
