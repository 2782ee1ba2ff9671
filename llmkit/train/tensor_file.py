"""Writing a safetensors file: on the disk, with its checksum, and with the disk's errors as Python knows them."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from llmkit.data.cache import checksum, flush


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write tensors by name, on whatever device, and flush them to the disk; the SHA-256 of the file. `OSError` where it cannot be."""
    try:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    except SafetensorError as error:
        # The library tells what the system said in words alone.
        told = re.search(r"os error (\d+)", str(error))
        number = int(told[1]) if told else errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    flush(path)
    return checksum(path)
