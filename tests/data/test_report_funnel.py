"""`funnel.json`: written as a whole, read back the same, and JSON that anybody reads."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import funnel_examples
import pytest
from funnel_examples import sample
from hypothesis import given
from hypothesis import strategies as st

from llmkit.core.errors import UserError
from llmkit.data.funnel import FUNNEL, Funnel, Sensitivity, Stage, read_funnel, write_funnel


@pytest.mark.parametrize("make", funnel_examples.EVERY, ids=lambda make: make.__name__)
def test_what_was_written_is_read_back(make: Any, tmp_path: Path) -> None:
    funnel = make()
    assert read_funnel(write_funnel(funnel, tmp_path).parent) == funnel
    assert [path.name for path in tmp_path.iterdir()] == [FUNNEL]


@given(st.lists(st.floats(), max_size=5), st.floats(), st.text(st.characters()))
def test_no_number_and_no_text_makes_json_that_others_refuse(values: list[float], limit: float, text: str) -> None:
    stage = funnel_examples.bare().stages[0].model_dump() | {"figures": {"a": limit, "b": [values, {"c": values}]}}
    one = Sensitivity(stage="s", parameter="p", statistic="s", least=limit, most=None, values=values, n=1)
    taken = sample("s", text, text, text, value=limit)
    funnel = Funnel(llmkit="", name="", fingerprint="", stages=[Stage.model_validate(stage)], samples=[taken], sensitivities=[one])

    def refused(constant: str) -> None:
        raise AssertionError(constant)

    written = funnel.model_dump_json()
    written.encode()
    read = json.loads(written, parse_constant=refused)
    assert read["sensitivities"][0]["values"] == [value for value in values if math.isfinite(value)]
    assert Funnel.model_validate_json(written) == funnel


def test_what_is_printed_has_the_keys_of_the_contract() -> None:
    document = funnel_examples.whole().document()
    assert {key: document[key] for key in ("documents", "kept", "tokens", "bytes")} == {
        "documents": 10_120,
        "kept": 7_215,
        "tokens": 10_300_000,
        "bytes": 41_800_000,
    }
    near = next(stage for stage in document["stages"] if stage["stage"] == "deduplicators.near")
    assert (near["in"], near["out"], near["removed"]) == (7_930, 7_215, 715)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "has no funnel.json; give the directory that `llmkit data prepare SPEC --out DIR` wrote"),
        (b"", "is no funnel that this llmkit reads"),
        (b"\xff\xfe", "is no funnel that this llmkit reads"),
        (b'{"llmkit": "9"}', "name: Field required"),
        (b'{"llmkit": "9", "name": "x", "fingerprint": "", "stages": [], "new": 1}', "new: Extra inputs are not permitted"),
    ],
)
def test_a_directory_without_a_funnel_is_told_with_its_remedy(content: bytes | None, told: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / FUNNEL).write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_funnel(tmp_path)
    assert told in str(caught.value)


def test_no_directory_and_a_file_for_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_funnel(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file and no directory"):
        read_funnel(tmp_path / "file")
