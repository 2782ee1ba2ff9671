"""Pipeline parallelism: consecutive layers on each stage, and the micro-batches of a step through them one after another.

    stage 0      embedding, layers 0 .. L / N - 1
    stage N - 1  the last L / N layers, final norm, head, objective

What travels between stages is x (B, T, D), and the losses that blocks have returned so far; every stage reads the same batch. A tied
embedding lies on the first stage and on the last, and its gradients are summed. Schedules are torch's (`torch.distributed.pipelining`):

    gpipe  all forward passes, then all backward passes; all micro-batches in memory (Huang et al. 2018, arXiv 1811.06965)
    1f1b   a backward pass as soon as there is one; at most N micro-batches in memory (Narayanan et al. 2019, PipeDream-Flush)

Either idles for (N - 1) / (M + N - 1) of a step of M micro-batches.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import register_fsdp_forward_method
from torch.distributed.pipelining import PipelineStage, Schedule1F1B, ScheduleGPipe

from llmkit.core.errors import UserError
from llmkit.core.interfaces.ffn import Aux
from llmkit.core.interfaces.objective import IGNORED, Batch, Loss
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.generate import evaluating
from llmkit.model.language_model import token_nats
from llmkit.train import precision
from llmkit.train.engine import Stats, make_objective, share, summed_stats
from llmkit.train.parallel.checks import check_stages
from llmkit.train.parallel.engine import ParallelEngine
from llmkit.train.step import TrainStep

SCHEDULES = {"1f1b": Schedule1F1B, "gpipe": ScheduleGPipe}


def layers_of(stage: int, stages: int, n_layers: int) -> range:
    """The layers of a stage; where they cannot be shared evenly, the first stages have one more."""
    each, more = divmod(n_layers, stages)
    first = stage * each + min(stage, more)
    return range(first, first + each + (stage < more))


class StageStep(TrainStep):
    """A train step of which this rank has one stage. Names are those of the whole."""

    layers: range
    first: bool
    last: bool
    names: Sequence[str] = ()
    """Of the losses that blocks of this and of earlier stages return."""

    def forward(self, batch: Batch, x: Tensor | None = None, losses: Tensor | None = None) -> tuple[Tensor, Aux]:  # type: ignore[override]
        """What the next stage reads, (B, T, D), and the losses (B,) and stats of all blocks so far."""
        ctx = self.model.context(batch)
        x = self.model.enter(batch.ids, ctx) if x is None else x
        x, aux = self.model.through(x, ctx, self.layers)
        if losses is None:
            return x, aux
        return x, Aux({**dict(zip(self.names, losses.unbind(dim=1), strict=True)), **aux.losses}, aux.stats)

    def loss(self, batch: Batch, x: Tensor, losses: Tensor | None) -> Loss:
        """On the last stage: the objective's."""
        h, aux = self.forward(batch, x, losses)
        found: Loss = self.objective(_Arrived(self.model, self.model.norm(h), aux), batch)
        return found

    def last_nats(self, batch: Batch, x: Tensor) -> Tensor:
        """On the last stage: -ln p of every target that there is, fp32 (N,)."""
        h = self.model.norm(self.forward(batch, x)[0])
        real = batch.targets.flatten() >= 0
        return token_nats(self.model, h.flatten(0, 1)[real], batch.targets.flatten()[real])[0]


class _Arrived:
    """A model as an objective sees it, whose features came through the pipeline."""

    def __init__(self, model: Decoder, h: Tensor, aux: Aux) -> None:
        self.head = model.head
        self._features = h, aux

    def features(self, batch: Batch) -> tuple[Tensor, Aux]:
        return self._features


class _Chunk(nn.Module):
    """What torch's schedule calls: one micro-batch, by its number, through this rank's stage.

    A module that holds the sharded one, and is none itself, so that the schedule leaves its gradients to FSDP.
    """

    def __init__(self, step: StageStep, autocast: str) -> None:
        super().__init__()
        self.step = step
        self.autocast = autocast
        self.micros: Sequence[Batch] = ()
        self.told: list[Tensor] = []
        self.stats: list[Stats] = []

    def forward(self, *received: Tensor, number: Tensor) -> Tensor | tuple[Tensor, ...]:
        batch, step = self.micros[int(number)], self.step
        x, losses = (*received, None, None)[:2]
        with precision.autocast(self.autocast, batch.ids.device):
            if step.last:
                assert x is not None
                total, metrics, stats = step.loss(batch, x, losses)
                self.told.append(metrics.get("loss", total.detach()))
                self.stats.append(stats)
                return total[None]
            y, aux = step(batch, x, losses)
        self.stats.append(aux.stats)
        return (y, torch.stack([loss.float() for loss in aux.losses.values()], dim=1)) if aux.losses else y


