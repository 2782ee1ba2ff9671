"""Everything that is asked of transformers and huggingface_hub, which are imported here and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
def reference(directory: Path) -> Iterator[nn.Module]:
    """transformers' own model of a directory, in fp32 and with attention written out, its notes about loading kept quiet."""
    hub = transformers()
    with quiet(hub):
        model = hub.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    yield model.eval()


def transformers() -> Any:
    """The library; `UserError` with what to install where it is missing."""
    try:
        import transformers
    except ImportError:
        raise UserError("Hugging Face models need transformers; pip install 'llmkit[hf]'") from None
    return transformers


@contextmanager
def quiet(hub: Any) -> Iterator[None]:
    level, bars = hub.utils.logging.get_verbosity(), hub.utils.logging.is_progress_bar_enabled()
    hub.utils.logging.set_verbosity(logging.ERROR)
    hub.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        hub.utils.logging.set_verbosity(level)
        if bars:
            hub.utils.logging.enable_progress_bar()
