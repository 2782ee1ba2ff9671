"""GGUF files, llama.cpp's form, read through transformers, which gives their numbers back unquantised."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from llmkit.core.errors import UserError
from llmkit.interop.huggingface import quiet, transformers


def package() -> Any:
    """The package; `UserError` with what to install where it is missing."""
    try:
        import gguf
    except ImportError:
        raise UserError("GGUF files need the package that reads and writes them; pip install gguf") from None
    return gguf


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
    hub, reader = transformers(), package().GGUFReader(source)
    where = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    with quiet(hub):
        _refuse_unread(reader, hub.AutoConfig.from_pretrained(**where), source)
        read = hub.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, quantization_config=hub.GgufConfig(dequantize=True))
        # A model that was read from GGUF refuses to be saved, so its values go into one that was not.
        config = {name: value for name, value in read.config.to_dict().items() if name != "quantization_config"}
        plain = type(read)(type(read.config).from_dict(config))
        plain.load_state_dict(read.state_dict())
        plain.save_pretrained(target)
        hub.AutoTokenizer.from_pretrained(**where).save_pretrained(target)


def _refuse_unread(reader: Any, config: Any, source: Path) -> None:
    """`UserError` where the file says of the model what transformers does not read: it would come in as another one, without a word."""
    fields = {name.partition(".")[2]: field.contents() for name, field in reader.fields.items() if name.count(".") > 1}
    scaling = "llama3" if any(tensor.name == "rope_freqs.weight" for tensor in reader.tensors) else fields.get("rope.scaling.type", "none")
    if scaling != "none" and getattr(config, "rope_parameters", {}).get("rope_type", "default") == "default":
        raise UserError(f"{str(source)!r} scales its rotary positions ({scaling}), which transformers does not read from such a file")
    width, read = fields.get("attention.key_length"), getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    if width not in (None, read):
        raise UserError(f"{str(source)!r} has heads of width {width}, and transformers reads {read} from such a file")