class PipelineEngine(ParallelEngine):
    """A model whose layers lie on stages, each of which may be sharded and cut besides."""

    root: StageStep

    def gradients(self, micros: Sequence[Batch], count: float | Tensor) -> tuple[Tensor, Stats]:
        chunk = self._chunk
        chunk.micros, chunk.told, chunk.stats = [self._own_part(batch) for batch in micros], [], []
        rows = {batch.ids.shape[0] for batch in micros}
        if len(rows) > 1:
            raise UserError(f"parallel.pp needs micro-batches of one size, and this step has {sorted(rows)}; change train.micro_batch_size")
        part = share(self.mesh.sharding, count)
        stage = self._stage(chunk, rows.pop())
        schedule = SCHEDULES[self.spec.parallel.schedule](stage, len(micros), lambda total, _: total.sum() * part, scale_grads=False)
        numbers = torch.arange(len(micros))
        if self.root.last:
            schedule.step(number=numbers, target=numbers, losses=[], return_outputs=False)
        else:
            schedule.step(number=numbers, return_outputs=False)
        self._collect_gradients()
        told = torch.stack(chunk.told).sum() if chunk.told else torch.zeros((), device=self.device)
        return told * self.spec.parallel.cp * self.spec.parallel.pp, summed_stats(chunk.stats)

    def nats(self, batches: Iterable[Batch]) -> tuple[Tensor, int]:
        nats, counted = torch.zeros((), dtype=torch.float64, device=self.device), 0
        with evaluating(self.root), precision.autocast(self.spec.train.precision, self.device):
            for batch in map(self._own_part, self._as_often_as_any_rank(list(batches))):
                found = self._through_all_stages(batch.to(self.device))
                if found is not None:
                    nats += found.double().sum()
                    counted += len(found)
        copies = self.spec.parallel.cp * self.spec.parallel.pp
        return nats * copies, counted * copies

    def _through_all_stages(self, batch: Batch) -> Tensor | None:
        """A batch forward only, one stage at a time; what the last one finds, None on the others."""
        x, group, here = None, self.mesh.pp, self.mesh.pp_rank
        assert group is not None
        if not self.root.first:
            x = self._example(batch.ids.shape[0])
            distributed.recv(x, distributed.get_global_rank(group, here - 1), group=group)
        if self.root.last:
            assert x is not None
            return self.root.last_nats(batch, x)
        y, _ = self.root(batch, x)
        distributed.send(y.contiguous(), distributed.get_global_rank(group, here + 1), group=group)
        return None

    def _whole_root(self) -> StageStep:
        return StageStep(build(self.spec, device="meta"), make_objective(self.spec))

    def _cut_layers(self) -> None:
        root, stages, here = self.root, self.spec.parallel.pp, self.mesh.pp_rank
        model = root.model
        check_stages(stages, model, root.objective)
        root.layers = layers_of(here, stages, self.spec.model.n_layers)
        root.first, root.last = here == 0, here == stages - 1
        for layer in range(len(model.blocks)):
            if layer not in root.layers:
                model.blocks[layer] = nn.Identity()
        if not root.first:
            model.position = None
            if not (root.last and model.tied):
                model.embedding = nn.Identity()  # type: ignore[assignment]
        if not root.last:
            model.norm = model.head = nn.Identity()  # type: ignore[assignment]
            model.tied = False
        # Every rank makes every group, in the same order.
        ends = [[column[0], column[-1]] for column in self.mesh.columns()]
        self._ends, _ = distributed.new_subgroups_by_enumeration(ends)  # type: ignore[no-untyped-call]

    def _shard(self, root: TrainStep) -> nn.Module:
        module = super()._shard(root)
        for name in ("loss", "last_nats"):
            register_fsdp_forward_method(module, name)
        return module

    def _stages_of(self, name: str) -> Sequence[int]:
        tied = self.spec.model.tie_embeddings and name == "embedding.weight"
        return (0, self.spec.parallel.pp - 1) if tied else (self.mesh.pp_rank,)

    def _collect_gradients(self) -> None:
        super()._collect_gradients()
        for piece in self.pieces:
            if len(piece.holders) > 1 and piece.local.grad is not None:
                distributed.all_reduce(piece.local.grad, group=self._ends)

    @cached_property
    def _chunk(self) -> _Chunk:
        self.root.names, self._before, self._after = self._loss_names()
        return _Chunk(self.root, self.spec.train.precision)

    def _loss_names(self) -> tuple[list[str], int, int]:
        """The losses that blocks return up to the end of this stage, and how many there are before and after it: a small batch tells."""
        ids = torch.zeros(1, self.spec.seq_len, dtype=torch.int64, device=self.device)
        batch = self._own_part(Batch(ids, torch.full_like(ids, IGNORED)))
        with torch.no_grad(), precision.autocast(self.spec.train.precision, self.device):
            _, aux = self.root(batch, None if self.root.first else torch.zeros_like(self._example(1)))
        own: list[list[str]] = [[] for _ in range(self.spec.parallel.pp)]
        distributed.all_gather_object(own, list(aux.losses), group=self.mesh.pp)
        before = [name for names in own[: self.mesh.pp_rank] for name in names]
        return before, len(before), len(before) + len(own[self.mesh.pp_rank])

    def _example(self, rows: int) -> Tensor:
        """A tensor like those that travel between stages."""
        dtype = torch.bfloat16 if self.spec.train.precision == "bf16" else torch.float32
        length = self.spec.seq_len // self.spec.parallel.cp
        return torch.empty(rows, length, self.spec.model.d_model, dtype=dtype, device=self.device)

    def _stage(self, chunk: _Chunk, rows: int) -> PipelineStage:
        def carried(losses: int) -> tuple[Tensor, ...]:
            x = self._example(rows).requires_grad_()
            return (x, torch.empty(rows, losses, device=self.device).requires_grad_()) if losses else (x,)

        outputs = (torch.empty(1, device=self.device).requires_grad_(),) if self.root.last else carried(self._after)
        inputs = () if self.root.first else carried(self._before)
        return PipelineStage(
            chunk, self.mesh.pp_rank, self.spec.parallel.pp, self.device, input_args=inputs, output_args=outputs, group=self.mesh.pp
        )
