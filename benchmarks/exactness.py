"""One optimizer step, cut up in every way: batch x accumulation x ranks x workers x packing, each with the same loss and gradients.

    python benchmarks/exactness.py                       fp32, each cell beside one batch in fp64
    python benchmarks/exactness.py --precision bf16      bf16, each cell beside the uncut batch in bf16
    python benchmarks/exactness.py --apart-from uncut    fp32 beside the uncut batch: bit for bit where it prints 0

A cell is `llmkit train` itself, one step of plain SGD, whose momentum in the checkpoint is the gradient to the last bit. Beside
it stands a loop that knows nothing of llmkit's: the whole batch at once, its loss by its definition, in fp64 throughout.
What is told is the largest of the loss's relative difference and of every gradient's, in the Euclidean norm.

Rows: a dense model, a mixture of experts (balancing and z-loss, and the bias that loads move), multi-token prediction; each on whole
sequences, on documents that do not see each other, and on targets that are ignored and weighted so that no two sequences, micro-batches
or ranks count as many tokens, and some count none.
Workers: there are none. Tokens are memory-mapped, and which are in a step is computed; nothing reads ahead that could be another.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

import llmkit
from llmkit.core.catalog import Catalog, Entry, Origin
from llmkit.core.component import Component
from llmkit.core.interfaces.objective import IGNORED, Batch
from llmkit.core.kinds import Kind
from llmkit.core.spec import Spec
from llmkit.data.batches import Batches
from llmkit.data.prepare import prepare
from llmkit.plugins.objectives.causal import Causal
from llmkit.plugins.objectives.components import CausalParams, MultiTokenParams
from llmkit.plugins.objectives.multi_token import MultiToken
from llmkit.train.launch import free_port
from llmkit.train.loop import train
from llmkit.train.verification import children

FUTURE, WEIGHT = 2, 0.3
COEFFICIENTS = {"balance_loss": 0.01, "z_loss": 0.001, "bias_rate": 0.001}
MODELS: Mapping[str, dict[str, Any]] = {
    "dense": {},
    "moe": {"model": {"block": {"ffn": {"type": "moe", "n_experts": 4, "n_active": 2, "d_ff": 32, **COEFFICIENTS}}}},
    "multi-token": {"train": {"objective": {"type": "multi_token", "n_future": FUTURE, "weight": WEIGHT}}},
}
PACKINGS = ("whole", "documents", "uneven")
BATCHES = (8, 12)
TOLERANCES = {"fp32": 1e-6, "bf16": 2e-2}
"""What the order of a sum may change. fp32 has a rounding of 6e-8; bf16's is 4e-3, in activations as well as in gradients, and is held to
the uncut batch: beside fp64 it also chooses other experts."""


@dataclass(frozen=True)
class Cut:
    """How a batch is cut up: sequences that one rank computes at once, and ranks."""

    micro: int
    ranks: int = 1
    threads: int = 1


def cuts(batch: int) -> dict[str, Cut]:
    """The batch at once, in two parts, in micro-batches of 4 and one by one, on one rank and on two.

    Two ranks of a batch of 12 have 6 sequences each: micro-batches of 4 and of 2.
    """
    return {
        "uncut": Cut(batch),
        "halves": Cut(batch // 2),
        "fours": Cut(4),
        "ones": Cut(1),
        "2 ranks": Cut(batch // 2, ranks=2),
        "2 ranks, fours": Cut(4, ranks=2),
        "2 ranks, ones": Cut(1, ranks=2),
        "2 threads": Cut(batch, threads=2),
    }


@dataclass(frozen=True)
class Row:
    """A model, how its data is packed, and how many sequences a step has."""

    model: str
    packing: str
    batch: int


@dataclass(frozen=True)
class Step:
    """What one optimizer step computed: the mean loss, the gradient of every parameter, and what else it changed."""

    loss: float
    gradients: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]

    def apart(self, other: Step) -> float:
        """The largest relative difference: of the loss, of a gradient in the Euclidean norm; infinite where a buffer is another."""
        if self.gradients.keys() != other.gradients.keys() or any(
            not torch.equal(self.buffers[name], other.buffers[name]) for name in other.buffers
        ):
            return float("inf")
        pairs = [(self.gradients[name].double(), other.gradients[name].double()) for name in other.gradients]
        return max(abs(self.loss - other.loss) / abs(other.loss), *(float((one - two).norm() / two.norm()) for one, two in pairs))


def uneven(batch: Batch) -> Batch:
    """Some targets ignored, the others weighted: by what the sequence is, never by which others it is computed with.

    Sequence i counts (11 i mod T) targets, and every third one none; weights are thirds, so that their sums round.
    """
    assert batch.item_ids is not None
    length = batch.targets.shape[1]
    places = torch.arange(length)
    kept = places < (batch.item_ids * 11 % length * (batch.item_ids % 3 > 0))[:, None]
    weights = (1 + (places + batch.item_ids[:, None]) % 3).float() / 3
    return batch._replace(targets=batch.targets.where(kept, torch.tensor(IGNORED)), weights=weights)


class UnevenCausal(Causal):
    """Next-token prediction of targets that are made uneven, as post-training masks prompts."""

    def prepare(self, batch: Batch, services: Any) -> Batch:
        return uneven(batch)


class UnevenMultiToken(MultiToken):
    """The same with the tokens after the next one."""

    def prepare(self, batch: Batch, services: Any) -> Batch:
        return uneven(batch)


def catalog() -> Catalog:
    """What is installed, and the uneven objectives."""
    known = llmkit.catalog()
    own = [
        Component(Kind.objective, "uneven.causal", CausalParams, "exactness:UnevenCausal", UnevenCausal.__doc__ or ""),
        Component(Kind.objective, "uneven.multi_token", MultiTokenParams, "exactness:UnevenMultiToken", UnevenMultiToken.__doc__ or ""),
    ]
    added = {(one.kind, one.name): Entry(one, Origin("exactness", "1")) for one in own}
    return Catalog({**known.entries, **added}, known.failures, known.withdrawn)


def document(row: Row, place: Path, precision: str) -> dict[str, Any]:
    """The spec of a row, uncut."""
    text = place / "text.txt"
    text.parent.mkdir(parents=True, exist_ok=True)
    if not text.exists():
        text.write_text("\n\n".join(f"{number} has the square {number**2} and the cube {number**3}" for number in range(1, 200)))
    objective = {"type": "causal", **MODELS[row.model].get("train", {}).get("objective", {})}
    if row.packing == "uneven":
        objective["type"] = f"uneven.{objective['type']}"
    block = {"attention": {"type": "mha", "n_heads": 4}, "ffn": "swiglu", "norm": "rmsnorm", "layout": "pre"}
    block |= MODELS[row.model].get("model", {}).get("block", {})
    return {
        "name": "exactness",
        "tokenizer": "bytes",
        "model": {"d_model": 32, "n_layers": 2, "max_seq_len": 32, "position": "rope", "block": block, "tie_embeddings": True},
        "data": {
            "source": {"type": "text", "paths": [str(text)], "split": "paragraph"},
            "cache": str(place / "cache"),
            "mask_documents": row.packing != "whole",
        },
        "train": {
            "steps": 1,
            "batch_size": row.batch,
            "objective": objective,
            "optimizer": {"type": "sgd", "lr": 1e-3, "momentum": 0.9, "weight_decay": 0.0},
            "schedule": "constant",
            "grad_clip": None,
            "precision": precision,
        },
    }


def measured(cells: Sequence[tuple[Row, Cut]], place: Path, precision: str = "fp32") -> dict[tuple[Row, Cut], Step]:
    """Every cell, by `llmkit train`; all of as many ranks in the same processes, one after another."""
    specs = {}
    for number, (row, cut) in enumerate(cells):
        spec = document(row, place, precision)
        spec["train"]["micro_batch_size"] = cut.micro
        specs[row, cut] = (spec, place / f"{precision}-{number}", cut.threads, free_port())
    for ranks in sorted({cut.ranks for _, cut in cells}):
        children.run(_train, [specs[cell] for cell in cells if cell[1].ranks == ranks], ranks=ranks)
    return {cell: _step(specs[cell][1]) for cell in cells}


def _train(specs: Sequence[tuple[dict[str, Any], Path, int, int]]) -> None:
    known = catalog()
    for spec, out, threads, port in specs:
        torch.set_num_threads(threads)
        os.environ["MASTER_PORT"] = str(port)
        train(llmkit.load_spec(spec, catalog=known), out=out, catalog=known)


def _step(run: Path) -> Step:
    saved = run / "checkpoints" / "step-00000001"
    gradients = {name.removesuffix("/momentum_buffer"): value for name, value in load_file(saved / "optimizer.safetensors").items()}
    buffers = {name: value for name, value in load_file(saved / "model.safetensors").items() if name not in gradients}
    row = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    return Step(row["loss"], gradients, buffers)


def reference(row: Row, place: Path, dtype: torch.dtype = torch.float64) -> Step:
    """The step by a plain loop: the whole batch at once, the loss by its definition, everything in `dtype`."""
    known = catalog()
    spec = llmkit.load_spec(document(row, place, "fp32"), catalog=known)
    model = llmkit.build(spec).to(dtype)
    ahead = [torch.nn.Parameter(torch.zeros(32, 32, dtype=dtype)) for _ in range(FUTURE if row.model == "multi-token" else 0)]
    batch = _batch(spec, row)
    counts = (batch.targets != IGNORED) * (1 if batch.weights is None else batch.weights.to(dtype))
    # Norms and routers compute in fp32 whatever comes in: here that is fp64 too.
    with patch.object(torch.Tensor, "float", lambda self: self.to(dtype)):
        h, aux = model.features(batch)
        nats = _nats(model.head(h), batch.targets) * counts
        total = nats.sum() + sum((value * counts.sum(dim=1)).sum() for value in aux.losses.values())
        for offset, weight in enumerate(ahead, start=1):
            total = total + WEIGHT / FUTURE * _beyond(model, h + F.silu(h @ weight.T), batch, counts, offset)
        torch.autograd.backward(total / counts.sum())
    found = dict(model.named_parameters())
    found |= {f"objective.ahead.{index}.projection.weight": value for index, value in enumerate(ahead)}
    gradients = {name: value.grad for name, value in found.items() if value.grad is not None}
    return Step(float((nats.sum() / counts.sum()).detach()), gradients, dict(_biases(aux.stats)))


def _batch(spec: Spec, row: Row) -> Batch:
    masked = row.packing != "whole"
    batches = Batches(prepare(spec).train, seq_len=spec.seq_len, batch_size=row.batch, seed=spec.train.seed, mask_documents=masked)
    batch = batches.batch(batches.items(0))
    return uneven(batch) if row.packing == "uneven" else batch


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    """(B, T) nats of every target, 0 where it is ignored."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none").view_as(targets)


