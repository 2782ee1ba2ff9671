"""The laws: tests that anyone can run on anyone's plugin. Importing this imports no torch.

    from llmkit.testing import check, laws
    for result in check(component):              # every law of its kind, on every example of its parameters
        print(result.passed, result.law, result.detail)

In a plugin's own tests, the pytest plugin that comes with llmkit makes one test of every law:

    @pytest.mark.llmkit_laws(my_plugin)          # the module with the hook
    def test_law(law):
        law()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmkit.testing.example_parameters import examples
    from llmkit.testing.law import Law, LawBroken, laws
    from llmkit.testing.run import Case, Result, cases, check
    from llmkit.testing.subject import Subject

# Resolved lazily, because pytest imports this package at every start, wherever llmkit is installed.
_PUBLIC = {
    "Case": "run",
    "Law": "law",
    "LawBroken": "law",
    "Result": "run",
    "Subject": "subject",
    "cases": "run",
    "check": "run",
    "examples": "example_parameters",
    "laws": "law",
}

__all__ = ["Case", "Law", "LawBroken", "Result", "Subject", "cases", "check", "examples", "laws"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'llmkit.testing' has no attribute {name!r}")
    return getattr(importlib.import_module(f"llmkit.testing.{_PUBLIC[name]}"), name)
