"""The processes of a run: how many there are, which one this is, and what they tell each other."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers
from torch import Tensor

from llmkit.core.errors import UserError
from llmkit.train.allocator import keep_freed_memory


def rank_from_environment() -> int:
    """This process's rank, before any process group exists: launchers say it in the environment."""
    return int(os.environ.get("RANK", "0"))


def size_from_environment() -> int:
    """How many processes there will be, before they have met: 1 where no launcher says it, in its own or in an MPI's words."""
    names = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
    return next((int(os.environ[name]) for name in names if name in os.environ), 1)


def device() -> torch.device:
    """Where a run computes: CUDA where the machine has it, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def check_trackers(names: list[str]) -> None:
    """`UserError` where accelerate does not know a tracker, or would drop it without a word because its package is not installed."""
    installed = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise UserError(f"train.trackers names {name!r}; accelerate knows {', '.join(sorted(LOGGER_TYPE_TO_CLASS))}")
        if name not in installed:
            raise UserError(f"train.trackers names {name!r}, whose package is not installed; pip install it, or leave the tracker out")


def smaller_than_asked(processes: int) -> bool:
    """Whether a launcher was asked for more processes than these.

    accelerate's own, on the CPU, starts one whatever `--num_processes` says, and says nothing. All it leaves of the wish is
    an address where the processes were to meet, without a world that has a size.
    """
    if "WORLD_SIZE" in os.environ:
        return int(os.environ["WORLD_SIZE"]) > processes
    return "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ


def begin(trackers: list[str], logging_dir: str) -> Accelerator:
    """The accelerator of a run, and with it the process group.

    accelerate's state is global to the process, and a second accelerator with other settings raises. This is the one place
    that makes one: always with mixed precision "no" (the loop's autocast does that), after dropping what an earlier run left.
    """
    if device().type == "cpu":
        keep_freed_memory()
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    return Accelerator(cpu=device().type == "cpu", mixed_precision="no", log_with=trackers or None, project_dir=logging_dir)


def seed_draws(device: torch.device, seed: int) -> None:
    """Seed what draws random numbers on this device, and on the CPU.

    `torch.manual_seed` seeds every kind of device that there could be, and formats a stack trace for each that there is not: that
    alone takes longer than all else that the loop does in a step.
    """
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


def summed(accelerator: Accelerator, value: float | Tensor) -> Tensor:
    """A value summed over all ranks: an fp64 scalar on the device. The CPU does not wait for it."""
    return on(accelerator.device, value) if accelerator.num_processes == 1 else _exchanged(accelerator, [value])[0]


def total(accelerator: Accelerator, *values: float | Tensor, alike: Sequence[float | Tensor] = ()) -> list[float]:
    """Each value summed over all ranks, in one exchange, in fp64; after them those that all ranks have `alike`, as they are.

    However many there are, they come from the device in one transfer.
    """
    if accelerator.num_processes == 1:
        return read(*values, *alike)
    return read(*_exchanged(accelerator, values).unbind(), *alike)


def read(*values: float | Tensor) -> list[float]:
    """What these numbers and scalars are. Here the CPU waits, once, until the device has computed all that was asked of it."""
    distant = [value for value in values if isinstance(value, Tensor) and not value.is_cpu]
    if not distant:
        return [float(value) for value in values]
    arrived = iter(torch.stack([value.double() for value in distant]).tolist())
    return [next(arrived) if isinstance(value, Tensor) and not value.is_cpu else float(value) for value in values]


def _exchanged(accelerator: Accelerator, values: Sequence[float | Tensor]) -> Tensor:
    stacked = torch.stack([on(accelerator.device, value) for value in values])
    found: Tensor = accelerator.reduce(stacked, reduction="sum")
    return found


def on(device: torch.device, value: float | Tensor) -> Tensor:
    """A scalar on a device, fp64. The CPU does not wait for it."""
    # A number is filled in where it is wanted: copying it from the CPU's memory would wait for the device.
    if isinstance(value, Tensor):
        return value.to(device, torch.float64)
    return torch.full((), value, dtype=torch.float64, device=device)


def agree(accelerator: Accelerator, fingerprint: str) -> None:
    """Every rank has the same catalog, or none goes on. `UserError` naming the ranks that differ."""
    if accelerator.num_processes == 1:
        return
    number = int(fingerprint, 16) % (1 << 62)
    mine = torch.tensor([number], dtype=torch.int64, device=accelerator.device)
    everyone = accelerator.gather(mine).tolist()
    differing = [rank for rank, other in enumerate(everyone) if other != everyone[0]]
    if differing:
        raise UserError(
            f"ranks {', '.join(map(str, differing))} have other components or versions installed than rank 0; "
            "install the same packages everywhere (`llmkit plugins list` shows them)"
        )
