"""The sources that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind
from llmkit.plugins.tasks.choice import TaskChoice

EXTENSIONS = (
    ".py .pyi .js .mjs .cjs .jsx .ts .tsx .java .kt .scala .c .h .cc .cpp .cxx .hpp .hh .cu .cs .go .rs .rb .php .swift .m .r .jl .lua "
    ".pl .sh .bash .sql .hs .ml .ex .exs .erl .clj .dart .zig .css .scss .vue .proto .tex .md .rst"
)
PERMISSIVE = (
    "MIT MIT-0 Apache-2.0 BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear 0BSD ISC Zlib BSL-1.0 Unlicense CC0-1.0 CC-BY-4.0 PSF-2.0 "
    "Python-2.0 PostgreSQL NCSA Artistic-2.0 BlueOak-1.0.0 WTFPL"
)


class PydocParams(Params):
    """Parameters of `pydoc`."""

    topics: bool = Field(True, description="whether the language reference in pydoc_data.topics is read")
    docstrings: bool = Field(True, description="whether the docstrings of the standard library are read")


class FilesParams(Params):
    """What every source of files takes."""

    paths: list[str] = Field(
        description="files and globs (`**` for all folders below), relative to where llmkit runs; .gz .xz .bz2 .zst are decompressed",
        min_length=1,
    )
    licence: str = Field("", description="the licence of the text, where it does not say so itself: an SPDX identifier or a phrase")
    max_bytes: PositiveInt = Field(
        32_000_000, description="a record with more bytes is set aside and counted, and never held in memory; 32 MB unless given"
    )

    @field_validator("paths", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


class TextParams(FilesParams):
    """Parameters of `text`."""

    split: Literal["file", "paragraph", "line"] = Field(
        "file", description="what a document is: a file, a paragraph (ended by a blank line), a line"
    )
    separator: str | None = Field(
        None, description="a string that ends every document, such as <|endoftext|>; instead of `split`", min_length=1
    )


class ColumnsParams(FilesParams):
    """What sources of records with columns take."""

    column: str = Field("text", description="the column that holds the text")
    id_column: str | None = Field(
        None, description="a column that names each record: the document's id begins with it and ends with the record's place"
    )
    licence_column: str | None = Field(None, description="a column with the licence of each record; `licence` where it is empty")
    meta: list[str] = Field(default_factory=list, description="columns that are kept beside the text")


class JsonlParams(ColumnsParams):
    """Parameters of `jsonl`."""


class ParquetParams(ColumnsParams):
    """Parameters of `parquet`."""


class HtmlParams(FilesParams):
    """Parameters of `html`."""


class WarcParams(FilesParams):
    """Parameters of `warc`."""


class CodeParams(FilesParams):
    """Parameters of `code`."""

    paths: list[str] = Field(description="directories, each with all that is below it, relative to where llmkit runs", min_length=1)
    extensions: list[str] = Field(
        default_factory=lambda: EXTENSIONS.split(),
        description="what a file's name ends in, with the dot; others are no source files",
        min_length=1,
    )
    licences: list[str] | None = Field(
        default_factory=lambda: PERMISSIVE.split(),
        description="SPDX identifiers of the licences under which files are taken: permissive ones unless given; null for any and none",
    )
    licence: str = Field(
        "", description="the licence of files for which neither an SPDX line of their own nor a LICENSE file at or above them speaks"
    )
    generated: bool = Field(False, description="whether files that a program wrote are taken: marked so, named so, or minified")
    vendored: bool = Field(False, description="whether folders of others' code are entered: node_modules, vendor, third_party, ...")


class HubParams(Params):
    """Parameters of `hub`."""

    name: str = Field(
        description="what `datasets.load_dataset` loads: a repository, a local directory, or a format such as json or parquet"
    )
    config: str | None = Field(None, description="the configuration of a dataset that has several")
    split: str = Field("train", description="which split, such as train or train[:10%]")
    column: str = Field("text", description="the column that holds the text")
    id_column: str | None = Field(None, description="a column that names each record; its number in the split unless given")
    data_files: list[str] | None = Field(None, description="files or globs, where `name` is a format or a repository of many files")
    revision: str | None = Field(None, description="branch, tag or commit of a remote repository")
    streaming: bool | None = Field(None, description="read without downloading all first; where larger than 1 GB unless given")
    limit: PositiveInt | None = Field(None, description="only the first so many records")


class SyntheticParams(Params):
    """Parameters of `synthetic`."""

    task: TaskChoice = Field(
        description="what is exercised: induction, mqar, copying or dyck, with the task's own parameters: {type: mqar, pairs: 16}",
        examples=["mqar", {"type": "dyck", "length": 6}, {"type": "copying", "blanks": 4}, {"type": "induction", "separator": " "}],
    )
    documents: PositiveInt = Field(20_000, description="how many documents there are")
    seed: NonNegativeInt = Field(0, description="which documents; no seed makes one that a probe asks")


@hookimpl
def llmkit_components() -> list[Component]:
    """Every component of this folder."""
    here = "llmkit.plugins.sources"
    return [
        Component(
            Kind.source,
            "pydoc",
            PydocParams,
            f"{here}.pydoc:Pydoc",
            "the embedded corpus: Python's own documentation, about 2 MB of English",
        ),
        Component(
            Kind.source, "text", TextParams, f"{here}.text:Text", "text files, whole or cut into paragraphs, lines or by a separator"
        ),
        Component(Kind.source, "jsonl", JsonlParams, f"{here}.jsonl:Jsonl", "files of JSON objects, one a line, with a column of text"),
        Component(Kind.source, "parquet", ParquetParams, f"{here}.parquet:Parquet", "Parquet files with a column of text, in flat memory"),
        Component(Kind.source, "html", HtmlParams, f"{here}.html:Html", "pages of HTML in files, in whatever encoding"),
        Component(
            Kind.source,
            "warc",
            WarcParams,
            f"{here}.warc:Warc",
            "web archives, Common Crawl's WARC and WET: pages that were found, damage or not",
        ),
        Component(
            Kind.source, "code", CodeParams, f"{here}.code:Code", "trees of source files, by licence, without generated and vendored ones"
        ),
        Component(Kind.source, "hub", HubParams, f"{here}.hub:Hub", "anything that Hugging Face datasets loads, local or remote"),
        Component(
            Kind.source,
            "synthetic",
            SyntheticParams,
            f"{here}.synthetic:Synthetic",
            "exercises whose answers are known, for the probes: induction, recall (arXiv 2312.04927), copying, brackets",
        ),
    ]
