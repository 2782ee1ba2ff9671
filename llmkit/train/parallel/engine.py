"""One optimizer step of a model that no rank has whole.

What FSDP2 shards is what tensor and pipeline parallelism leave of the model on this rank; where nothing is to be sharded it shards
over one rank, so that there is one path. The optimizer steps the shards as plain tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from llmkit.core.interfaces.objective import IGNORED, Batch
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.core.spec import Spec
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.init import initial_values, named_parameters_with_roles, saved_name
from llmkit.train import checkpoint as checkpoints
from llmkit.train import precision
from llmkit.train.checkpoint import Checkpoint
from llmkit.train.engine import Engine, Stats, make_objective, recompute_blocks, share, summed_stats
from llmkit.train.parallel import state
from llmkit.train.parallel.checks import check
from llmkit.train.parallel.context import cut_sequences, own_part
from llmkit.train.parallel.mesh import make_mesh
from llmkit.train.parallel.pieces import Piece, local_of, squared_norm
from llmkit.train.parallel.tensor import Cuts, Ranks, cut
from llmkit.train.step import TrainStep


class ParallelEngine(Engine):
    """A model and its objective, spread over ranks by the spec's `parallel`.

    whole   every parameter of the model on the meta device: names, shapes, roles
    pieces  what this rank holds of them
    """

    def __init__(self, spec: Spec, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        values = self.arrange(spec, accelerator.device)
        with torch.no_grad():
            for piece in self.pieces:
                piece.local.copy_(piece.take(values[piece.name](), self.mesh))
        self.masters = None
        self.component = spec.train.optimizer.make()
        self.optimizer = self.component.build(self.parameters)
        self.scaler = precision.scaler(spec.train.precision, self.device)

    def arrange(self, spec: Spec, device: torch.device) -> dict[str, Callable[[], Tensor]]:
        """Cut and shard the model over the ranks, without values; what draws each whole parameter's. On the meta device nothing is held."""
        self.spec, self.device = spec, device
        check(spec)
        self.mesh = make_mesh(spec.parallel, device)
        self.data_rank, self.data_ranks = self.mesh.data_rank, self.mesh.data_ranks
        self.copies = spec.parallel.tp * spec.parallel.cp * spec.parallel.pp
        self.root = self._whole_root()
        recompute_blocks(self.root.model, spec.train.recompute)
        self.whole = _on_meta(named_parameters_with_roles(self.root, spec.model))
        self.saved_names = list(checkpoints.saved_tensors(self.root))
        values = initial_values(self.root, spec.model, spec.init_seed)
        self.cuts = cut(self.root, Ranks(self.mesh.tp, self.mesh.tp_rank, spec.parallel.tp)) if self.mesh.tp is not None else Cuts()
        if self.mesh.cp is not None:
            cut_sequences(self.root.model, self.mesh.cp, spec.parallel.cp)
        self._cut_layers()
        self.module = self._shard(self.root)
        self.pieces = self._pieces()
        self.parameters = self._named()
        return values

    @property
    def size(self) -> int:
        return sum(one.parameter.numel() for one in self.whole)

    def gradients(self, micros: Sequence[Batch], count: float | Tensor) -> tuple[Tensor, Stats]:
        losses, stats = [], []
        # FSDP averages over the ranks that read other tokens.
        part = share(self.mesh.sharding, count)
        for index, batch in enumerate(micros):
            self.module.set_requires_gradient_sync(index == len(micros) - 1)  # type: ignore[operator]
            with precision.autocast(self.spec.train.precision, self.device):
                total, metrics, found = self.module(self._own_part(batch))
            (total * part).backward()
            losses.append(metrics.get("loss", total.detach()))
            stats.append(found)
        self._collect_gradients()
        # The parts of a sequence add up; `total` takes ranks of one share to say the same.
        return torch.stack(losses).sum() * self.spec.parallel.cp, summed_stats(stats)

    def clip(self, largest: float | None) -> Tensor:
        norm = squared_norm(self.pieces, self.mesh).sqrt().float()
        if largest is not None:
            nn.utils.clip_grads_with_norm_([piece.local for piece in self.pieces], largest, norm)
        return norm

    def drop_gradients(self) -> None:
        super().drop_gradients()
        for piece in self.pieces:
            piece.sharded.grad = None

    def total(self, *values: float | Tensor, alike: Sequence[float | Tensor] = ()) -> list[float]:
        found = super().total(*values, alike=alike)
        # Ranks that compute the same share of the batch say the same.
        return [value / self.copies for value in found[: len(values)]] + found[len(values) :]

    def summed(self, value: float | Tensor) -> Tensor:
        return super().summed(value) / self.copies

    def nats(self, batches: Iterable[Batch]) -> tuple[Tensor, int]:
        nats, counted = super().nats(map(self._own_part, self._as_often_as_any_rank(list(batches))))
        return nats * self.spec.parallel.cp, counted * self.spec.parallel.cp

    def saved(self) -> dict[str, Tensor]:
        return state.gathered_weights(self)

    def recorded(self) -> tuple[Mapping[str, Tensor], torch.optim.Optimizer, Sequence[NamedParameter]]:
        weights = self.saved()
        return weights, *state.gathered_optimizer(self, weights)

    def load(self, found: Checkpoint) -> None:
        state.load(self, found, checkpoints.earlier_names(self.root, self.spec))

    @contextmanager
    def whole_model(self) -> Iterator[Decoder | None]:
        weights = self.saved()
        if not self.accelerator.is_main_process:
            yield None
            return
        model = build(self.spec)
        with torch.no_grad():
            for name, tensor in checkpoints.saved_tensors(model).items():
                tensor.copy_(weights[name])
        yield model

    def _as_often_as_any_rank(self, batches: list[Batch]) -> list[Batch]:
        """Forward passes exchange parameters, so every rank runs as many: those with fewer batches read blank ones."""
        most = torch.tensor(len(batches), device=self.device)
        distributed.all_reduce(most, op=distributed.ReduceOp.MAX)
        ids = torch.zeros(1, self.spec.seq_len, dtype=torch.int64)
        blank = Batch(ids, torch.full_like(ids, IGNORED))
        return [*batches, *[blank] * (int(most) - len(batches))]

    def _whole_root(self) -> TrainStep:
        return TrainStep(build(self.spec, device="meta"), make_objective(self.spec))

    def _cut_layers(self) -> None:
        """Take away what is on other stages of a pipeline: nothing, where there is one."""

    def _stages_of(self, name: str) -> Sequence[int]:
        """Which stages hold a parameter of this one."""
        return (self.mesh.pp_rank,)

    def _own_part(self, batch: Batch) -> Batch:
        if self.mesh.cp is None:
            return batch
        return own_part(batch, self.mesh.cp_rank, self.spec.parallel.cp)

    def _summed_over_ranks(self, value: Tensor) -> Tensor:
        total = value.clone()
        distributed.all_reduce(total, group=self.mesh.readers)
        return total

    def _shard(self, root: TrainStep) -> nn.Module:
        """Shards of FSDP2, without values yet: a unit for every block, and one of all else, in which a tied head is the embedding."""
        policy = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16 if self.spec.train.precision == "bf16" else None,
            reduce_dtype=torch.float32,
            # Positions' tables stay fp32.
            cast_forward_inputs=False,
        )
        for block in _with_parameters(root.model.blocks):
            fully_shard(block, mesh=self.mesh.data, mp_policy=policy)
        fully_shard(root, mesh=self.mesh.data, mp_policy=policy)
        register_fsdp_forward_method(root, "nats")
        kept = {name: buffer for name, buffer in root.named_buffers() if not buffer.is_meta}
        root.to_empty(device=self.device)
        root.tie_weights()
        root.model.reset_buffers()
        for name, buffer in root.named_buffers():
            if name in kept:
                buffer.copy_(kept[name])
        return root

    def _pieces(self) -> list[Piece]:
        shapes = {one.name: one.parameter.shape for one in self.whole}
        dimension = {saved_name(name): axis for name, axis in self.cuts.dimension.items()}
        found = []
        for path, parameter in self.root.named_parameters():
            assert isinstance(parameter, DTensor)
            name = saved_name(path)
            found.append(Piece(name, shapes[name], parameter, local_of(parameter), dimension.get(name), self._stages_of(name)))
        return found

    def _named(self) -> list[NamedParameter]:
        own = {piece.name: piece.local for piece in self.pieces}
        return [one._replace(parameter=own[one.name]) for one in self.whole if one.name in own]

    def _collect_gradients(self) -> None:
        """Each piece's gradient as FSDP left it, on the tensor that the optimizer steps."""
        for piece in self.pieces:
            gradient = piece.sharded.grad
            piece.local.grad = gradient.to_local() if isinstance(gradient, DTensor) else None
        partial = {saved_name(name) for name in self.cuts.partial}
        for piece in self.pieces:
            if piece.name in partial and piece.local.grad is not None:
                distributed.all_reduce(piece.local.grad, group=self.mesh.tp)


def _with_parameters(modules: Iterable[nn.Module]) -> Iterator[nn.Module]:
    return (module for module in modules if any(True for _ in module.parameters()))


def _on_meta(parameters: Sequence[NamedParameter]) -> list[NamedParameter]:
    """The same with tensors that have nothing but shapes: cutting will replace those of the model."""
    return [one._replace(parameter=nn.Parameter(one.parameter.detach().to("meta"))) for one in parameters]
