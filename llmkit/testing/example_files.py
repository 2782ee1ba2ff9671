"""Example parameters of llmkit's own components that read files: the files are written first."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

from llmkit.core.catalog import Catalog
from llmkit.core.kinds import Kind

TEXT = ("the first document\nhas two lines", "the second", "naïve 世界", "and a fourth")


def example_files(directory: Path, catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    """Component -> sets of parameters that name files in this directory: `given` for `cases`."""
    for index, text in enumerate(TEXT):
        (directory / f"{index}.txt").write_text(f"{text}\n\n{text}, again\n", encoding="utf-8")
    records = directory / "records.jsonl"
    records.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXT), encoding="utf-8")
    tokenizer = directory / "tokenizer"
    tokenizer.mkdir()
    bpe = catalog.find(Kind.tokenizer, "bpe")
    bpe.resolve().train(bpe.params.model_validate({"vocab_size": 300, "special_tokens": ["<|user|>"]}), TEXT).save(tokenizer)
    code = directory / "code"
    code.mkdir()
    for index in range(3):
        page = f"<html><body><main><p>{TEXT[index]}</p></main></body></html>"
        (directory / f"{index}.html").write_text(page, encoding="utf-8")
        (code / f"{index}.py").write_text(f"# SPDX-License-Identifier: MIT\nprint({index})\n", encoding="utf-8")
    _write_parquet(directory / "records.parquet")
    (directory / "pages.warc.gz").write_bytes(b"".join(gzip.compress(_response(number, text)) for number, text in enumerate(TEXT)))
    return {
        "code": [{"paths": [str(code)]}],
        "html": [{"paths": [str(directory / "*.html")]}],
        "jsonl": [{"paths": [str(records)]}],
        "parquet": [{"paths": [str(directory / "records.parquet")], "id_column": "name"}],
        "warc": [{"paths": [str(directory / "pages.warc.gz")]}],
        "text": [{"paths": [str(directory / "*.txt")], "split": split} for split in ("file", "paragraph", "line")],
        "hub": [{"name": "json", "data_files": [str(records)]}],
        "pretrained": [{"path": str(tokenizer)}],
    }


def _write_parquet(path: Path) -> None:
    import pyarrow
    from pyarrow.parquet import write_table

    write_table(pyarrow.table({"text": list(TEXT), "name": ["a", "b", "b", "c"]}), path, row_group_size=2)


def _response(number: int, text: str) -> bytes:
    """A record of a web archive."""
    page = f"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<html><body><p>{text}</p></body></html>".encode()
    fields = {
        "WARC-Type": "response",
        "WARC-Record-ID": f"<urn:uuid:{number}>",
        "WARC-Target-URI": f"https://example.org/{number}",
        "Content-Type": "application/http; msgtype=response",
        "Content-Length": len(page),
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"WARC/1.0\r\n{head}\r\n".encode() + page + b"\r\n\r\n"
