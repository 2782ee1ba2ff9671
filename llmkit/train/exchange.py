"""Runs from Hugging Face directories and GGUF files, and Hugging Face directories from runs; each proved before it has its name."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from llmkit.core.component import Chosen
from llmkit.core.errors import UserError
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.spec import Spec
from llmkit.interop.family import family_of_spec, named_family
from llmkit.interop.files import TensorFiles, read_object, write_object
from llmkit.interop.gguf import PRECISIONS, architecture_of_spec, read_vocabulary, unpacked, write_gguf
from llmkit.interop.pretrained import GENERATION, Imported, load_pretrained, save_pretrained
from llmkit.interop.proof import Proof, prove
from llmkit.interop.tokens import copy_tokenizer, tokenizer_slot
from llmkit.model.build import build
from llmkit.runtime import catalog
from llmkit.train import checkpoint as checkpoints
from llmkit.train.checkpoint import Checkpoint
from llmkit.train.record import manifest_of
from llmkit.train.run import IMPORTED, Run, RunDirectory, load_run

GGUF = "model.gguf"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def import_run(source: str | Path, out: str | Path, *, tokenizer: str | Path | None = None) -> Proof:
    """Make a run of a Hugging Face directory or a GGUF file: step 0, with each weight in the dtype that it had.

    tokenizer  its file or directory, where it does not lie beside the weights; without any, the run has none

    The run is read back and compared with transformers' model first. `UserError` where anything is missing, unknown or not equal; then
    nothing is at `out`.
    """
    with unpacked(Path(source)) as directory, _draft(Path(out)) as (draft, place):
        slot = tokenizer_slot(directory if tokenizer is None else Path(tokenizer))
        if tokenizer is not None and slot is None:
            raise UserError(f"--tokenizer {str(tokenizer)!r} holds no tokenizer; name its file or directory")
        imported = load_pretrained(directory, slot)
        saved = _write_run(imported, draft, place, slot)
        reloaded = build(imported.model.spec)
        del imported
        saved.load_model(reloaded)
        proof = prove(reloaded.eval(), directory)
        proof.write(draft)
    return proof


def export_run(
    run: str | Path, directory: str | Path, *, family: str | None = None, dtype: str | None = None, shard_size: str | None = None
) -> Proof:
    """Write a run's model as transformers reads it: configuration, weights, tokenizer, `generation_config.json`, `proof.json`.

    family      by its `model_type`; the one that the run was imported from, or the plainest that can express the spec, unless given
    dtype       fp32, bf16 or fp16; what the checkpoint has unless given, which is exact
    shard_size  of the largest file, such as "2GB"; 5 GB unless given

    transformers reads the files back first. `UserError` where no family can express the spec, or where the models do not say the same;
    then nothing is at `directory`.
    """
    if dtype is not None and dtype not in DTYPES:
        raise UserError(f"--dtype {dtype!r} must be one of {', '.join(DTYPES)}")
    if shard_size is not None and not re.fullmatch(r"\d+(\.\d+)? ?[KMGT]B", shard_size, re.IGNORECASE):
        raise UserError(f"--shard-size {shard_size!r} is no size; write a number and KB, MB, GB or TB, such as 2GB")
    loaded = load_run(run)
    chosen = family_of_spec(loaded.spec, _origin(loaded)) if family is None else named_family(loaded.spec, family)
    dtypes = _saved_dtypes(loaded) if dtype is None else _cast(loaded, DTYPES[dtype])
    with _draft(Path(directory)) as (draft, _):
        save_pretrained(loaded.model, draft, dtypes=dtypes, generation=_generation(loaded), shard_size=shard_size, family=chosen)
        if (loaded.directory / "tokenizer").is_dir():
            copy_tokenizer(loaded.directory / "tokenizer", draft)
        proof = prove(loaded.model, draft)
        proof.write(draft)
    return proof


def export_gguf(
    run: str | Path, directory: str | Path, *, family: str | None = None, dtype: str | None = None, tokenizer: bool = True
) -> Proof:
    """Write a run's model as llama.cpp reads it: `model.gguf`, and `proof.json` beside it.

    family     an architecture of llama.cpp's; the plainest that can express the spec unless given
    dtype      fp32, fp16, bf16 or q8_0; what the checkpoint has unless given, which is exact
    tokenizer  whether the run's tokenizer goes into the file; without it, the file takes and gives ids alone

    transformers reads the file back first. `UserError` where llama.cpp's format cannot express the spec or the tokenizer, or where the
    models do not say the same; then nothing is at `directory`.
    """
    if dtype is not None and dtype not in PRECISIONS:
        raise UserError(f"--dtype {dtype!r} must be one of {', '.join(PRECISIONS)}")
    loaded = load_run(run)
    architecture = architecture_of_spec(loaded.spec, family)
    place = loaded.directory / "tokenizer"
    with _draft(Path(directory)) as (draft, _):
        vocabulary = None
        if tokenizer and place.is_dir():
            vocabulary = read_vocabulary(place, loaded.spec.vocab_size, _generation(loaded), begins=_origin(loaded) is None)
        write_gguf(loaded.model, draft / GGUF, architecture, vocabulary=vocabulary, dtypes=_saved_dtypes(loaded), precision=dtype)
        proof = prove(loaded.model, draft / GGUF, told=architecture.told(loaded.spec, draft / GGUF))
        proof.write(draft)
    return proof


def _write_run(imported: Imported, draft: Path, place: Path, slot: Mapping[str, Any] | None) -> Checkpoint:
    """The run in its draft; its spec names the tokenizer where it will lie."""
    directory, spec = RunDirectory(draft), _named(imported.model.spec, place.name)
    if slot is not None:
        tokenizer: type[Tokenizer] = spec.tokenizer.component.resolve()
        directory.tokenizer.mkdir()
        tokenizer.train(spec.tokenizer.params, ()).save(directory.tokenizer)
        copy_tokenizer(Path(slot["path"]), directory.tokenizer)
        write_object(directory.tokenizer / GENERATION, imported.generation)
        spec = _relocated(spec, place.resolve() / "tokenizer")
    directory.begin(spec, manifest_of(spec, catalog()) | {IMPORTED: imported.family.model_type}, None)
    write_object(draft / GENERATION, imported.generation)
    for name, tensor in imported.model.state_dict(keep_vars=True).items():
        tensor.data = tensor.data.to(imported.dtypes.get(name, tensor.dtype))
    return checkpoints.write(directory.checkpoints, 0, imported.model, trainer={"tokens": 0, "seed": spec.train.seed})


def _named(spec: Spec, name: str) -> Spec:
    return spec.model_copy(update={"name": name})


def _relocated(spec: Spec, path: Path) -> Spec:
    chosen = spec.tokenizer
    params = chosen.params.model_copy(update={"path": str(path)})
    return spec.model_copy(update={"tokenizer": Chosen(chosen.component, params)})


def _origin(run: Run) -> str | None:
    """The family that the run was imported from."""
    return RunDirectory(run.directory).load_manifest().get(IMPORTED)


def _saved_dtypes(run: Run) -> dict[str, torch.dtype]:
    checkpoint = RunDirectory(run.directory).checkpoints / f"step-{run.step:08d}"
    with TensorFiles(checkpoint) as files:
        return files.dtypes()


def _cast(run: Run, dtype: torch.dtype) -> dict[str, torch.dtype]:
    """Round every weight of the run, so that what is proved is what is written."""
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.copy_(parameter.to(dtype))
    return {name: dtype for name, _ in run.model.named_parameters()}


def _generation(run: Run) -> dict[str, Any]:
    """What was imported; else the tokens of the run's tokenizer, where it has one."""
    recorded = run.directory / GENERATION
    if recorded.is_file():
        return read_object(recorded)
    if not (run.directory / "tokenizer").is_dir():
        return {}
    tokenizer = run.tokenizer
    ends = sorted(tokenizer.stop_ids)
    return {
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": ends[0] if len(ends) == 1 else ends,
        "pad_token_id": tokenizer.pad_id,
    }


@contextmanager
def _draft(place: Path) -> Iterator[tuple[Path, Path]]:
    """A directory beside the one that is meant, which gets its name where all went well, and is gone where not."""
    place = place.resolve()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"{str(place)!r} is there already and not empty; name a new directory, or empty that one first")
    draft = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True)
        yield draft, place
        if place.is_dir():
            place.rmdir()
        draft.rename(place)
    except OSError as error:
        raise UserError(f"cannot write {str(place)!r}: {error}; name another directory, or free some space") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
