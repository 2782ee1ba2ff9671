"""The compression yardsticks."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import Callable

import pytest

from llmkit.core.spec import Spec
from llmkit.data.prepare import split_documents
from llmkit.data.yardstick import compression_yardsticks, yardsticks_of


def words(seed: int, n: int) -> str:
    source = random.Random(seed)
    return " ".join("".join(source.choices("etaoinshrdlu", k=source.randint(2, 9))) for _ in range(n))


@pytest.mark.skipif(shutil.which("xz") is None, reason="xz is not installed")
def test_alone_is_what_the_program_xz_says() -> None:
    text = words(0, 3000)
    size = len(subprocess.run(["xz", "-9e", "--stdout"], input=text.encode(), capture_output=True, check=True).stdout)
    assert compression_yardsticks("", text).alone == pytest.approx(8 * size / len(text), rel=0.005)


def test_text_that_was_seen_in_training_costs_next_to_nothing() -> None:
    text = words(1, 3000)
    yardsticks = compression_yardsticks(words(2, 50_000) + text, text)
    assert yardsticks.after_training < 0.05 < 3 < yardsticks.alone


def test_a_specs_yardsticks_are_those_of_its_two_sides(make_spec: Callable[..., Spec]) -> None:
    spec = make_spec(words(3, 4000).replace(" ", "\n"))
    train = "\n".join(document.text for held_out, document in split_documents(spec) if not held_out)
    validation = "\n".join(document.text for held_out, document in split_documents(spec) if held_out)
    assert yardsticks_of(spec) == compression_yardsticks(train, validation)
