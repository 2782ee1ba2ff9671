"""Writing a safetensors file while its checksum is taken, without the interpreter's lock.

    8 bytes        length of the header, little-endian
    header         JSON: name -> {"dtype", "shape", "data_offsets"}, filled up with spaces to a multiple of 8
    the rest       the tensors, one after another, little-endian; the widest numbers first, so that each is aligned

The library's own writer holds the lock until the file is written, in which time no other thread takes a step, and gives no checksum.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from llmkit.train.durable import write_flushed

PIECE = 1 << 24
"""Bytes that are written and hashed at once: what is hashed is then still in the processor's cache."""

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.bool: "BOOL",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
}  # fmt: skip


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors by name, on whatever device, and flush them to the disk; the SHA-256 of the file."""
    return write_flushed(path, _pieces(tensors))


def _pieces(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    header: dict[str, object] = {}
    end = 0
    for name in names:
        tensor = tensors[name]
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    for name in names:
        content = _content(tensors[name])
        for at in range(0, len(content), PIECE):
            yield content[at : at + PIECE]


def _content(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
