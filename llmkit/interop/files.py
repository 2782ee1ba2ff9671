"""Tensors in files of the hub's form: `model.safetensors`, or shards and `model.safetensors.index.json`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from llmkit.core.errors import UserError

TORCH_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


class TensorFiles:
    """The tensors of a directory by name, each read when it is asked for: a model is never in memory twice."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files = ExitStack()
        self._places: dict[str, Any] = {}

    def __enter__(self) -> Self:
        for name in _file_names(self.directory):
            try:
                file = self._files.enter_context(safe_open(self.directory / name, framework="pt"))
            except (OSError, SafetensorError) as error:
                self._files.close()
                raise UserError(f"cannot read {str(self.directory / name)!r}: {error}") from error
            self._places.update(dict.fromkeys(file.keys(), file))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._files.close()

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def read(self, name: str) -> Tensor:
        """One tensor, as it was saved."""
        tensor: Tensor = self._places[name].get_tensor(name)
        return tensor

    def dtypes(self) -> dict[str, torch.dtype]:
        """The dtype of every tensor, of which only the headers are read."""
        return {name: TORCH_DTYPES[file.get_slice(name).get_dtype()] for name, file in self._places.items()}


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object; `UserError` naming the file where it is missing or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {str(path)!r}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{str(path)!r} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{str(path)!r} holds no JSON object")
    return found


def write_object(path: Path, value: dict[str, Any]) -> None:
    """A JSON object, for a person to read."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _file_names(directory: Path) -> list[str]:
    if (directory / INDEX).is_file():
        places = read_object(directory / INDEX).get("weight_map")
        if not isinstance(places, dict):
            raise UserError(f"{str(directory / INDEX)!r} has no weight_map")
        return sorted(set(places.values()))
    if (directory / WEIGHTS).is_file():
        return [WEIGHTS]
    raise UserError(
        f"{str(directory)!r} has neither {WEIGHTS} nor {INDEX}; "
        "weights in another form become that by transformers' from_pretrained(...).save_pretrained(...)"
    )
