"""How one optimizer step is computed: from the micro-batches of a step to updated weights.

The loop knows when and with which data; the engine knows the module, its weights and their gradients, the optimizer, the precision,
and how ranks share the work. What the loop is told is global: sums over all ranks, and the gradient's norm of the whole model.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from llmkit.core.interfaces.objective import Batch, Objective
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.core.interfaces.table import TableGradient
from llmkit.core.site import Site
from llmkit.core.spec import Recompute, Spec
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.decoding import first_line, of_the_compiler
from llmkit.model.generate import evaluating
from llmkit.model.init import initialise, named_parameters_with_roles
from llmkit.train import checkpoint as checkpoints
from llmkit.train import fp8, precision, world
from llmkit.train.allocator import give_back_freed_memory
from llmkit.train.checkpoint import Checkpoint
from llmkit.train.compiling import compile_parts, draws_kept, of_any_rank, too_late, uncompile_parts
from llmkit.train.products import through_onednn
from llmkit.train.step import TrainStep

LARGE = 1 << 20
"""Numbers of a table from which its gradient adds up in place. Smaller ones find room anywhere."""

Stats = dict[str, Tensor]


class Engine:
    """A model and its objective in training, the same on every rank: on one process, or on several that each take a part of the batch.

    root         model and objective; its saved keys are the model's own
    parameters   what the optimizer updates, by saved name, in fp32
    optimizer    torch's, built by the spec's component
    data_rank    which of the `data_ranks` shares of a batch this process computes
    warn         told what a person should know
    compiled     whether parts of the model are, on all ranks; `tried` once that is known to work on each
    """

    warn: Callable[[str], None] = staticmethod(warnings.warn)
    compiled = tried = False
    tables: Sequence[TableGradient] = ()
    """What the gradients of the embedding and of the head add up in, where they do so in place."""
    fresh = True
    """Whether no update was made yet."""
    failure = ""
    """What the compiler said where it failed on this rank."""

    def __init__(self, spec: Spec, accelerator: Accelerator) -> None:
        self.spec, self.accelerator, self.device = spec, accelerator, accelerator.device
        self.data_rank, self.data_ranks = accelerator.process_index, accelerator.num_processes
        self.root = TrainStep(build(spec), make_objective(spec))
        initialise(self.root.objective, spec.model, spec.init_seed, prefix="objective.")
        self.root.to(self.device)
        self.masters = self._make_masters()
        self.parameters = self._named()
        self.component = spec.train.optimizer.make()
        self.optimizer: torch.optim.Optimizer = self.component.build(self.parameters)
        self.scaler = precision.scaler(spec.train.precision, self.device)
        if spec.train.precision == "fp32":
            through_onednn(self.root)
        if spec.train.precision == "fp8":
            fp8.convert(self.model, self.device)
        recompute_blocks(self.model, spec.train.recompute)
        self.compiled = spec.train.compile
        if self.compiled:
            compile_parts(self.root, spec.train.precision)
        # Masters' gradients are added up over the ranks by the engine itself: DDP would round them to bf16 on the way.
        self.module: nn.Module = self.root if self.masters is not None else accelerator.prepare(self.root)
        self.tables = self._tables()

    @property
    def model(self) -> Decoder:
        """The model, as it computes."""
        return self.root.model

    @property
    def objective(self) -> Objective:
        """What is minimised."""
        return self.root.objective

    @property
    def size(self) -> int:
        """Parameters of the whole model and its objective."""
        return sum(one.parameter.numel() for one in self.parameters)

    def gradients(self, micros: Sequence[Batch], count: float | Tensor) -> tuple[Tensor, Stats]:
        """Forward and backward over this rank's micro-batches of a step; gradients are then the global batch's, on every rank.

        count  what the summed loss of all ranks is divided by; a scalar on the device, as `summed` returns it, is not waited for
        Returns the sum of the loss over this rank's counted tokens (fp32 scalar), and the blocks' stats, summed over the micro-batches.
        """
        if self.compiled and self.data_ranks > 1 and not self.tried:
            self._try_compiled(micros, count)
        try:
            loss, stats = self._accumulate(self.module, micros, count)
        except Exception as error:
            self._note_failure(error)
            if self.data_ranks > 1:
                raise too_late(self.failure, self.data_rank) from error
            self.drop_gradients()
            self._agree_on_compiling()
            loss, stats = self._accumulate(self.module, micros, count)
        if self.masters is not None and self.data_ranks > 1:
            _add_up_gradients(self.masters.parameters, self.device)
        return loss, stats

    def clip(self, largest: float | None) -> Tensor:
        """Scale all gradients so that their joint norm is at most this; the norm that they had, a scalar."""
        self.scaler.unscale_(self.optimizer)
        gradients = [one.parameter.grad for one in self.parameters if one.parameter.grad is not None]
        return clip_together(gradients, math.inf if largest is None else largest) if gradients else torch.zeros(())

    def update(self) -> None:
        """The optimizer's step, and gradients dropped."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.drop_gradients()
        self._refresh()
        if self.fresh:
            give_back_freed_memory()
            self.fresh = False

    def drop_gradients(self) -> None:
        """Forget the gradients: after an update, or instead of one."""
        for table in self.tables:
            table.drop()
        # As the optimizer's own `zero_grad` does, which wraps it in a profiler's range and a graph break.
        for one in self.parameters:
            one.parameter.grad = None

    def discard(self) -> None:
        """Instead of an update: gradients that were clipped are dropped, and optimizer and scaler stay as they were."""
        if self.scaler.is_enabled():
            # It takes unscaled gradients once a step, and `update` is all that ends one.
            state = self.scaler.state_dict()
            self.scaler.update()
            self.scaler.load_state_dict(state)
        self.drop_gradients()

    def after_step(self, stats: Mapping[str, Tensor]) -> None:
        """Give each module the stats that its forward passes returned, summed over ranks: for what changes between steps."""
        if not stats:
            return
        summed = {name: self._summed_over_ranks(value) for name, value in stats.items()}
        for address, module in self.model.named_modules():
            after = getattr(module, "after_step", None)
            mine = {name.removeprefix(f"{address}."): value for name, value in summed.items() if name.startswith(f"{address}.")}
            if after is not None and mine:
                after(mine)

    def train_mode(self) -> None:
        """What a checkpoint holds are the weights of an evaluation; from here on they are those of training."""
        self.component.train_mode()
        self._refresh()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Schedule-free optimizers evaluate and save other weights than they train."""
        self.component.eval_mode()
        self._refresh()
        try:
            yield
        finally:
            self.train_mode()

    def total(self, *values: float | Tensor, alike: Sequence[float | Tensor] = ()) -> list[float]:
        """What each rank has of its share of the batch, each value summed over all shares, in one exchange; then what all ranks have
        alike. One transfer from the device: the only one of a step."""
        return world.total(self.accelerator, *values, alike=alike)

    def summed(self, value: float | Tensor) -> Tensor:
        """What each rank has of its share of the batch, summed over all shares: an fp64 scalar on the device, which nobody waits for."""
        return world.summed(self.accelerator, value)

    def nats(self, batches: Iterable[Batch]) -> tuple[Tensor, int]:
        """-ln p of the targets of these batches summed, fp64, and how many there are."""
        nats, counted = torch.zeros((), dtype=torch.float64, device=self.device), 0
        with evaluating(self.root), precision.autocast(self.spec.train.precision, self.device):
            for batch in batches:
                found = self._nats(batch.to(self.device))
                nats += found.double().sum()
                counted += len(found)
        self._agree_on_compiling()
        return nats, counted

    @contextmanager
    def whole_model(self) -> Iterator[Decoder | None]:
        """The model on the first rank, to generate from; None on the others, which call it too."""
        yield self.model if self.accelerator.is_main_process else None

    def recorded(self) -> tuple[Mapping[str, Tensor], torch.optim.Optimizer, Sequence[NamedParameter]]:
        """What a checkpoint has: weights by saved key, an optimizer and the parameters that it is of, by saved name.

        All ranks call it, and only the first need have any of it.
        """
        return self.saved(), self.optimizer, self.parameters

    def saved(self) -> dict[str, Tensor]:
        """What a checkpoint has of the weights, by saved key: those that the optimizer updates, and buffers."""
        found = checkpoints.saved_tensors(self.root)
        return found if self.masters is None else {name: self.masters.of(tensor) for name, tensor in found.items()}

    def load(self, found: Checkpoint) -> None:
        """Weights, optimizer and scaler as a checkpoint has them; one of step 0 has weights alone."""
        earlier = checkpoints.earlier_names(self.root, self.spec)
        found.load_model(self.saved(), earlier)
        if found.has_optimizer():
            found.load_optimizer(self.optimizer, self.parameters, earlier)
        state = found.trainer().get("scaler")
        if state is not None:
            self.scaler.load_state_dict(state)
        self._refresh()

    def _summed_over_ranks(self, value: Tensor) -> Tensor:
        summed: Tensor = self.accelerator.reduce(value, reduction="sum")
        return summed

    def _make_masters(self) -> precision.Masters | None:
        mode, offloaded = self.spec.train.precision, self.spec.train.offload_optimizer
        if mode not in precision.LOWERED and not offloaded:
            return None
        return precision.Masters(self.root, mode, torch.device("cpu") if offloaded else None)

    def _tables(self) -> list[TableGradient]:
        """On a CPU, whose allocator finds no place for a gradient as large as the vocabulary where others have been. DDP listens for the
        gradients of its parameters, and would wait for these."""
        if self.device.type != "cpu" or self.module is not self.root:
            return []
        weights = {id(weight): weight for weight in (self.model.embedding.weight, self.model.head.weight)}
        large = [weight for weight in weights.values() if weight.requires_grad and weight.numel() >= LARGE]
        for weight in large:
            master = weight if self.masters is None else self.masters.of(weight)
            weight.table_gradient = TableGradient(master)  # type: ignore[arg-type, attr-defined]
        return [weight.table_gradient for weight in large]  # type: ignore[attr-defined]

    def _nats(self, batch: Batch) -> Tensor:
        try:
            return self.root.nats(batch)
        except Exception as error:
            self._note_failure(error)
            uncompile_parts(self.root)
            return self.root.nats(batch)

    def _try_compiled(self, micros: Sequence[Batch], count: float | Tensor) -> None:
        """The first step without an exchange. In one that ranks wait for, none could begin anew where the compiler fails."""
        self.tried = True
        with draws_kept(self.device):
            try:
                self._accumulate(self.root, micros, count)
            except Exception as error:
                self._note_failure(error)
        self.drop_gradients()
        self._agree_on_compiling()

    def _note_failure(self, error: Exception) -> None:
        """Keep what the compiler said; all other errors are raised again."""
        if not (self.compiled and of_the_compiler(error)):
            raise error
        self.failure = first_line(error)

    def _agree_on_compiling(self) -> None:
        """All ranks go on without the compiler where it has failed on any of them. Every rank calls it."""
        failure = of_any_rank(self.failure, self.data_ranks) if self.compiled else ""
        if failure:
            self.warn(f"warning: train.compile is left out, and steps take longer: {failure}")
            self.compiled = False
            uncompile_parts(self.root)

    def _accumulate(self, module: nn.Module, micros: Sequence[Batch], count: float | Tensor) -> tuple[Tensor, Stats]:
        losses, stats = [], []
        # DDP averages over ranks, hence the world's size.
        part = share(1 if self.masters is not None else self.data_ranks, count).to(self.device)
        for index, batch in enumerate(micros):
            loss, found = self._backward(module, batch, part, last=index == len(micros) - 1)
            losses.append(loss)
            stats.append(found)
        return torch.stack(losses).sum() if len(losses) > 1 else losses[0], summed_stats(stats)

    def _named(self) -> list[NamedParameter]:
        named = named_parameters_with_roles(self.root, self.spec.model)
        if self.masters is None:
            return named
        return [one._replace(parameter=self.masters.of(one.parameter)) for one in named]  # type: ignore[arg-type]

    def _backward(self, module: nn.Module, batch: Batch, part: Tensor, *, last: bool) -> tuple[Tensor, Stats]:
        with self._unsynchronised(module, last):
            with precision.autocast(self.spec.train.precision, self.device):
                total, metrics, stats = module(batch)
            # As of the loss times its part, which need not be computed.
            total.backward(self.scaler.scale(part))
        return metrics.get("loss", total.detach()), stats

    def _unsynchronised(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel once a step: with the last micro-batch."""
        if last or module is self.root:
            return nullcontext()
        context: AbstractContextManager[Any] = self.accelerator.no_sync(module)
        return context

    def _refresh(self) -> None:
        if self.masters is not None:
            self.masters.refresh()


