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

from llmkit.testing.examples import examples
from llmkit.testing.law import Law, LawBroken, laws
from llmkit.testing.run import Case, Result, cases, check
from llmkit.testing.subject import Subject

__all__ = ["Case", "Law", "LawBroken", "Result", "Subject", "cases", "check", "examples", "laws"]
