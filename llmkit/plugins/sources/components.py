"""The sources that llmkit ships: what each is called, what it takes, and where its code lies. Free of torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from llmkit.core.component import Component, Params
from llmkit.core.hooks import hookimpl
from llmkit.core.kinds import Kind
from llmkit.plugins.tasks.choice import TaskChoice


class PydocParams(Params):
    """Parameters of `pydoc`."""

    topics: bool = Field(True, description="whether the language reference in pydoc_data.topics is read")
    docstrings: bool = Field(True, description="whether the docstrings of the standard library are read")


class TextParams(Params):
    """Parameters of `text`."""

    paths: list[str] = Field(
        description="UTF-8 text files and globs (`**` for all folders below), relative to where llmkit runs", min_length=1
    )
    split: Literal["file", "paragraph", "line"] = Field(
        "file", description="what a document is: a file, a paragraph (ended by a blank line), a line"
    )
    separator: str | None = Field(
        None, description="a string that ends every document, such as <|endoftext|>; instead of `split`", min_length=1
    )

    @field_validator("paths", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value


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
        Component(Kind.source, "hub", HubParams, f"{here}.hub:Hub", "anything that Hugging Face datasets loads, local or remote"),
        Component(
            Kind.source,
            "synthetic",
            SyntheticParams,
            f"{here}.synthetic:Synthetic",
            "exercises whose answers are known, for the probes: induction, recall (arXiv 2312.04927), copying, brackets",
        ),
    ]
