"""What is written as JSON can be read by anyone's JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from llmkit.core.finite import finite

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(VALUES)
def test_any_value_becomes_json_without_nan_and_keeps_every_number_that_is_one(value: object) -> None:
    written = json.dumps(finite(value), allow_nan=False)
    assert finite(json.loads(written)) == json.loads(written)


def test_only_what_is_no_number_becomes_null() -> None:
    assert finite({"a": [1.5, float("nan"), (float("inf"), -2)], "b": True}) == {"a": [1.5, None, [None, -2]], "b": True}
