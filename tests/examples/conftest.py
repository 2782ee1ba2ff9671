"""llmkit's wheel, and an environment with it in it, for the tests of what other people publish."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from environment import Environment, built

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """llmkit's own wheel."""
    return built(ROOT, tmp_path_factory.mktemp("llmkit"))


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """A fresh environment with llmkit in it."""
    environment = Environment(tmp_path_factory.mktemp("home"))
    environment.install(str(wheel))
    return environment


@pytest.fixture(scope="session")
def build_wheel(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """A function from a source tree to its wheel."""
    return lambda source: built(source, tmp_path_factory.mktemp(source.name))
