"""Runs side by side: how their specs differ, what they cost, and how they learnt. Imports nothing heavy: all of it lies in their files."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from llmkit.core.errors import UserError
from llmkit.core.filled import differences
from llmkit.core.manifest import revisions
from llmkit.core.spec import Spec
from llmkit.runtime import catalog, load_spec

VALIDATION = ("val_loss", "val_bits_per_byte")
LOSSES = ("train_loss", *VALIDATION)

TRAINING_POINTS = 200
"""Points of a training curve: each is the mean over as many steps as it takes."""


class _Written(BaseModel):
    """What a run's files hold, as far as it is read here; they may hold more. A number is one as JSON has it: no text, no infinity."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Flops(_Written):
    forward: float
    training: float


class _Cost(_Written):
    parameters: dict[str, int] | None = None
    flops_per_token: _Flops | None = None


class _Component(_Written):
    kind: str
    name: str
    revision: int
    distribution: str
    version: str


class _Manifest(_Written):
    cost: _Cost = _Cost()
    fingerprints: dict[str, str] = {}
    components: list[_Component] = []


class _Row(_Written):
    step: int
    tokens: int
    seconds: float | None = None
    loss: float | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    val_bits_per_byte: float | None = None


class Point(NamedTuple):
    """A loss, in nats or bits, after so many tokens."""

    tokens: int
    value: float


@dataclass(frozen=True)
class Told:
    """What a run's own files say.

    step, steps        done and asked for
    parameters         total, embedding, non_embedding; None of a run that recorded no cost
    flops_per_token    forward, training; None likewise
    training_flops     of all tokens so far
    seconds            spent in steps, evaluations and checkpoints not counted
    final, best        a validation metric's last and lowest value; the best with the tokens at which it was reached
    curves             train_loss, val_loss and val_bits_per_byte against tokens; on the way, validation is over train.eval_sequences
    """

    run: str
    name: str
    finished: bool
    step: int
    steps: int
    tokens: int
    parameters: dict[str, int] | None
    flops_per_token: dict[str, float] | None
    training_flops: float | None
    seconds: float | None
    tokens_per_second: float | None
    final: dict[str, float | None]
    best: dict[str, Point | None]
    curves: dict[str, list[Point]]
    spec: Spec = field(repr=False)
    fingerprints: dict[str, str] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """As `--json` prints it."""
        nested = ("spec", "fingerprints", "final", "best", "curves")
        plain = {key: value for key, value in vars(self).items() if key not in nested}
        best = {name: None if point is None else point._asdict() for name, point in self.best.items()}
        curves = {name: [list(point) for point in curve] for name, curve in self.curves.items()}
        return {**plain, **self.final, "best": best, "curves": curves}


class Difference(NamedTuple):
    """An address of the spec and its value in every run, None where a run lacks it."""

    address: str
    values: list[Any]


@dataclass(frozen=True)
class Comparison:
    """Runs beside each other. `metric` is what may be compared between them: losses a token only where the tokens are the same."""

    runs: list[Told]
    differences: list[Difference]
    metric: str
    warnings: list[str]

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "runs": [run.row() for run in self.runs],
            "differences": [one._asdict() for one in self.differences],
            "metric": self.metric,
            "warnings": self.warnings,
        }


