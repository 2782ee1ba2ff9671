"""GGUF files, llama.cpp's form, read through transformers, which gives their numbers back unquantised."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from llmkit.core.errors import UserError
from llmkit.interop.huggingface import quiet, transformers


@contextmanager
def unpacked(source: Path) -> Iterator[Path]:
    """The source itself where it is a directory; a GGUF file as a temporary directory with weights in fp32 and a tokenizer."""
    if source.is_dir():
        yield source
        return
    if not source.is_file():
        raise UserError(f"{str(source)!r} does not exist; give a Hugging Face directory or a GGUF file")
    if source.suffix != ".gguf":
        raise UserError(f"{str(source)!r} is neither a directory nor a .gguf file; give the directory that holds config.json")
    with TemporaryDirectory(prefix="llmkit-gguf-") as name:
        try:
            _unpack(source, Path(name))
        except (OSError, ValueError, RuntimeError, KeyError, NotImplementedError) as error:
            raise UserError(f"cannot read {str(source)!r}: {' '.join(str(error).split())}") from error
        yield Path(name)


def _unpack(source: Path, target: Path) -> None:
    hub = transformers()
    try:
        importlib.import_module("gguf")
    except ImportError:
        raise UserError(f"{str(source)!r} needs the package that reads GGUF; pip install gguf") from None
    where = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    with quiet(hub):
        read = hub.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=hub.GgufConfig(dequantize=True))
        # A model that was read from GGUF refuses to be saved, so its values go into one that was not.
        config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
        plain = type(read)(type(read.config).from_dict(config))
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(target)
        hub.AutoTokenizer.from_pretrained(**where).save_pretrained(target)
