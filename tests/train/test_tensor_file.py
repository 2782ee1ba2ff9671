"""Tensors in a file: what the library reads back, its checksum, and what a disk says that is full."""

import errno
import hashlib
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from llmkit.train.tensor_file import write_tensors


def test_every_tensor_is_read_back_bit_for_bit_and_the_checksum_is_the_files(tmp_path: Path) -> None:
    given = {"a": torch.randn(3, 5), "b": torch.randn(4, 2).t().bfloat16(), "c": torch.arange(7), "d": torch.tensor(True)}
    told = write_tensors(tmp_path / "file", given)
    found = load_file(tmp_path / "file")
    assert found.keys() == given.keys()
    assert all(torch.equal(found[name], tensor) and found[name].dtype == tensor.dtype for name, tensor in given.items())
    assert told == hashlib.sha256((tmp_path / "file").read_bytes()).hexdigest()


def test_a_file_that_may_not_grow_is_the_systems_own_error(tmp_path: Path) -> None:
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as raised:
            write_tensors(tmp_path / "file", {"large": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert raised.value.errno == errno.EFBIG
