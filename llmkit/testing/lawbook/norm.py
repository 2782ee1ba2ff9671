"""Laws of norms besides those of a decoder."""

from __future__ import annotations

import torch

from llmkit.testing.law import Law, LawBroken
from llmkit.testing.lawbook.decoder import module_of
from llmkit.testing.model import finite, same
from llmkit.testing.subject import WIDTH, Subject


def shape_and_dtype_stay(subject: Subject) -> None:
    """(..., width) in any of fp32, bf16 and fp16 comes back in the same shape and dtype."""
    norm = module_of(subject)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        for shape in ((WIDTH,), (3, WIDTH), (2, 3, WIDTH), (2, 4, 3, WIDTH)):
            with torch.no_grad():
                y = norm(torch.ones(shape, dtype=dtype))
            if y.shape != shape or y.dtype is not dtype:
                raise LawBroken(f"{shape} in {dtype} becomes {tuple(y.shape)} in {y.dtype}")


def zeros_and_large_numbers_stay_finite(subject: Subject) -> None:
    """Rows of zeros, of one constant and of numbers as large as 1e4 give finite results and, in fp32, finite gradients."""
    norm = module_of(subject)
    random = torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(0))
    for name, row in (("zeros", torch.zeros(1, WIDTH)), ("one constant", torch.ones(1, WIDTH)), ("numbers around 1e4", random * 1e4)):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            with torch.no_grad():
                finite(norm(row.to(dtype)), f"a row of {name} in {dtype} does not stay finite")
        x = row.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(norm(x).sum(), x)
        finite(gradient, f"the gradient at a row of {name} is not finite")


def every_row_is_normed_by_itself(subject: Subject) -> None:
    """A row has the result that it has alone: nothing is averaged over tokens or over the batch."""
    norm = module_of(subject)
    x = torch.randn(2, 3, WIDTH, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = norm(x)
        for row in range(2):
            for place in range(3):
                same(norm(x[row, place]), whole[row, place], f"row {row}, token {place} of (2, 3, {WIDTH}) differs from itself alone")


LAWS = (Law(shape_and_dtype_stay), Law(zeros_and_large_numbers_stay_finite), Law(every_row_is_normed_by_itself))
