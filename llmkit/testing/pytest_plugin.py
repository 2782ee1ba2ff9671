"""The pytest plugin that gives plugin authors every law as a test of its own.

It imports nothing heavy, and does nothing for tests without its mark.

    @pytest.mark.llmkit_laws(llmkit_acme)
    def test_law(law):
        law()

The mark takes what brings components (a module with the hook, or components themselves), and as keywords `given`: name ->
parameters to try instead of the examples that the component declares, and `catalog`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

MARK = "llmkit_laws"


def pytest_configure(config: pytest.Config) -> None:
    """So that `--strict-markers` knows the mark."""
    config.addinivalue_line("markers", f"{MARK}(*sources, given={{}}, catalog=None): run every llmkit law on these plugins' components")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test of every law, component and set of parameters."""
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None:
        return
    from llmkit.testing.run import cases

    found = list(cases([component for source in mark.args for component in _components(source)], **mark.kwargs))
    metafunc.parametrize("law", found, ids=[str(case) for case in found])


def _components(source: Any) -> Iterator[Any]:
    hook = getattr(source, "llmkit_components", None)
    if hook is None:
        yield source
    else:
        yield from hook()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A broken law is its sentence; the frames of the law's own code say nothing to the author of a plugin."""
    report = yield
    if call.excinfo is not None and item.get_closest_marker(MARK) and type(call.excinfo.value).__name__ == "LawBroken":
        cause = call.excinfo.value.__cause__
        report.longrepr = str(call.excinfo.value) if cause is None else call.excinfo.getrepr(style="short")
    return report
