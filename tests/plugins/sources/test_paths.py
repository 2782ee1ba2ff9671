"""Paths and globs."""

from __future__ import annotations

import os
from glob import glob
from pathlib import Path

import pytest

from llmkit.core.errors import UserError
from llmkit.plugins.sources.paths import matching

FILES = ["a.txt", "b.md", ".hidden.txt", "x/a.txt", "x/.cache/a.txt", "x/y/a.txt", "x/y/b[1].txt", "z.txt/a.txt"]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "pattern", ["*.txt", "**/*.txt", "x/**/*.txt", "*/*.txt", "**", "**/y/*", "x/**/y/**/a.txt", "?.txt", "[ab].*", ".*.txt", "x/.cache/*"]
)
def test_a_glob_means_what_it_means_to_pythons_own(tree: Path, pattern: str) -> None:
    expected = sorted(path for path in map(Path, glob(pattern, recursive=True)) if path.is_file())
    assert matching([pattern], "text", "*.txt") == expected
    whole = matching([str(tree / pattern)], "text", "*.txt")
    assert whole == [tree / path for path in expected]


def test_a_name_that_has_pattern_characters_is_that_file(tree: Path) -> None:
    assert matching(["x/y/b[1].txt"], "text", "*.txt") == [Path("x/y/b[1].txt")]


def test_a_loop_of_links_is_entered_once(tree: Path) -> None:
    (tree / "x/y/up").symlink_to(tree)
    (tree / "x/self").symlink_to(tree / "x")
    plain = [Path(name) for name in sorted(FILES) if name.endswith("a.txt") and ".cache" not in name]
    assert sorted(path.resolve() for path in matching(["**/a.txt"], "text", "*.txt")) == sorted(tree / path for path in plain)


def test_a_linked_folder_is_read_as_any(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "far.txt").touch()
    (tree / "link").symlink_to(elsewhere)
    assert Path("link/far.txt") in matching(["**/*.txt"], "text", "*.txt")
    assert matching(["link/*.txt"], "text", "*.txt") == [Path("link/far.txt")]


def test_a_file_of_two_names_is_read_once(tree: Path) -> None:
    (tree / "again.txt").symlink_to(tree / "a.txt")
    assert matching(["*.txt", "a.txt"], "text", "*.txt") == [Path("a.txt")]


@pytest.mark.parametrize("given", ["gone.txt", "*.txt"])
def test_a_link_that_leads_nowhere_is_told(tree: Path, given: str) -> None:
    (tree / "gone.txt").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"'gone\.txt' is a link to 'nowhere', which leads nowhere"):
        matching([given], "text", "*.txt")


@pytest.mark.skipif(os.geteuid() == 0, reason="root looks into everything")
def test_a_folder_that_may_not_be_looked_into_is_told(tree: Path) -> None:
    (tree / "x/y").chmod(0)
    with pytest.raises(UserError, match="cannot look into 'x/y'"):
        matching(["**/*.txt"], "text", "*.txt")
    (tree / "x/y").chmod(0o700)
