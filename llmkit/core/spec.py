"""The spec: a tree of slots, validated whole before anything is built."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from llmkit.core.component import Chosen
from llmkit.core.kinds import Kind
from llmkit.core.slot import Slot

Layout = Literal["pre", "post", "sandwich", "branch_post", "parallel"]
Recompute = Literal["none", "selective", "full"]
Precision = Literal["auto", "fp32", "bf16", "bf16_autocast", "fp16", "fp8"]


class Part(BaseModel):
    """A part of the spec: frozen, nothing extra. It has no component defaults: those lie in `recipes/defaults.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class BlockSpec(Part):
    """One kind of block. Blocks named under `blocks` inherit from `block` before validation."""

    attention: Annotated[Chosen, Slot(Kind.attention)] = Field(description="how tokens read each other")
    ffn: Annotated[Chosen, Slot(Kind.ffn)] = Field(description="what happens to each token by itself")
    norm: Annotated[Chosen, Slot(Kind.norm)] = Field(description="the norms of the block")
    layout: Layout = Field(description="where the norms sit: pre, post, sandwich, branch_post (x + norm(f(x))), parallel")
    position: Annotated[Chosen, Slot(Kind.position)] | None = Field(None, description="a position encoding of this block's own")
    shared_norm: bool = Field(False, description="layout parallel only: attention and ffn read one norm instead of one each")
    residual_scale: float | Literal["depth"] = Field(
        1.0, description="factor on what each branch adds to the residual stream; `depth` is 1 / sqrt(n_layers)"
    )


class Pattern(Part):
    """Which block stands at which layer: `first`, then `repeat` over and over, then `last`."""

    first: list[str] = Field(default_factory=list, description="names of the first layers' blocks")
    repeat: list[str] = Field(description="names repeated until n_layers is reached", min_length=1)
    last: list[str] = Field(default_factory=list, description="names of the last layers' blocks")


class ModelSpec(Part):
    """A decoder-only language model."""

    d_model: PositiveInt = Field(description="width of the residual stream")
    n_layers: PositiveInt = Field(description="number of blocks")
    max_seq_len: PositiveInt = Field(description="the longest sequence, in tokens")
    vocab_size: PositiveInt | None = Field(None, description="rows of the embedding; the tokenizer's size unless given")
    position: Annotated[Chosen, Slot(Kind.position)] = Field(description="the position encoding")
    block: BlockSpec | None = Field(None, description="the block of every layer, or what named blocks inherit from")
    blocks: dict[str, BlockSpec] | None = Field(None, description="named blocks of a hybrid")
    pattern: Pattern | list[str] | None = Field(None, description="which named block stands at which layer")
    norm: Annotated[Chosen, Slot(Kind.norm)] | None = Field(None, description="the final norm; the block's unless given")
    tie_embeddings: bool = Field(False, description="whether the output head is the embedding table")
    init: Annotated[Chosen, Slot(Kind.init)] = Field(description="how large the first values of matrices are")
    embedding_scale: float | Literal["sqrt"] = Field(1.0, description="factor on the embeddings; `sqrt` is sqrt(d_model), Gemma's")
    logit_scale: float = Field(1.0, gt=0, description="factor on the logits, before any soft-cap")
    logit_softcap: float | None = Field(None, gt=0, description="logits become c tanh(logits / c) (Gemma 2); none unless given")

    def layers(self) -> Sequence[str | None]:
        """The block name of every layer; None where all are `block`."""
        if self.blocks is None:
            return [None] * self.n_layers
        pattern = self.pattern
        if pattern is None:
            pattern = list(self.blocks)
        if isinstance(pattern, list):
            pattern = Pattern(repeat=pattern)
        middle = self.n_layers - len(pattern.first) - len(pattern.last)
        repeated = [pattern.repeat[index % len(pattern.repeat)] for index in range(max(middle, 0))]
        return [*pattern.first, *repeated, *pattern.last][: self.n_layers]

    def block_at(self, layer: int) -> BlockSpec:
        """The block specification of a layer."""
        name = self.layers()[layer]
        block = self.block if name is None else (self.blocks or {})[name]
        if block is None:
            raise ValueError("a model needs `block` or `blocks`")
        return block


class DataSpec(Part):
    """Where the text comes from and how it is cut."""

    source: Annotated[Chosen, Slot(Kind.source)] | None = Field(None, description="where documents come from; or give `sources`")
    sources: dict[str, Annotated[Chosen, Slot(Kind.source)]] | None = Field(
        None, description="named sources, read in this order; instead of `source`", min_length=1
    )
    extractor: Annotated[Chosen, Slot(Kind.extractor)] = Field(description="what makes text of pages of HTML, where a source yields them")
    filters: dict[str, Annotated[Chosen, Slot(Kind.filter)]] = Field(
        default_factory=dict, description="named filters, in the order in which documents meet them"
    )
    deduplicators: dict[str, Annotated[Chosen, Slot(Kind.deduplicator)]] = Field(
        default_factory=dict, description="named deduplicators, one after another, on what the filters leave"
    )
    mixer: Annotated[Chosen, Slot(Kind.mixer)] | None = Field(
        None, description="how much of each of `sources` is trained on; as much as there is unless given"
    )
    validation: float = Field(
        0.05, gt=0, lt=1, description="part of the documents held out, chosen by a hash of their content as it was read; unless `holdout`"
    )
    holdout: Annotated[Chosen, Slot(Kind.source)] | None = Field(
        None,
        description="the text that is held out, instead of a part of the source: it is not filtered, and so the same for every cleaning",
    )
    shuffle_documents: bool = Field(
        False, description="whether documents are put in a random order before they are packed; sequences are always read in one"
    )
    mask_documents: bool = Field(False, description="whether packed documents are hidden from each other")
    cache: str = Field("~/.cache/llmkit", description="directory of prepared text, tokenizers and token files")

    @property
    def named_sources(self) -> dict[str, Chosen]:
        """Every source by its name; the only one by that of its type."""
        if self.sources is not None:
            return self.sources
        if self.source is None:
            raise ValueError("data has neither source nor sources")
        return {self.source.type: self.source}


class SpikesSpec(Part):
    """What is done where the loss or the gradient norm is far above what it was, or no number at all."""

    policy: Literal["off", "warn", "skip", "rollback"] = Field(
        "warn",
        description="warn: say it and write it into spikes.jsonl. skip: and do not apply that step's update. rollback: and go back to "
        "the last clean checkpoint, leave out the batches around the spike, learn on, and tell bad data from bad state",
    )
    deviations: float = Field(
        6.0, gt=0, description="a value is anomalous above the mean of those before it plus so many of their standard deviations"
    )
    window: int = Field(128, ge=2, description="how many of the latest values the mean is of; anomalous ones are not among them")
    minimum: int = Field(64, ge=2, description="how many values must have been seen before any is judged")
    patience: PositiveInt = Field(
        8, description="anomalous steps in a row that are skipped; then a loss that is a number is the new level, and another is divergence"
    )
    margin: PositiveInt = Field(100, description="a checkpoint is clean where it is at least so many steps older than the spike")
    suspects: PositiveInt = Field(
        64, description="batches that a rollback leaves out: half of them up to the spike's own, half after it; doubled where it recurs"
    )
    rollbacks: PositiveInt = Field(3, description="how often a run goes back at the same place before it has diverged")

    @model_validator(mode="after")
    def _can_fill_its_window(self) -> Self:
        if self.minimum > self.window:
            raise ValueError(f"minimum {self.minimum} is more than the window of {self.window} values ever holds; lower it or widen window")
        return self


class TrainSpec(Part):
    """How the model is trained."""

    steps: PositiveInt | None = Field(None, description="optimizer steps; or give `tokens`")
    tokens: PositiveInt | None = Field(None, description="tokens to train on, rounded up to whole steps; or give `steps`")
    batch_size: PositiveInt = Field(16, description="sequences in one optimizer step, over all ranks and accumulation")
    micro_batch_size: PositiveInt | None = Field(None, description="sequences that one rank computes at once; what fits unless given")
    seq_len: PositiveInt | None = Field(None, description="tokens in a training sequence; max_seq_len unless given")
    objective: Annotated[Chosen, Slot(Kind.objective)] = Field(description="what is minimised")
    optimizer: Annotated[Chosen, Slot(Kind.optimizer)] = Field(description="how")
    schedule: Annotated[Chosen, Slot(Kind.schedule)] = Field(description="the learning rate over the steps")
    precision: Precision = Field(
        "auto",
        description="auto is bf16 where the machine computes it fast, else fp32. bf16: bf16 weights with fp32 masters; "
        "bf16_autocast: fp32 weights, products in bf16; fp8: as bf16, with the blocks' large products in 8 bits, on GPUs that have them "
        "(needs torchao)",
    )
    grad_clip: float | None = Field(1.0, gt=0, description="largest global gradient norm; null for none")
    compile: bool = Field(False, description="whether blocks are compiled with torch.compile")
    recompute: Recompute = Field(
        "none",
        description="what the backward pass computes again to save memory: full is all of a block but its input; selective all but "
        "matrix products and attention",
    )
    offload_optimizer: bool = Field(
        False, description="whether fp32 weights and the optimizer's state live in the CPU's memory, which then does the update"
    )
    checkpoint_every: PositiveInt | None = Field(None, description="steps between checkpoints; the last step always leaves one")
    keep_checkpoints: PositiveInt | None = Field(2, description="how many of the latest checkpoints stay; null for all")
    keep_every: PositiveInt | None = Field(None, description="checkpoints of steps that it divides stay for ever")
    keep_best: bool = Field(False, description="whether the checkpoint with the lowest validation loss stays")
    eval_every: PositiveInt | None = Field(None, description="steps between evaluations; the end always has one")
    eval_sequences: PositiveInt | None = Field(None, description="validation sequences in an evaluation on the way; null for all")
    sample_every: PositiveInt | None = Field(None, description="steps between text samples")
    sample_prompts: list[str] = Field(default_factory=lambda: [""], description="prompts of the text samples")
    sample_tokens: PositiveInt = Field(64, description="tokens of a text sample")
    spikes: SpikesSpec = Field(default_factory=SpikesSpec, description="what is done where the loss or the gradient jumps")
    trackers: list[str] = Field(default_factory=list, description="accelerate's trackers, such as tensorboard or wandb")
    seed: int = Field(0, ge=0, description="seeds initial values, data order and dropout, each with a stream of its own")
    init_seed: int | None = Field(None, ge=0, description="seeds initial values instead of `seed`")
    data_seed: int | None = Field(None, ge=0, description="seeds the data order instead of `seed`")

    @model_validator(mode="after")
    def _can_go_back(self) -> Self:
        if self.spikes.policy == "rollback" and self.checkpoint_every is None:
            raise ValueError("spikes.policy rollback needs checkpoints to go back to; give checkpoint_every, or choose warn or skip")
        return self


class ParallelSpec(Part):
    """How the model and its batches are spread over ranks: the degrees multiply to their number. It changes nothing but rounding.

    Where every degree is 1, each rank has the whole model and a part of the batch, however many there are.
    """

    dp_replicate: PositiveInt = Field(1, description="copies of the model that each read a part of the batch (with dp_shard: HSDP)")
    dp_shard: PositiveInt = Field(1, description="ranks that share parameters, gradients and optimizer state of a copy (FSDP2)")
    tp: PositiveInt = Field(1, description="ranks that share every matrix which its component offers to cut: by head, column or row")
    cp: PositiveInt = Field(1, description="ranks that share every sequence; keys and values are gathered over them")
    pp: PositiveInt = Field(1, description="stages of consecutive layers, which micro-batches pass one after another")
    schedule: Literal["1f1b", "gpipe"] = Field(
        "1f1b", description="order of the micro-batches in a pipeline: 1f1b keeps at most pp of them in memory, gpipe all"
    )

    def degrees(self) -> dict[str, int]:
        """Ranks along each axis."""
        return {"dp_replicate": self.dp_replicate, "dp_shard": self.dp_shard, "tp": self.tp, "cp": self.cp, "pp": self.pp}

    @property
    def ranks(self) -> int:
        """How many ranks there must be."""
        return math.prod(self.degrees().values())

    @property
    def data_ranks(self) -> int:
        """Into how many shares a batch is cut."""
        return self.dp_replicate * self.dp_shard


class Spec(Part):
    """The whole: what `load_spec` returns and `build` takes."""

    llmkit: Literal[1] = Field(1, description="version of the spec's form")
    name: str = Field(description="the run's name; the file's stem unless given")
    requires: list[str] = Field(default_factory=list, description="distributions that must be installed, as pip writes them")
    tokenizer: Annotated[Chosen, Slot(Kind.tokenizer)] = Field(description="text to integers and back")
    model: ModelSpec
    data: DataSpec
    train: TrainSpec
    parallel: ParallelSpec = Field(default_factory=ParallelSpec, description="how it is spread over ranks")
    eval: list[Annotated[Chosen, Slot(Kind.evaluator)]] = Field(default_factory=list, description="evaluators that `llmkit eval` runs")

    @property
    def vocab_size(self) -> int:
        """Rows of the embedding: the model's own, or the tokenizer's."""
        return self.model.vocab_size or int(self.tokenizer.params.vocab_size)

    @property
    def seq_len(self) -> int:
        """Tokens in a training sequence."""
        return self.train.seq_len or self.model.max_seq_len

    @property
    def init_seed(self) -> int:
        """What seeds initial values: `train.seed`, unless they have a seed of their own."""
        return self.train.seed if self.train.init_seed is None else self.train.init_seed

    @property
    def data_seed(self) -> int:
        """What seeds the data order, likewise."""
        return self.train.seed if self.train.data_seed is None else self.train.data_seed

    @property
    def steps(self) -> int:
        """Optimizer steps of the whole run."""
        if self.train.steps is not None:
            return self.train.steps
        if self.train.tokens is None:
            raise ValueError("train has neither steps nor tokens")
        return -(-self.train.tokens // (self.train.batch_size * self.seq_len))

    def slots(self) -> Iterator[tuple[str, Kind, Chosen]]:
        """Every slot of the spec with its address, nested ones included, in the order of the spec."""
        yield from _slots(self, "")


def _slots(value: Any, address: str) -> Iterator[tuple[str, Kind, Chosen]]:
    if isinstance(value, Chosen):
        yield address, value.component.kind, value
        value = value.params
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _slots(getattr(value, name), f"{address}.{name}" if address else name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _slots(item, f"{address}.{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _slots(item, f"{address}.{index}")
