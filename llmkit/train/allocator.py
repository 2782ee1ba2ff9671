"""The C library's allocator, told to keep what a training step frees: the next step asks for the same again."""

from __future__ import annotations

import ctypes
import sys

TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""glibc's numbers for two options of mallopt(3)."""


def keep_freed_memory() -> bool:
    """Large blocks are neither mapped one by one nor given back to the system, for this process; False where there is no glibc.

    By default each tensor over 32 MB is a mapping of its own, whose pages the system fills with zeros when they are first touched
    and takes back when the tensor is freed: at every step anew. Memory stays at its peak, which is what a step needs anyway.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(TRIM_THRESHOLD, 1 << 30)) and bool(mallopt(MMAP_MAX, 0))


def give_back_freed_memory() -> bool:
    """Give the system what lies free between blocks, once; False where there is no glibc.

    Building, compiling and a first step leave holes that no later step fits into. After it, memory is what a step needs.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    return trim is not None and bool(trim(0))
