"""A model as a GGUF file. The package `gguf` names the tensors, quantises them and writes the bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from llmkit.interop.anatomy import anatomy
from llmkit.interop.gguf.architectures import Architecture
from llmkit.interop.gguf.reading import package
from llmkit.interop.gguf.vocabulary import Vocabulary
from llmkit.interop.pretrained import saved
from llmkit.interop.weights import SAME, Link, Operation, links
from llmkit.model.decoder import Decoder
from llmkit.plugins.positions.components import Llama3Scaling, NoScaling, RopeParams
from llmkit.plugins.positions.rope import frequencies

PRECISIONS = {"fp32": "F32", "fp16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""What weights can be written in -> the format's name of it. `q8_0` is a byte a weight, and a scale for each 32 of a row."""

DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
BLOCK = 32
"""Weights of a row that share a scale in Q8_0."""


def write_gguf(
    model: Decoder,
    file: Path,
    architecture: Architecture,
    *,
    vocabulary: Vocabulary | None = None,
    dtypes: Mapping[str, torch.dtype] | None = None,
    precision: str | None = None,
) -> None:
    """Write a model (fp32, on the CPU), and round its weights to what was written, so that what is proved is what lies in the file.

    vocabulary  without any, the file takes and gives ids alone
    dtypes      what to save each parameter in; as it is unless given
    precision   one of `PRECISIONS`, for all of them

    Vectors, and the table of GPT-2's positions, are fp32 in any case, as llama.cpp reads them; rows that cannot be cut into 32 are fp16
    where `q8_0` is asked for.
    """
    gguf = package()
    writer = gguf.GGUFWriter(file, architecture.name, use_temp_file=True)
    _describe(writer, model, architecture)
    _add_vocabulary(writer, vocabulary)
    kinds = _Tensors(writer, model, architecture).add(dtypes or {}, precision)
    main = kinds["token_embd.weight"]
    writer.add_file_type(int(gguf.LlamaFileType["ALL_F32" if main == "F32" else f"MOSTLY_{main}"]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _Tensors:
    """The weights of a model on their way into a file."""

    def __init__(self, writer: Any, model: Decoder, architecture: Architecture) -> None:
        self.gguf, self.writer, self.model, self.architecture = package(), writer, model, architecture
        self.own = saved(model)
        number = next(number for number, name in self.gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
        self.names = self.gguf.get_tensor_name_map(number, len(model.blocks))

    def add(self, dtypes: Mapping[str, torch.dtype], precision: str | None) -> dict[str, str]:
        """Add every tensor, and put back into the model what was written of it; the kind of each, by its name in the file."""
        shapes = {name: tuple(tensor.shape) for name, tensor in self.own.items()}
        kinds: dict[str, str] = {}
        for link in links(self.architecture.family.rules, anatomy(self.model.spec), shapes):
            wanted = DTYPES[dtypes.get(link.ours[0], torch.float32)] if precision is None else PRECISIONS[precision]
            self._add_link(link, wanted, kinds)
        self._add_factors()
        return kinds

    def _add_link(self, link: Link, wanted: str, kinds: dict[str, str]) -> None:
        own = [self.own[name] for name in link.ours]
        written: list[Tensor] = []
        for name, tensor in zip(link.theirs, link.outward([values.detach().float() for values in own]), strict=True):
            place = self._name(name)
            operation = self._operation(place)
            (outward,) = operation.outward([tensor], link.layer)
            kinds[place] = _kind(place, outward, wanted)
            decoded = self._add(place, outward.contiguous(), kinds[place])
            written += operation.inward([decoded], [tensor.shape], link.layer)
        with torch.no_grad():
            for values, rounded in zip(own, link.inward(written, [values.shape for values in own]), strict=True):
                values.copy_(rounded)

    def _add(self, name: str, values: Tensor, kind: str) -> Tensor:
        """Add one tensor; its values as a reader finds them."""
        number = self.gguf.GGMLQuantizationType[kind]
        encoded = self.gguf.quantize(values.numpy(), number)
        self.writer.add_tensor(name, encoded, raw_dtype=number)
        return torch.from_numpy(np.array(self.gguf.dequantize(encoded, number))).reshape(values.shape)

    def _add_factors(self) -> None:
        """What Llama 3.1's scaling divides each frequency by: a tensor here, and no metadata."""
        position = self.model.spec.model.position.params
        if not isinstance(position, RopeParams) or not isinstance(position.scaling, Llama3Scaling):
            return
        width, start = anatomy(self.model.spec).first.rotary_width, torch.zeros(1, 1, dtype=torch.int64)
        plain = position.model_copy(update={"scaling": NoScaling()})
        self._add("rope_freqs.weight", frequencies(plain, width, start) / frequencies(position, width, start), "F32")

    def _name(self, name: str) -> str:
        """The file's name of a tensor of the family's."""
        stem, _, part = name.rpartition(".")
        return f"{self.names.get_name(stem)}.{part}"

    def _operation(self, name: str) -> Operation:
        return next((one for pattern, one in self.architecture.operations.items() if re.search(pattern, name)), SAME)


def _kind(name: str, values: Tensor, wanted: str) -> str:
    if values.dim() == 1 or name.startswith("position_embd"):
        return "F32"
    return "F16" if wanted == "Q8_0" and values.shape[-1] % BLOCK else wanted


def _describe(writer: Any, model: Decoder, architecture: Architecture) -> None:
    """What the model is."""
    writer.add_type("model")
    writer.add_name(model.spec.name)
    writer.add_quantization_version(package().GGML_QUANT_VERSION)
    for key, value in architecture.metadata(architecture.config(model.spec)).items():
        name = f"{architecture.name}.{key}"
        match value:
            case int():
                writer.add_uint32(name, value)
            case float():
                writer.add_float32(name, value)
            case _:
                writer.add_string(name, value)


def _add_vocabulary(writer: Any, vocabulary: Vocabulary | None) -> None:
    if vocabulary is None:
        writer.add_tokenizer_model("none")
        return
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.cut)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    writer.add_token_merges(vocabulary.merges)
    writer.add_add_bos_token(vocabulary.begins)
    for role, index in vocabulary.roles.items():
        getattr(writer, f"add_{role}_token_id")(index)
    if vocabulary.chat_template is not None:
        writer.add_chat_template(vocabulary.chat_template)
