"""Stop strings: where a completion ends, what is cut off, and what may be shown before it is certain."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llmkit import catalog, load_spec
from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.kinds import Kind
from llmkit.model.stop_strings import StopStrings

WORDS = st.text(alphabet="ab\né", max_size=12)


def tokenizer() -> Tokenizer:
    spec = load_spec({"tokenizer": "bytes", "model": {"d_model": 32, "n_layers": 1, "max_seq_len": 8}})
    made: Tokenizer = catalog().find(Kind.tokenizer, "bytes").resolve().train(spec.tokenizer.params, [])
    return made


BYTES = tokenizer()


@given(text=WORDS, strings=st.lists(st.text(alphabet="ab\né", min_size=1, max_size=3), min_size=1, max_size=3))
def test_it_stops_at_the_first_token_that_completes_a_string_and_cuts_before_it(text: str, strings: list[str]) -> None:
    stops = StopStrings(BYTES, strings)
    ids = BYTES.encode(text)
    at = next((end for end in range(1, len(ids) + 1) if stops(ids[:end])), None)
    first = min((text.find(string) for string in strings if string in text), default=None)
    assert (at is None) == (first is None)
    assert stops.cut(text) == text[:first]
    if at is not None:
        assert any(string in BYTES.decode(ids[:at]) for string in strings)
        assert not any(string in BYTES.decode(ids[: at - 1]) for string in strings)


@given(text=WORDS, strings=st.lists(st.text(alphabet="ab\né", min_size=1, max_size=3), max_size=3))
@example(text="\naa", strings=["a", "\naa"])
def test_what_was_shown_is_never_taken_back(text: str, strings: list[str]) -> None:
    stops = StopStrings(BYTES, strings)
    for end in range(len(text) + 1):
        assert stops.cut(text).startswith(stops.certain(text[:end]))
    assert stops.certain(text + "c") == stops.cut(text + "c")


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UserError, match="stop string is empty"):
        StopStrings(BYTES, ["a", ""])
