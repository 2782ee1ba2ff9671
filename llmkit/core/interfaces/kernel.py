"""Kernels of our own in C++: compiled on the machine that runs them when they are first wanted, and kept."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch

BASE = ("-O3", "-std=c++20", "-fPIC", "-shared", "-fopenmp", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma")
"""What every kernel is compiled with: all are for processors with AVX-512."""

FLAGS = {"avx512": (), "avx512_vnni": ("-mavx512vnni",), "avx512_bf16": ("-mavx512bf16",)}
"""What a compiler is told to use, by the instructions that a kernel needs."""


@cache
def refused(source: Path, *instructions: str) -> str | None:
    """Why a kernel cannot be had on this machine; None where it is loaded.

    source        a C++ file that defines operators (`TORCH_LIBRARY_FRAGMENT`)
    instructions  of `FLAGS`: what the processor has to have beside AVX-512
    """
    if (reason := lacking(*instructions)) is not None:
        return reason
    try:
        torch.ops.load_library(_built(source, instructions))  # type: ignore[no-untyped-call]
    except (OSError, subprocess.CalledProcessError) as error:
        return _why(error)
    return None


def lacking(*instructions: str) -> str | None:
    """What the processor does not have of AVX-512 and of these instructions; None where it has all."""
    missing = next((name for name in ("avx512", *instructions) if not _has(name)), None)
    return None if missing is None else f"the processor has no {missing.upper().replace('AVX512', 'AVX-512').replace('_', ' ')}"


def _has(instructions: str) -> bool:
    # torch's own checks are not public and have moved before: where they are gone, there is no kernel.
    return bool(getattr(torch.cpu, f"_is_{instructions.replace('avx512_vnni', 'vnni')}_supported", lambda: False)())


def _built(source: Path, instructions: tuple[str, ...]) -> Path:
    """The kernel's library, compiled unless that was done before with the same source, compiler, flags and torch."""
    from torch.utils.cpp_extension import get_cxx_compiler, get_default_build_root, include_paths, library_paths

    compiler: str = get_cxx_compiler()  # type: ignore[no-untyped-call]
    flags = (*BASE, *(flag for name in instructions for flag in FLAGS[name]))
    said = "\0".join((source.read_text(encoding="utf-8"), compiler, torch.__version__, *flags))
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    library = root / f"llmkit_{source.stem}_{hashlib.sha256(said.encode()).hexdigest()[:16]}" / f"{source.stem}.so"
    if library.exists():
        return library
    library.parent.mkdir(parents=True, exist_ok=True)
    found = [*(f"-I{path}" for path in include_paths()), *(f"-L{path}" for path in library_paths())]
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        made = Path(directory) / library.name
        subprocess.run(
            [compiler, *flags, *found, str(source), "-o", str(made), "-ltorch_cpu", "-lc10"], check=True, capture_output=True, text=True
        )
        # Whole or not at all: another process may be building it too.
        made.replace(library)
    return library


def _why(error: OSError | subprocess.CalledProcessError) -> str:
    if isinstance(error, subprocess.CalledProcessError):
        lines = [line for line in error.stderr.splitlines() if "error" in line]
        return f"its source does not compile: {(lines or [f'the compiler ends with {error.returncode} and says nothing'])[0].strip()}"
    return f"it cannot be compiled or loaded: {error}"
