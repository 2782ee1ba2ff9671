"""Everything that is asked of transformers and huggingface_hub, which are imported here and nowhere else."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from llmkit.core.errors import UserError
from llmkit.interop.wording import Config

SHARD_SIZE = "5GB"


def filled(config: Config) -> Config:
    """A configuration with its family's defaults, old spellings made new. `UserError` where transformers refuses it."""
    hub = transformers()
    from huggingface_hub.errors import StrictDataclassError

    try:
        return dict(hub.AutoConfig.for_model(**config).to_dict())
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, StrictDataclassError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"config.json is refused by transformers {hub.__version__}: {reason}") from error


def write_config(directory: Path, config: Config) -> None:
    """`config.json`, with the family's defaults."""
    transformers().AutoConfig.for_model(**config).save_pretrained(directory)


def write_tensors(directory: Path, tensors: Mapping[str, Tensor], shard_size: str = SHARD_SIZE) -> None:
    """`model.safetensors`, or shards with their index."""
    transformers()
    from huggingface_hub import save_torch_state_dict

    save_torch_state_dict(dict(tensors), directory, max_shard_size=shard_size, metadata={"format": "pt"})


@contextmanager
def reference(place: Path, told: Config | None = None) -> Iterator[nn.Module]:
    """transformers' own model of a directory or a GGUF file, in fp32, attention written out, its notes about loading kept quiet.

    told  settings that it does not read from the file
    """
    hub = transformers()
    with quiet(hub):
        where = _where(place)
        if not place.is_dir():
            where |= {"config": _told(hub.AutoConfig.from_pretrained(**where), told or {})}
            where |= {"quantization_config": hub.GgufConfig(dequantize=True)}
        model = hub.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, attn_implementation="eager")
    yield model.eval()


def read_config(file: Path) -> Config:
    """The configuration that transformers makes of a GGUF file."""
    hub = transformers()
    with quiet(hub):
        return dict(hub.AutoConfig.from_pretrained(**_where(file)).to_dict())


def _where(place: Path) -> dict[str, Any]:
    if place.is_dir():
        return {"pretrained_model_name_or_path": place}
    return {"pretrained_model_name_or_path": place.parent, "gguf_file": place.name}


def _told(config: Any, settings: Config) -> Any:
    for key, value in settings.items():
        setattr(config, key, value)
    return config


def transformers() -> Any:
    """The library; `UserError` with what to install where it is missing."""
    try:
        import transformers
    except ImportError:
        raise UserError("Hugging Face models need transformers; pip install 'llmkit[hf]'") from None
    return transformers


@contextmanager
def quiet(hub: Any) -> Iterator[None]:
    """Without the library's notes and bars, those of its GGUF reader too, which no setting turns off."""
    level, bars = hub.utils.logging.get_verbosity(), hub.utils.logging.is_progress_bar_enabled()
    hub.utils.logging.set_verbosity(logging.ERROR)
    hub.utils.logging.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        hub.utils.logging.set_verbosity(level)
        if bars:
            hub.utils.logging.enable_progress_bar()