def compare(paths: Sequence[str]) -> Comparison:
    """Read the runs and lay them side by side. `UserError` for fewer than two, one named twice, or a directory without a run."""
    if len(paths) < 2:
        raise UserError(f"compare needs two runs or more, got {len(paths)}; name the directories of both, such as runs/a runs/b")
    places = [Path(path).resolve() for path in paths]
    twice = next((path for path, place in zip(paths, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise UserError(f"run {twice!r} is named twice; compare it with another")
    runs = [read_run(path) for path in paths]
    found = spec_differences([run.spec for run in runs])
    same_tokens = len({_tokens_by(run) for run in runs}) == 1
    return Comparison(runs, found, "val_loss" if same_tokens else "val_bits_per_byte", _warnings(runs, found, same_tokens))


def read_run(path: str) -> Told:
    """What a run's files say. `UserError` where there is no run, or a file of it is damaged."""
    root = Path(path)
    if not (root / "spec.yaml").is_file():
        raise UserError(f"no run in {path!r}: it has no spec.yaml; train one with `llmkit train --out {path}`")
    manifest, result = _json(root / "manifest.json", _Manifest), _json(root / "result.json", _Row)
    known = catalog()
    spec = load_spec(root / "spec.yaml", catalog=known, recorded=revisions(manifest, known))
    rows = _rows(root / "metrics.jsonl")
    last = result or (rows[-1] if rows else {})
    tokens, cost = int(last.get("tokens") or 0), manifest.get("cost", {})
    flops = cost.get("flops_per_token")
    timed = [row for row in rows if row.get("seconds")]
    seconds = sum(row["seconds"] for row in timed) if timed else None
    curves = {
        "train_loss": _thinned(_curve(rows, "loss")),
        **{name: _curve(_with_result(rows, result), name) for name in VALIDATION},
    }
    return Told(
        run=path,
        name=spec.name,
        finished=bool(result),
        step=int(last.get("step") or 0),
        steps=spec.steps,
        tokens=tokens,
        parameters=cost.get("parameters"),
        flops_per_token=flops,
        training_flops=flops["training"] * tokens if flops else None,
        seconds=seconds,
        tokens_per_second=len(timed) * spec.train.batch_size * spec.seq_len / seconds if seconds else None,
        final={name: _last(curves[name]) for name in LOSSES} | {name: result[name] for name in LOSSES if name in result},
        best={name: min(curves[name], key=lambda point: point.value, default=None) for name in VALIDATION},
        curves=curves,
        spec=spec,
        fingerprints=manifest.get("fingerprints", {}),
    )


def spec_differences(specs: Sequence[Spec]) -> list[Difference]:
    """Every address at which not all specs say the same, in the order of the first."""
    first, *others = specs
    against = [{address: (one, other) for address, one, other in differences(first, spec)} for spec in others]
    addresses = dict.fromkeys(address for found in against for address in found)
    told = []
    for address in addresses:
        (ours,) = {_frozen(found[address][0]): found[address][0] for found in against if address in found}.values()
        told.append(Difference(address, [ours, *(found[address][1] if address in found else ours for found in against)]))
    return told


def _frozen(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _tokens_by(run: Told) -> str:
    """What decides which tokens a validation loss is the mean of: the tokenizer, by its fingerprint where the run recorded one."""
    return run.fingerprints.get("tokenizer") or _frozen(run.spec.model_dump(mode="json")["tokenizer"])


HELD_OUT = ("data.source", "data.extractor", "data.filters", "data.deduplicators", "data.validation", "data.holdout")
"""What decides which text is held out, and how it is cleaned."""


def _warnings(runs: Sequence[Told], found: Sequence[Difference], same_tokens: bool) -> list[str]:
    told = []
    if not same_tokens:
        told.append("the runs have different tokenizers, so that losses a token cannot be compared: compare bits per byte")
    texts = {run.fingerprints.get("validation_tokens") for run in runs}
    sources = [one.address for one in found if one.address.startswith(HELD_OUT)]
    if (same_tokens and None not in texts and len(texts) > 1) or (not same_tokens and sources):
        what = f" ({', '.join(sources)})" if sources else ""
        told.append(f"the runs were validated on different text{what}: a difference between them may be one between the texts")
    for run in runs:
        if not run.finished:
            told.append(f"{run.run} is not finished: {run.step:,} of {run.steps:,} steps; its learning rate has not come down yet")
    if len({run.tokens for run in runs if run.finished}) > 1:
        told.append("the finished runs have read different numbers of tokens")
    return told


def _json(path: Path, form: type[_Written]) -> dict[str, Any]:
    """A JSON file of the run; empty where it has none."""
    try:
        return _object(path.read_text(encoding="utf-8"), form) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {str(path)!r}: {error}") from error


def _object(text: str, form: type[_Written]) -> dict[str, Any]:
    """A JSON object of this form; `ValueError` where it is anything else."""
    found, keys = json.loads(text), [key for key, field in form.model_fields.items() if field.is_required()]
    if not isinstance(found, dict) or any(key not in found for key in keys):
        raise ValueError(f"{text.strip()[:40]!r} is no object{' with ' + ', '.join(keys) if keys else ''}")
    try:
        form.model_validate(found)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        wanted = "input should be an object" if first["type"] == "model_type" else first["msg"].lower()
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {wanted}, got {first['input']!r}") from error
    return found


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file; a last line that is being written is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        return [_object(line, _Row) for line in lines if line.endswith("\n")]
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {str(path)!r}: {error}") from error


def _with_result(rows: list[dict[str, Any]], result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows of evaluation, the last one among them where the file does not have it."""
    told = [row for row in rows if "val_loss" in row]
    missing = bool(result) and (not told or told[-1]["tokens"] != result["tokens"])
    return [*told, result] if missing else told


def _curve(rows: Sequence[dict[str, Any]], name: str) -> list[Point]:
    return [Point(row["tokens"], row[name]) for row in rows if row.get(name) is not None and math.isfinite(row[name])]


def _thinned(curve: list[Point]) -> list[Point]:
    """As many points as a plot can show, each the mean over neighbouring steps, told at the last of them."""
    if len(curve) <= TRAINING_POINTS:
        return curve
    edges = [round(index * len(curve) / TRAINING_POINTS) for index in range(TRAINING_POINTS + 1)]
    groups = [curve[start:end] for start, end in pairwise(edges)]
    return [Point(group[-1].tokens, math.fsum(point.value for point in group) / len(group)) for group in groups]


def _last(curve: list[Point]) -> float | None:
    return curve[-1].value if curve else None
