"""The source `hub`, on data sets that lie here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken, Document
from llmkit.plugins.sources.components import HubParams
from llmkit.plugins.sources.hub import Hub


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "hf-cache")
    data = tmp_path / "data"
    data.mkdir()
    rows = [{"text": f"text {number}", "name": f"n{number}", "number": number} for number in range(5)]
    (data / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return data


def texts(**params: object) -> list[str]:
    return [document.text for document in Hub(HubParams.model_validate(params)).documents(0, 1)]


@pytest.mark.parametrize("streaming", [None, False, True])
def test_a_directory_of_json_is_read(folder: Path, streaming: bool | None) -> None:
    assert texts(name=str(folder), streaming=streaming) == [f"text {number}" for number in range(5)]


def test_parquet_files_are_read_by_format(folder: Path) -> None:
    import datasets

    datasets.Dataset.from_dict({"body": ["one", "two"]}).to_parquet(str(folder / "x.parquet"))
    assert texts(name="parquet", data_files=[str(folder / "x.parquet")], column="body") == ["one", "two"]


def test_a_limit_and_shards_count_records(folder: Path) -> None:
    source = Hub(HubParams(name=str(folder), limit=4))
    assert [document.text for document in source.documents(0, 2)] == ["text 0", "text 2"]
    assert [document.text for document in source.documents(1, 2)] == ["text 1", "text 3"]


def test_ids_are_numbers_in_the_split_or_a_column(folder: Path) -> None:
    first = next(Hub(HubParams(name=str(folder))).documents(1, 2))
    assert first.id == f"{folder}/train#1" and first.source == f"hub:{folder}"
    assert next(Hub(HubParams(name=str(folder), id_column="name")).documents(1, 2)).id == "n1"


def test_the_fingerprint_follows_the_files(folder: Path) -> None:
    first = Hub(HubParams(name=str(folder))).fingerprint()
    assert Hub(HubParams(name=str(folder))).fingerprint() == first
    (folder / "train.jsonl").write_text('{"text": "other"}\n')
    assert Hub(HubParams(name=str(folder))).fingerprint() != first


def test_a_record_without_text_is_set_aside_and_the_others_are_read(folder: Path) -> None:
    (folder / "train.jsonl").write_text('{"text": null}\n{"text": "one"}\n')
    found = list(Hub(HubParams(name=str(folder))).documents(0, 1))
    assert isinstance(found[0], Broken) and found[0].reason == "has null for text" and found[0].id == f"{folder}/train#0"
    assert isinstance(found[1], Document) and found[1].text == "one"


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"column": "body"}, "no column 'body'; it has text, name, number"),
        ({"split": "nowhere"}, "cannot load .*nowhere"),
        ({"data_files": ["nothing-*.json"]}, r"cannot load .*data files"),
    ],
)
def test_what_cannot_be_read_is_the_users_to_mend(folder: Path, params: dict[str, object], reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        texts(name=str(folder), **params)


def test_an_unknown_name_is_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot load 'nobody/nothing'"):
        Hub(HubParams(name="nobody/nothing")).fingerprint()
