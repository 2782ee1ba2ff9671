"""The source `pydoc`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.core.interfaces.source import Broken, Document
from llmkit.plugins.sources.components import PydocParams
from llmkit.plugins.sources.pydoc import Pydoc


@pytest.fixture(scope="module")
def corpus() -> list[Document]:
    return list(Pydoc(PydocParams()).documents(0, 1))


def test_it_is_about_two_megabytes_of_english(corpus: list[Document]) -> None:
    text = "\n".join(document.text for document in corpus)
    assert 1_500_000 < len(text.encode()) < 4_000_000
    words = text.split()
    assert sum(word.lower() in {"the", "a", "of", "to", "is", "and", "in"} for word in words) > 0.12 * len(words)


def test_ids_are_unique_and_name_topics_and_modules(corpus: list[Document]) -> None:
    ids = [document.id for document in corpus]
    assert len(set(ids)) == len(ids)
    assert {"topics:assert", "posixpath", "json", "json.decoder", "asyncio.tasks"} <= set(ids)
    assert {"idlelib", "test", "tests", "lib2to3", "site-packages"}.isdisjoint(part for name in ids for part in name.split("."))


def test_a_docstring_is_the_one_that_the_module_has(corpus: list[Document]) -> None:
    import json
    import textwrap

    text = next(document.text for document in corpus if document.id == "json")
    assert (json.dumps.__doc__ or "").strip().splitlines()[0] in text
    assert textwrap.dedent(json.__doc__ or "").strip() in text


def test_no_docstring_comes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "lib"
    (library / "package").mkdir(parents=True)
    (library / "test").mkdir()
    (library / "a.py").write_text(
        '"""Shared."""\n\ndef f():\n    """Shared."""\nif True:\n    class C:\n        """Only\n        here."""\n'
    )
    (library / "package/__init__.py").write_text('"""Shared."""\ndef g():\n    """A package\'s own."""\n')
    (library / "test/x.py").write_text('"""A test."""')
    (library / "broken.py").write_text('"""Half')
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(library)})
    first, broken, last = Pydoc(PydocParams(topics=False)).documents(0, 1)
    assert first == Document("a", "Shared.\n\nOnly\nhere.\n", "pydoc", "PSF-2.0")
    assert isinstance(broken, Broken) and (broken.id, broken.reason) == ("broken", "is no Python")
    assert last == Document("package", "A package's own.\n", "pydoc", "PSF-2.0")


def test_shards_together_are_all_documents(corpus: list[Document]) -> None:
    source = Pydoc(PydocParams(docstrings=False))
    names = [document.id for document in source.documents(0, 1)]
    assert [document.id for document in source.documents(1, 3)] == names[1::3]
    assert names == [document.id for document in corpus if document.id.startswith("topics:")]


def test_no_module_is_imported() -> None:
    code = (
        "import sys\nfrom llmkit.plugins.sources.components import PydocParams\nfrom llmkit.plugins.sources.pydoc import Pydoc\n"
        "source = Pydoc(PydocParams())\nbefore = set(sys.modules)\nassert sum(1 for _ in source.documents(0, 1)) > 300\n"
        "print(sorted(name for name in set(sys.modules) - before if not name.startswith('pydoc_data')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_fingerprint_is_stable_and_follows_the_parameters() -> None:
    assert Pydoc(PydocParams()).fingerprint() == Pydoc(PydocParams()).fingerprint() != Pydoc(PydocParams(topics=False)).fingerprint()
