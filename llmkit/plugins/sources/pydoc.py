"""The embedded corpus: the documentation that every Python carries with it."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from inspect import cleandoc
from itertools import islice
from pathlib import Path

from llmkit.core.errors import UserError
from llmkit.core.interfaces.source import Broken, Document, Source
from llmkit.plugins.sources.components import PydocParams

SKIPPED = frozenset(
    {"test", "tests", "idlelib", "lib2to3", "turtledemo", "site-packages", "dist-packages", "ensurepip", "pydoc_data", "__pycache__"}
)
LICENCE = "PSF-2.0"
Documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


class Pydoc(Source):
    """The language reference (`pydoc_data.topics`) and the docstrings of the standard library of the running Python.

    A topic is a document (`topics:assert`), and so are the docstrings of a module (`os.path`), in the order of the source,
    each once in the whole corpus. Modules are parsed, never imported.
    """

    params: PydocParams

    def documents(self, shard: int, of: int) -> Iterator[Document | Broken]:
        # A docstring is kept where it is first seen, so that every shard has to look at all modules.
        return islice(self._all(), shard, None, of)

    def fingerprint(self) -> str:
        files = [f"{name}:{path.stat().st_size}" for name, path in _modules()]
        return hashlib.sha256("\n".join([sys.version, str(self.params), *files]).encode()).hexdigest()[:16]

    def _all(self) -> Iterator[Document | Broken]:
        if self.params.topics:
            yield from _topics()
        if self.params.docstrings:
            yield from _docstrings()


def _topics() -> Iterator[Document]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise UserError("this Python has no pydoc_data.topics; install its documentation package, or set `topics: false`") from error
    for name in sorted(topics):
        yield Document(f"topics:{name}", topics[name].strip() + "\n", "pydoc", LICENCE)


def _docstrings() -> Iterator[Document | Broken]:
    seen: set[str] = set()
    for name, path in _modules():
        try:
            texts = [text for text in _of_module(path) if text not in seen]
        except (SyntaxError, ValueError) as error:
            yield Broken(name, "is no Python", str(error))
            continue
        texts = list(dict.fromkeys(texts))
        seen.update(texts)
        if texts:
            yield Document(name, "\n\n".join(texts) + "\n", "pydoc", LICENCE)


def _modules() -> list[tuple[str, Path]]:
    """Dotted name and file of every module of the standard library, in alphabetical order."""
    root = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for directory, below, files in os.walk(root):
        # Cut here, the walk never enters what pip installed, which may be far larger than the library.
        below[:] = [name for name in below if name not in SKIPPED]
        found += [Path(directory, name) for name in files if name.endswith(".py")]
    return sorted((".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__"), path) for path in found)


def _of_module(path: Path) -> list[str]:
    with warnings.catch_warnings():
        # An invalid escape in someone's docstring is not this reader's concern.
        warnings.simplefilter("ignore")
        tree = ast.parse(path.read_bytes())
    docstrings = (ast.get_docstring(node) for node in _in_order(tree) if isinstance(node, Documented))
    return [cleandoc(text).strip() for text in docstrings if text and text.strip()]


def _in_order(node: ast.AST) -> Iterator[ast.AST]:
    """A node and the statements below it. Expressions, most of any tree, hold no docstring and are not visited."""
    yield node
    for field in ("body", "handlers", "orelse", "finalbody"):
        below = getattr(node, field, ())
        for child in below if isinstance(below, list) else ():
            yield from _in_order(child)