def make_objective(spec: Spec) -> Any:
    """The objective of a spec, without initial values."""
    model = spec.model
    return spec.train.objective.make(
        Site(model.d_model, model.d_model, model.n_layers, 0, model.max_seq_len, spec.vocab_size, address="train.objective")
    )


def recompute_blocks(model: Decoder, mode: Recompute) -> None:
    """What each block forgets after a forward pass."""
    for block in model.blocks:
        block.recompute = mode  # type: ignore[assignment]


def share(ranks: int, count: float | Tensor) -> Tensor:
    """What a summed loss is multiplied with before the backward pass: ranks / count, an fp32 scalar where the count lies."""
    return torch.as_tensor(ranks / count, dtype=torch.float32)


def _add_up_gradients(parameters: Sequence[nn.Parameter], device: torch.device) -> None:
    """Every gradient summed over all ranks, in one exchange on this device. Where no rank has one, none has afterwards."""
    mine = [parameter.grad is not None for parameter in parameters]
    known = parameters[0].new_ones(len(mine)) if all(mine) else parameters[0].new_tensor(mine)
    parts = [parameter.new_zeros(parameter.numel()) if parameter.grad is None else parameter.grad.flatten() for parameter in parameters]
    flat = torch.cat([known, *parts]).to(device)
    torch.distributed.all_reduce(flat)
    found, *summed = torch.split(flat, [len(known), *map(len, parts)])
    # Who has all of them need not ask, and wait for the answer.
    for parameter, gradient, any_rank in zip(parameters, summed, mine if all(mine) else found.tolist(), strict=True):
        _become(parameter, gradient.view_as(parameter) if any_rank else None)


def clip_together(gradients: list[Tensor], largest: float) -> Tensor:
    """Scale gradients in place so that their joint norm is at most this; the norm that they had, a scalar.

    `clip_grad_norm_`, to the bit, for gradients of one dtype on one device: it sorts them by both, twice, which takes longer than all
    that it computes of a small model.
    """
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, torch.clamp(largest / (norm + 1e-6), max=1.0))
    return norm


def _become(parameter: nn.Parameter, gradient: Tensor | None) -> None:
    """Make this the gradient, in the memory of the one that there is: a part of another tensor would keep the whole of it."""
    if gradient is None:
        parameter.grad = None
    elif parameter.grad is None:
        parameter.grad = gradient.to(parameter.device, copy=True)
    else:
        parameter.grad.copy_(gradient)


def summed_stats(parts: Sequence[Stats]) -> Stats:
    """The stats of several micro-batches as those of all."""
    total: Stats = {}
    for stats in parts:
        for name, value in stats.items():
            total[name] = total[name] + value if name in total else value
    return total