def _beyond(model: Any, h: Tensor, batch: Batch, counts: Tensor, offset: int) -> Tensor:
    """The sum over the tokens whose target lies `offset` further on, within the sequence and the document."""
    logits = model.head(h)
    total = torch.zeros((), dtype=h.dtype)
    rows, length = batch.targets.shape
    for row in range(rows):
        for place in range(length - offset):
            target = batch.targets[row, place + offset]
            same = batch.segments is None or batch.segments[row, place] == batch.segments[row, place + offset]
            if same and target != IGNORED:
                total = total - counts[row, place + offset] * logits[row, place].log_softmax(-1)[target]
    return total


def _biases(stats: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """The routers' biases after the step, which began at zero: down where an expert had more than its share."""
    for name, load in stats.items():
        moved = COEFFICIENTS["bias_rate"] * (load.sum() / len(load) - load).sign()
        yield name.replace(".load", ".router.balance_bias"), moved.float()


ROWS = [Row(model, packing, batch) for model in MODELS for packing in PACKINGS for batch in BATCHES]


def table(rows: Sequence[Row], apart_from: str, precision: str, place: Path) -> tuple[list[str], list[list[str]], float]:
    """The matrix as text, and the largest difference in it."""
    found = measured([(row, cut) for row in rows for cut in cuts(row.batch).values()], place, precision)
    heads = ["model", "packing", "batch", *cuts(BATCHES[0])]
    lines, worst = [], 0.0
    for row in rows:
        against = reference(row, place) if apart_from == "fp64" else found[row, cuts(row.batch)["uncut"]]
        differences = [found[row, cut].apart(against) for cut in cuts(row.batch).values()]
        worst = max(worst, *differences)
        lines.append([row.model, row.packing, str(row.batch), *("0" if one == 0 else f"{one:.1e}" for one in differences)])
    return heads, lines, worst


def main() -> int:
    """Print the table; 1 where a cell is beyond the tolerance."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--precision", choices=("fp32", "bf16", "bf16_autocast"), default="fp32")
    options.add_argument(
        "--apart-from", choices=("fp64", "uncut"), help="one batch in fp64, or the uncut batch; fp64 for fp32 unless given"
    )
    given = options.parse_args()
    apart_from = given.apart_from or ("fp64" if given.precision == "fp32" else "uncut")
    with TemporaryDirectory() as place:
        heads, lines, worst = table(ROWS, apart_from, given.precision, Path(place))
    print(f"{given.precision}, apart from {'one batch in fp64' if apart_from == 'fp64' else 'the uncut batch'};", end=" ")
    print("columns: how the batch is cut up into micro-batches, on one rank unless said; workers 0\n")
    for line in (heads, ["---"] * len(heads), *lines):
        print("| " + " | ".join(line) + " |")
    tolerance = TOLERANCES.get(given.precision, TOLERANCES["bf16"])
    print(f"\nlargest: {worst:.1e}, tolerance {tolerance:.0e}")
    return int(worst > tolerance)


if __name__ == "__main__":
    # Components name their class by module, which a script's own is not.
    sys.modules["exactness"] = sys.modules["__main__"]
    sys.exit(main())
