"""However a step is cut up, it has the loss and the gradients of one batch in fp64: the matrix of benchmarks/exactness.py."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import llmkit
from llmkit.core.errors import UserError
from llmkit.core.interfaces.objective import IGNORED
from llmkit.train.loop import train

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "exactness.py"


@pytest.fixture(scope="module")
def exactness() -> Iterator[ModuleType]:
    """The script as the module by whose name its processes and its components know it."""
    sys.path.insert(0, str(SCRIPT.parent))
    yield importlib.import_module("exactness")
    sys.path.remove(str(SCRIPT.parent))


def test_a_mixture_of_experts_with_uneven_targets_is_exact_in_micro_batches_and_on_two_ranks(exactness, tmp_path):
    row = exactness.Row("moe", "uneven", 12)
    cuts = exactness.cuts(12)
    cells = [(row, cuts[name]) for name in ("uncut", "fours", "ones", "2 ranks, fours")]
    found = exactness.measured(cells, tmp_path)
    against = exactness.reference(row, tmp_path)
    assert max(found[cell].apart(against) for cell in cells) < exactness.TOLERANCES["fp32"]
    assert len(against.buffers) == 2 and len(against.gradients) > 20


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "apart_from"), [("fp32", "fp64"), ("bf16", "uncut")])
def test_every_cut_of_uneven_batches_of_every_model_is_within_its_tolerance(exactness, tmp_path, precision, apart_from):
    rows = [row for row in exactness.ROWS if row.batch == 12 and row.packing == "uneven"]
    heads, lines, worst = exactness.table(rows, apart_from, precision, tmp_path)
    assert len(lines) == 3 and all(len(line) == len(heads) == 11 for line in lines)
    assert worst < exactness.TOLERANCES[precision]


def test_the_same_cut_is_the_same_to_the_last_bit(exactness, tmp_path):
    row = exactness.Row("multi-token", "documents", 8)
    first, second = (exactness.measured([(row, exactness.Cut(4))], tmp_path / name)[row, exactness.Cut(4)] for name in "ab")
    assert first.apart(second) == 0
    assert all(torch.equal(first.gradients[name], second.gradients[name]) for name in first.gradients)


def test_the_mean_of_the_micro_batches_means_would_be_found(exactness, tmp_path):
    """What a loop does that divides each micro-batch by its own tokens: the uneven rows are there to see it."""
    row = exactness.Row("dense", "uneven", 12)
    spec = llmkit.load_spec(exactness.document(row, tmp_path, "fp32"), catalog=exactness.catalog())
    batch = exactness._batch(spec, row)
    counts = (batch.targets != IGNORED) * batch.weights
    assert int((counts.sum(dim=1) == 0).sum()) > 1 and len(counts.sum(dim=1).unique()) > 6
    model = llmkit.build(spec)
    nats = exactness._nats(model(batch.ids, positions=batch.positions, segments=batch.segments), batch.targets) * counts
    torch.stack([part.sum() / count.sum() for part, count in zip(nats.split(4), counts.split(4), strict=True)]).mean().backward()
    whole = exactness.reference(row, tmp_path).gradients["embedding.weight"]
    assert float((model.embedding.weight.grad - whole).norm() / whole.norm()) > 0.01


def test_a_step_in_which_no_target_counts_is_refused(exactness, tmp_path):
    known = exactness.catalog()
    document = exactness.document(exactness.Row("dense", "uneven", 8), tmp_path, "fp32")
    document["train"] |= {"batch_size": 1, "steps": 20}
    with pytest.raises(UserError, match="has no token to count"):
        train(llmkit.load_spec(document, catalog=known), out=tmp_path / "run", catalog=known)
