"""Our writer of safetensors against the library's own."""

import hashlib

import pytest
import torch
from safetensors.torch import load_file, save_file

from llmkit.train.tensor_file import DTYPES, PIECE, write_tensors


def tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    every = {f"of {name}": torch.rand(3, 5, generator=draw).mul(9).to(dtype) for dtype, name in DTYPES.items()}
    return every | {
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "transposed": torch.rand(4, 6, generator=draw).T,
        "part": torch.rand(9, generator=draw)[2:5],
        "ünïcode": torch.ones(1),
    }


def test_what_is_written_is_read_by_the_library_bit_for_bit(tmp_path):
    given = tensors()
    checksum = write_tensors(tmp_path / "ours", given)
    found = load_file(tmp_path / "ours")
    assert set(found) == set(given)
    for name, tensor in given.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(found[name].contiguous().view(-1).view(torch.uint8), tensor.contiguous().view(-1).view(torch.uint8))
    assert checksum == hashlib.sha256((tmp_path / "ours").read_bytes()).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_file_is_the_librarys_own_byte_for_byte(tmp_path, dtype):
    given = {f"blocks.{index}.weight": torch.rand(3, index + 1).to(dtype) for index in range(12)}
    write_tensors(tmp_path / "ours", given)
    save_file(given, tmp_path / "theirs")
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs").read_bytes()


def test_a_tensor_larger_than_a_piece_is_whole(tmp_path):
    given = {"large": torch.arange(PIECE // 4 + 3, dtype=torch.int64)}
    write_tensors(tmp_path / "ours", given)
    assert torch.equal(load_file(tmp_path / "ours")["large"], given["large"])
