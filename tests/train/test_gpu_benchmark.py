"""The benchmark of a card, as far as it goes without one: what is trained, by whom, and what is told of it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from llmkit.model.build import build

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


def llama_parameters(shape: Any) -> int:
    """Embedding and head apart; in each layer attention, a gated FFN and two norms; and a last norm."""
    keys = shape.kv_heads * shape.width // shape.heads
    layer = 2 * shape.width * (shape.width + keys) + 3 * shape.width * shape.d_ff + 2 * shape.width
    return 2 * shape.vocabulary * shape.width + shape.layers * layer + shape.width


SIZES = {"350M": 373_867_520, "1B": 1_104_218_112}


@pytest.mark.parametrize("name", SIZES)
def test_llmkit_and_transformers_build_the_same_number_of_parameters(name: str) -> None:
    pytest.importorskip("transformers")
    from benchmarks.training.shapes import SHAPES
    from benchmarks.training.ways import ours, transformers

    shape = SHAPES[name]
    with torch.device("meta"):
        theirs = transformers.build(shape)
    mine = build(ours.spec_of(shape, "bf16", True), device="meta")
    counts = {sum(parameter.numel() for parameter in model.parameters()) for model in (theirs, mine)}
    assert counts == {SIZES[name]} == {llama_parameters(shape)}


@pytest.mark.parametrize("name", SIZES)
def test_litgpt_builds_the_same_number_of_parameters(name: str) -> None:
    if importlib.util.find_spec("litgpt") is None:
        pytest.skip("litgpt is not installed")
    from benchmarks.training.shapes import SHAPES
    from benchmarks.training.ways import litgpt

    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in litgpt.build(SHAPES[name]).parameters()) == SIZES[name]


def test_without_a_gpu_it_says_so_in_a_sentence() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    done = subprocess.run([sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "benchmarks.gpu measures a CUDA device, and torch sees none here; benchmarks.training measures a processor\n"


def test_the_ways_are_llmkit_and_the_peers_eager_and_compiled() -> None:
    from benchmarks.gpu import ways
    from benchmarks.training.shapes import SHAPES

    names = ["product", "llmkit", "llmkit-compiled", "litgpt", "litgpt-compiled", "transformers", "transformers-compiled"]
    assert [way.name for way in ways(SHAPES["1B"], fp8=False)] == names
    assert [way.name for way in ways(SHAPES["1B"], fp8=True)] == [*names, "llmkit-fp8-compiled"]


def test_the_table_holds_utilisation_against_the_published_peak_and_memory_as_the_device_counts_it() -> None:
    from benchmarks.gpu import lines
    from benchmarks.training.shapes import SHAPES

    shape = SHAPES["350M"]
    second = shape.flops() / 500e12
    piece = {
        "shape": asdict(shape),
        "ways": {
            "product": {"seconds": [shape.products_flops() / 800e12], "peak": 0},
            "llmkit-compiled": {"seconds": [second, 2 * second, second], "peak": 10 * 2**30},
            "llmkit-fp8-compiled": {"seconds": [second / 2], "peak": 10 * 2**30},
            "litgpt": {"seconds": [2 * second], "peak": 20 * 2**30},
        },
    }
    told = lines("350M", piece, 1000e12)
    assert "the matrix products alone, 80%" in told[1]
    assert [row.split(" | ")[2:] for row in told[5:]] == [
        ["2.00", "50%", "10.0 GiB", "0.50 |"],
        ["4.00", "50%", "10.0 GiB", "0.50 |"],
        ["1.00", "25%", "20.0 GiB", "1.00 |"],
    ]
