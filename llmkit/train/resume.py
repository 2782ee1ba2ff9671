"""Where a run goes on: which checkpoint, and whether the spec still describes the same experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmkit.core.catalog import Catalog
from llmkit.core.errors import UserError
from llmkit.core.filled import differences
from llmkit.core.spec import Spec
from llmkit.data.prepare import Prepared
from llmkit.train import checkpoint as checkpoints
from llmkit.train.checkpoint import Checkpoint
from llmkit.train.run import RunDirectory, named_checkpoint

MAY_CHANGE = (
    "name", "requires", "eval", "parallel", "data.cache", "train.steps", "train.tokens", "train.micro_batch_size",
    "train.checkpoint_every", "train.keep_checkpoints", "train.keep_every", "train.keep_best", "train.eval_every",
    "train.eval_sequences", "train.sample_every", "train.sample_prompts", "train.sample_tokens", "train.trackers", "train.compile",
    "train.recompute", "train.offload_optimizer", "train.spikes",
)  # fmt: skip
"""What only makes a run longer or more talkative."""

Changes = Sequence[tuple[str, Any, Any]]


@dataclass(frozen=True)
class Start:
    """Where training begins: a checkpoint, or nothing; or the result of a run that is finished.

    precision  what `auto` became where the run began: it goes on in that, on whatever machine
    changes    (address, value in the run, value now) of what may be another when a run goes on
    """

    checkpoint: Checkpoint | None = None
    finished: dict[str, Any] | None = None
    precision: str | None = None
    changes: Changes = ()


def start(spec: Spec, directory: RunDirectory, resume: str, warn: Callable[[str], None], catalog: Catalog | None = None) -> Start:
    """Where to begin, by `--resume auto|never|PATH`. `UserError` where that would overwrite or mix experiments."""
    if resume == "never":
        if directory.occupied():
            raise UserError(
                f"--resume never, but {str(directory.root)!r} is not empty; choose another --out, or leave --resume out to go on"
            )
        return Start()
    if resume != "auto":
        return _from_checkpoint(spec, directory, named_checkpoint(Path(resume)), warn, catalog)
    if not directory.exists():
        if directory.occupied():
            raise UserError(f"{str(directory.root)!r} is not empty and holds no run; choose another directory with --out")
        return Start()
    recorded, changes = _same_experiment(spec, directory, catalog)
    result = directory.recorded_result()
    if result is not None and result["step"] >= spec.steps:
        return Start(finished=result)
    if recorded.steps != spec.steps:
        warn(f"the run goes on to step {spec.steps} instead of {recorded.steps}; its schedule now ends there")
    found = checkpoints.latest(directory.checkpoints, warn)
    if found is None and checkpoints.listed(directory.checkpoints):
        raise UserError(f"no checkpoint of the run {str(directory.root)!r} is whole; start anew in another directory with --out")
    return _going_on(spec, found, recorded, changes)


def _going_on(spec: Spec, found: Checkpoint | None, recorded: Spec, changes: Changes) -> Start:
    if found is not None and found.step > spec.steps:
        raise UserError(
            f"the run stands at step {found.step} already, and the spec ends at step {spec.steps}; "
            f"give train.steps of at least {found.step}, or begin anew in another directory with --out"
        )
    return Start(found, precision=recorded.train.precision, changes=changes)


def check_data(found: Checkpoint, prepared: Prepared) -> None:
    """The text and the tokenizer are those that the run began with. `UserError` where not: a spec names files, not what is in them."""
    origin = _run_of(found)
    recorded = origin.load_manifest().get("fingerprints", {})
    changed = [name for name, now in prepared.contents().items() if recorded.get(name, now) != now]
    if changed:
        raise UserError(
            f"{' and '.join(changed)} are no longer those of the run in {str(origin.root)!r}: what data.source reads, or the code that "
            "reads it, has changed; bring it back, or choose another directory with --out"
        )


def _from_checkpoint(spec: Spec, directory: RunDirectory, found: Checkpoint, warn: Callable[[str], None], catalog: Catalog | None) -> Start:
    origin = _run_of(found)
    recorded, changes = _same_experiment(spec, origin, catalog)
    if origin.root.resolve() == directory.root.resolve():
        warn(f"going back to step {found.step}: what the run recorded after it is forgotten")
    elif directory.occupied():
        raise UserError(
            f"--resume takes a checkpoint of {str(origin.root)!r}, and {str(directory.root)!r} is not empty; choose another --out"
        )
    return _going_on(spec, found, recorded, changes)


def _run_of(found: Checkpoint) -> RunDirectory:
    return RunDirectory(found.directory.parent.parent)


def _same_experiment(spec: Spec, directory: RunDirectory, catalog: Catalog | None) -> tuple[Spec, Changes]:
    """The spec that the run recorded, and what of it is another now and may be."""
    recorded = directory.load_spec(catalog)
    changes = differences(recorded, spec)
    refused = [change for change in changes if not _may_change(*change)]
    if refused:
        listing = "\n".join(f"  {address}: {was!r} in the run, {now!r} in the spec" for address, was, now in refused)
        raise UserError(
            f"the spec is another experiment than the run in {str(directory.root)!r}:\n{listing}\n"
            "go back to the run's values, or choose another directory with --out"
        )
    return recorded, changes


def _may_change(address: str, was: Any, now: Any) -> bool:
    # `auto` was stored as what it became on the machine that began.
    if address == "train.precision":
        return bool(now == "auto")
    return any(address == allowed or address.startswith(f"{allowed}.") for allowed in MAY_CHANGE)
