"""Each law catches the mistake that it is meant for: components broken on purpose, one mistake each."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from llmkit import (
    Attention,
    Aux,
    Document,
    FeedForward,
    KVCache,
    Norm,
    Optimizer,
    Params,
    Position,
    Schedule,
    Site,
    Source,
    attend,
    catalog,
)
from llmkit.core.component import Component
from llmkit.core.interfaces.attention import Context
from llmkit.core.interfaces.evaluator import Evaluation, Evaluator, Score
from llmkit.core.interfaces.objective import Batch, LanguageModule, Loss, Objective
from llmkit.core.interfaces.optimizer import NamedParameter
from llmkit.core.interfaces.position import Tables
from llmkit.core.kinds import Kind
from llmkit.plugins.attention.components import MHAParams
from llmkit.plugins.attention.multihead import MultiHeadAttention
from llmkit.plugins.objectives.causal import Causal
from llmkit.plugins.objectives.components import CausalParams
from llmkit.plugins.optimizers.adamw import AdamW
from llmkit.plugins.optimizers.components import AdamWParams
from llmkit.plugins.tokenizers.components import BytesParams
from llmkit.plugins.tokenizers.utf8 import Utf8
from llmkit.testing import LawBroken, cases

BOTH = frozenset({"rotate", "bias"})


class Nothing(Params):
    """No parameters."""


class Sized(Params):
    lr: float = Field(1e-2, description="learning rate")


PARAMS: dict[Kind, type[Params]] = {
    Kind.attention: MHAParams,
    Kind.tokenizer: BytesParams,
    Kind.optimizer: AdamWParams,
    Kind.objective: CausalParams,
}


def caught(kind: Kind, cls: type, law: str, **changes: Any) -> str:
    """What the law says of a component made of this class."""
    params = changes.pop("params", PARAMS.get(kind, Nothing))
    offers = changes.pop("offers", BOTH if kind is Kind.attention else frozenset())
    given = changes.pop("given", None)
    component = Component(kind, "broken.one", params, f"{__name__}:{cls.__qualname__}", "broken on purpose", offers=offers, **changes)
    tried = cases([component], catalog(), None if given is None else {component.name: [given]})
    for case in (case for case in tried if case.law.name == law):
        with pytest.raises(LawBroken) as broken:
            case()
        assert broken.value.__cause__ is None, broken.value
        return str(broken.value)
    raise AssertionError(f"there is no law called {law}")


class Plain(nn.Module):
    """Takes its parameters and its site, and needs neither."""

    def __init__(self, params: Params, site: Site) -> None:
        super().__init__()


class SeesOneAhead(MultiHeadAttention):
    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        q, k, v = (self._split(part) for part in (self.query(x), self.key(x), self.value(x)))
        ahead = ctx._replace(positions=ctx.positions + 1, plain=False, masks={})
        mask = ahead.positions[:, :, None] >= ctx.positions[:, None, :]
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
        return self.output(y.transpose(1, 2).flatten(2))


class OnePositionOff(KVCache):
    def _write(self, new: Sequence[Tensor], positions: Tensor) -> None:
        super()._write(new, positions)
        self._positions.add_((self._positions > 0).long())


class WritesOneOff(MultiHeadAttention):
    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        return OnePositionOff(batch, self.kv_heads, self.width, max_len, like=like)


class ShortRing(MultiHeadAttention):
    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        return KVCache(batch, self.kv_heads, self.width, max_len, like=like, window=(self.window or max_len) - 2)


class Hasty(KVCache):
    def truncate(self, n: int) -> None:
        super().truncate(n - 1)


class TruncatesOneTooMany(MultiHeadAttention):
    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        return Hasty(batch, self.kv_heads, self.width, max_len, like=like)


class Deaf(KVCache):
    def select(self, rows: Tensor) -> None:
        pass


class NeverSelects(MultiHeadAttention):
    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        return Deaf(batch, self.kv_heads, self.width, max_len, like=like)


class MixesRows(MultiHeadAttention):
    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        return super().forward(x, ctx, cache) + 0.1 * x.mean(dim=0, keepdim=True)


class IgnoresPositions(MultiHeadAttention):
    """Masks by place in the row: right without padding and packing, which is how such a mistake survives."""

    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        if cache is not None:
            return super().forward(x, ctx, cache)
        return super().forward(x, ctx._replace(plain=True), cache)


class TurnsKeysOtherwise(MultiHeadAttention):
    """Queries are turned in halves, keys as interleaved pairs."""

    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        q, k, v = (self._split(part) for part in (self.query(x), self.key(x), self.value(x)))
        if self.position.width:
            tables = ctx.tables[self.position.key]
            q = self.position.rotate(q, tables)
            order = torch.arange(self.width).view(-1, 2).t().flatten()
            k = self.position.rotate(k[..., order], tables)[..., order.argsort()]
        return self.output(attend(q, k, v, ctx, cache).transpose(1, 2).flatten(2))


class MixesNothing(MultiHeadAttention):
    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        return self.output(self.query(x))


class KeepsItsOwnNumbers(MultiHeadAttention):
    def __init__(self, params: MHAParams, site: Site) -> None:
        super().__init__(params, site)
        self.register_buffer("offset", torch.randn(site.d_model))

    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        return super().forward(x, ctx, cache) + self.offset


class ForgetsItsBuffer(MultiHeadAttention):
    def __init__(self, params: MHAParams, site: Site) -> None:
        super().__init__(params, site)
        self.register_buffer("offset", torch.ones(site.d_model), persistent=False)

    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        return super().forward(x, ctx, cache) + self.offset


class DrawsFromTheGlobalGenerator(MultiHeadAttention):
    def __init__(self, params: MHAParams, site: Site) -> None:
        super().__init__(params, site)
        self.gate = nn.Parameter(torch.empty(site.d_model))

    def initial(self, name: str, shape: torch.Size, generator: torch.Generator) -> Tensor | None:
        return torch.randn(shape)


class ReadsItsLayer(MultiHeadAttention):
    def __init__(self, params: MHAParams, site: Site) -> None:
        super().__init__(params, site)
        self.layer = site.layer

    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        return super().forward(x, ctx, cache) / (1 + self.layer)


class CountsItsSteps(KVCache):
    def update(self, k: Tensor, v: Tensor, positions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.steps = getattr(self, "steps", 0) + k.shape[2]
        keys, values, k_pos = super().update(k, v, positions)
        return keys[:, :, : self.steps], values[:, :, : self.steps], k_pos[:, : self.steps]


class SaysNothingBeforehand(KVCache):
    @property
    def nbytes(self) -> int:
        return super().nbytes if (self._positions >= 0).any() else 0


class AllocatesLater(MultiHeadAttention):
    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        return SaysNothingBeforehand(batch, self.kv_heads, self.width, max_len, like=like)


class GrowsWithEveryStep(MultiHeadAttention):
    """What the textbook does: the keys so far, one more at every step, and so another shape at every step."""

    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        return CountsItsSteps(batch, self.kv_heads, self.width, max_len, like=like)


class AsksATensor(MultiHeadAttention):
    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        return super().forward(x, ctx, cache) * float(x.sum().item() > 0)


class MeasuredByHand(KVCache):
    @property
    def nbytes(self) -> int:
        return -1


class UnmeasuredCache(MultiHeadAttention):
    def new_cache(self, batch: int, max_len: int, *, like: Tensor) -> KVCache:
        return MeasuredByHand(batch, self.kv_heads, self.width, max_len, like=like)


class DividesByWhatIsSeen(MultiHeadAttention):
    """The backward pass of a square root at zero, where padding has nothing to see."""

    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        seen = (ctx.positions >= 0)[..., None]
        return super().forward(x, ctx, cache) + (x * seen).square().sum(dim=-1, keepdim=True).sqrt()


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (SeesOneAhead, "causal", "of 2 tokens, changing token 1 changes an output before it"),
        (WritesOneOff, "cached_equals_uncached", "in chunks of [1, 1] tokens"),
        (TruncatesOneTooMany, "truncated_cache_equals_a_shorter_one", "truncated to"),
        (NeverSelects, "selected_cache_rows_go_on", "rows are mixed up"),
        (MixesRows, "rows_are_independent", "row 0 of 2 differs from the same row alone"),
        (IgnoresPositions, "left_padding_changes_nothing", "of padding have other logits than alone"),
        (IgnoresPositions, "packed_documents_are_separate", "packed in a row differs from itself alone"),
        (TurnsKeysOtherwise, "beside_a_rotation_only_distance_matters", "2 tokens from position 1 on"),
        (MixesNothing, "tokens_are_mixed", "of 2 tokens"),
        (KeepsItsOwnNumbers, "initial_values_come_from_the_model", "blocks.0.attention.offset"),
        (DrawsFromTheGlobalGenerator, "initial_values_come_from_the_model", "blocks.0.attention.gate"),
        (ForgetsItsBuffer, "saved_and_loaded_is_the_same", "nan"),
        (ForgetsItsBuffer, "initial_values_come_from_the_model", "reset_buffers"),
        (DividesByWhatIsSeen, "gradients_are_finite", "is not finite: nan"),
        (ReadsItsLayer, "compiles_once", "a forward pass of 2 blocks that are alike were compiled 2 times"),
        (AsksATensor, "forward_asks_no_tensor", "(2, 6) tokens alone: Tensor.item() cannot be called on meta tensors"),
        (AllocatesLater, "a_cache_holds_what_it_said", "a cache that has read 1 rows of 1 tokens holds"),
        (UnmeasuredCache, "new_cache_needs_no_memory_to_be_measured", "is -1"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_a_broken_attention_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.attention, cls, law)


def test_a_ring_that_is_too_short_is_caught_with_a_window() -> None:
    said = caught(Kind.attention, ShortRing, "cached_equals_uncached", given={"n_heads": 4, "window": 3})
    assert "in chunks of" in said and "window=3" in said


def test_a_cache_whose_shape_grows_is_caught_by_its_compilations() -> None:
    assert "decode steps" in caught(Kind.attention, GrowsWithEveryStep, "compiles_once")


class TurnsToFp32(MultiHeadAttention):
    def forward(self, x: Tensor, ctx: Context, cache: Any = None) -> Tensor:
        return super().forward(x, ctx, cache).float()


def test_what_makes_the_model_itself_fail_is_a_broken_law_with_its_cause() -> None:
    component = Component(Kind.attention, "broken.one", MHAParams, f"{__name__}:TurnsToFp32", "broken", offers=BOTH)
    case = next(case for case in cases([component], catalog()) if case.law.name == "keeps_the_dtype")
    with pytest.raises(LawBroken, match=r"broken.one n_heads=4 .*raises RuntimeError: ") as broken:
        case()
    assert isinstance(broken.value.__cause__, RuntimeError)


class Stretches(Plain, Position):
    """Divides by the longest position in sight, so that a longer text changes what was said of a shorter one."""

    def tables(self, positions: Tensor) -> Tables:
        return {"longest": positions.max() + 1}

    def bias(self, q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
        return (k_pos - q_pos) / tables["longest"]


class AddsAngles(Plain, Position):
    """Not a rotation: the second half has the wrong sign."""

    def tables(self, positions: Tensor) -> Tables:
        angles = positions[:, None, :, None].float() * torch.tensor([1.0, 0.1, 0.01, 0.001])
        return {"cos": angles.cos(), "sin": angles.sin()}

    def rotate(self, x: Tensor, tables: Tables) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * tables["cos"] + b * tables["sin"], b * tables["cos"] + a * tables["sin"]], dim=-1)


class SwapsTheLayout(Plain, Position):
    """Angles for neighbouring channels, turned as if for halves: the two published layouts of rotary positions, mixed up."""

    def tables(self, positions: Tensor) -> Tables:
        angles = positions[:, None, :, None].float() * torch.tensor([1.0, 0.1, 0.01, 0.001]).repeat_interleave(2)
        return {"cos": angles.cos(), "sin": angles.sin()}

    def rotate(self, x: Tensor, tables: Tables) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        return x * tables["cos"] + torch.cat([-b, a], dim=-1) * tables["sin"]


class TurnsNothing(Plain, Position):
    def rotate(self, x: Tensor, tables: Tables) -> Tensor:
        return x * 1


class LooksAround(Plain, Position):
    """The bias of a key depends on the other keys."""

    def bias(self, q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
        return 0.1 * (k_pos - q_pos - k_pos.float().mean()) * (head + 1)


class InfiniteInTheFuture(Plain, Position):
    def bias(self, q_pos: Tensor, k_pos: Tensor, head: Tensor, tables: Tables) -> Tensor:
        return torch.log((q_pos - k_pos + 1).clamp(min=0).float()) * (head + 1)


@pytest.mark.parametrize(
    ("cls", "offers", "law", "says"),
    [
        (Stretches, "bias", "cached_equals_uncached", "in chunks of"),
        (AddsAngles, "rotate", "rotation_is_relative", "give another product"),
        (SwapsTheLayout, "rotate", "rotation_is_relative", "a query at 0 and a key at 0 give another product than one at 1 and 1"),
        (TurnsNothing, "rotate", "rotation_keeps_distances_apart", "at distances 0 and 1"),
        (LooksAround, "bias", "bias_is_elementwise", "the score alone differs"),
        (LooksAround, "bias", "bias_agrees_with_a_dense_mask", "through a dense mask"),
        (InfiniteInTheFuture, "bias", "bias_is_elementwise", "not finite"),
        (TurnsNothing, "", "traits_tell_what_it_does", "overrides `rotate` and does not offer it"),
    ],
)  # fmt: skip
def test_a_broken_position_is_caught(cls: type, offers: str, law: str, says: str) -> None:
    assert says in caught(Kind.position, cls, law, offers=frozenset(offers.split()), needs=frozenset(offers.split()))


class NoEpsilon(Plain, Norm):
    def forward(self, x: Tensor) -> Tensor:
        return x / x.square().mean(dim=-1, keepdim=True).sqrt()


class SquaresInHalf(Plain, Norm):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-4) + x.square() * 0


class OverTheBatch(Plain, Norm):
    def forward(self, x: Tensor) -> Tensor:
        return x / (x.float().square().mean() + 1e-6).sqrt().to(x.dtype)


class AlwaysFp32(Plain, Norm):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.layer_norm(x.float(), x.shape[-1:])


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (NoEpsilon, "zeros_and_large_numbers_stay_finite", "a row of zeros in torch.float32"),
        (SquaresInHalf, "zeros_and_large_numbers_stay_finite", "a row of numbers around 1e4 in torch.float16"),
        (OverTheBatch, "every_row_is_normed_by_itself", "row 0, token 0"),
        (OverTheBatch, "causal", "changing token 1"),
        (AlwaysFp32, "shape_and_dtype_stay", "in torch.bfloat16 becomes (32,) in torch.float32"),
    ],
)
def test_a_broken_norm_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.norm, cls, law)


class MixesTokens(Plain, FeedForward):
    """Causal, and yet no FFN."""

    def forward(self, x: Tensor) -> Tensor:
        return x.cumsum(dim=1)


class BatchLoss(Plain, FeedForward):
    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        return x * 2, Aux({"balance": x.square().mean().expand(x.shape[0])}, {})


class LossAScalar(Plain, FeedForward):
    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        return x * 2, Aux({"balance": x.square().sum()}, {})


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (MixesTokens, "every_token_by_itself", "token 1 of row 0"),
        (MixesTokens, "cached_equals_uncached", "in chunks of [1, 1]"),
        (BatchLoss, "auxiliary_losses_are_of_one_sequence", "'balance' of sequence 0 of 3"),
        (LossAScalar, "auxiliary_losses_are_of_one_sequence", "must be (3,)"),
    ],
)
def test_a_broken_ffn_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.ffn, cls, law)


class Obedient(Utf8):
    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        return super().encode(text, specials=True)


class Tidy(Utf8):
    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        return super().encode(text.strip(), specials=specials)


class Greeting(Utf8):
    def encode(self, text: str, *, specials: bool = False) -> list[int]:
        return [self.eos_id, *super().encode(text, specials=specials)]


class Batching(Utf8):
    def encode_batch(self, texts: Sequence[str], *, specials: bool = False) -> list[list[int]]:
        return [self.encode(text) for text in texts]


class Abridging(Utf8):
    def encode_arrays(self, texts: Sequence[str]) -> list[Any]:
        return [ids[:1000] for ids in super().encode_arrays(texts)]


class ByteSpans(Utf8):
    def encode_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        ids = self.encode(text)
        return ids, [(index, index + 1) for index in range(len(ids))]


class Forgetful(Utf8):
    @classmethod
    def load(cls, params: Any, directory: Path) -> Any:
        return cls.train(BytesParams(special_tokens=["<|other|>"]), ())


class Wordless(Utf8):
    @classmethod
    def load(cls, params: Any, directory: Path) -> Any:
        return super().load(params.model_copy(update={"chat_template": None}), directory)


class Speechless(Utf8):
    @property
    def chat_template(self) -> str | None:
        return None


class Undeclared(Utf8):
    @property
    def vocab_size(self) -> int:
        return super().vocab_size + 1


class Boundless(Utf8):
    @property
    def vocab_size(self) -> int:
        return 200


class Restless(Utf8):
    def fingerprint(self) -> str:
        return str(random.random())


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (Obedient, "plain_text_never_makes_a_special_token", "encode('<|endoftext|>') makes <|endoftext|>"),
        (Tidy, "text_survives_the_round_trip", "' ' comes back as ''"),
        (Greeting, "nothing_is_added_at_the_ends", "encode('', specials=False)"),
        (Batching, "a_batch_is_its_texts_one_by_one", "'<|endoftext|>' in a batch has other ids"),
        (Abridging, "a_batch_is_its_texts_one_by_one", "encode_arrays gives other ids"),
        (ByteSpans, "spans_cover_the_text", "naïve"),
        (Forgetful, "saved_and_loaded_gives_the_same_ids", "special_tokens"),
        (Wordless, "a_chat_template_survives_saving_and_loading", "saved and loaded once, chat_template is None"),
        (Speechless, "a_chat_template_survives_saving_and_loading", "the tokenizer has none"),
        (Undeclared, "ids_are_below_the_vocabulary_size", "declare"),
        (Boundless, "ids_are_below_the_vocabulary_size", "vocab_size is 200"),
        (Restless, "training_is_a_function_of_the_text", "different fingerprints"),
    ],
)
def test_a_broken_tokenizer_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.tokenizer, cls, law)


class KeepsMomentumToItself(torch.optim.SGD):
    """State in an attribute: it is in no state_dict."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        velocity = self.__dict__.setdefault("velocity", {})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    velocity[parameter] = 0.9 * velocity.get(parameter, 0) + parameter.grad
                    parameter.data.sub_(velocity[parameter], alpha=group["lr"])


class LosesState(Optimizer):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        group = {"params": [item.parameter for item in parameters], "initial_lr": self.params.lr}
        return KeepsMomentumToItself([group], lr=self.params.lr)


class NoInitial(Optimizer):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD([item.parameter for item in parameters], lr=self.params.lr)


class LeavesVectorsOut(AdamW):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        return super().build([item for item in parameters if item.role != "vector"])


class Climbs(Optimizer):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        group = {"params": [item.parameter for item in parameters], "initial_lr": self.params.lr}
        return torch.optim.SGD([group], lr=self.params.lr, maximize=True)


class IgnoresTheSchedule(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.data.sub_(parameter.grad, alpha=group["initial_lr"])


class FixedRate(Optimizer):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        group = {"params": [item.parameter for item in parameters], "initial_lr": self.params.lr}
        return IgnoresTheSchedule([group], lr=self.params.lr)


class Decays(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.mul_(1 - group["lr"])


class DecaysWithoutGradient(Optimizer):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        group = {"params": [item.parameter for item in parameters], "initial_lr": self.params.lr}
        return Decays([group], lr=self.params.lr)


class FollowsTheLast(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    last = self.state[parameter].get("last", parameter.grad)
                    parameter.data.sub_(last + parameter.grad, alpha=group["lr"])
                    self.state[parameter]["last"] = parameter.grad


class KeepsGradients(Optimizer):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        group = {"params": [item.parameter for item in parameters], "initial_lr": self.params.lr}
        return FollowsTheLast([group], lr=self.params.lr)


class ScalesNothing(AdamW):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        return super().build([item._replace(lr_scale=1.0) for item in parameters])


class MovesWhereItEvaluates(AdamW):
    """Goes to the average of the weights and comes back by arithmetic, which rounds."""

    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        self.weights = [item.parameter.data for item in parameters]
        return super().build(parameters)

    def eval_mode(self) -> None:
        torch._foreach_mul_(self.weights, 0.3)

    def train_mode(self) -> None:
        torch._foreach_div_(self.weights, 0.3)


class Noisy(torch.optim.SGD):
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.data.add_(torch.randn_like(parameter), alpha=group["lr"])


class Random(Optimizer):
    def build(self, parameters: Sequence[NamedParameter]) -> torch.optim.Optimizer:
        group = {"params": [item.parameter for item in parameters], "initial_lr": self.params.lr}
        return Noisy([group], lr=self.params.lr)


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (LosesState, "state_goes_round", "after 3 steps, a save and 2 steps more, embedding.weight"),
        (NoInitial, "every_parameter_is_in_one_group", "no initial_lr"),
        (LeavesVectorsOut, "every_parameter_is_in_one_group", "norm.weight (vector) is in 0 groups"),
        (Climbs, "a_quadratic_gets_smaller", "embedding.weight (embedding)"),
        (FixedRate, "the_learning_rate_is_read_at_every_step", "with lr 0"),
        (DecaysWithoutGradient, "a_parameter_without_a_gradient_stays", "had no gradient"),
        (KeepsGradients, "what_is_kept_of_a_gradient_is_a_copy", "clone what is kept"),
        (ScalesNothing, "lr_scale_is_a_factor_on_the_learning_rate", "query.weight has lr_scale 0.5"),
        (MovesWhereItEvaluates, "an_evaluation_changes_nothing", "before each of 5 steps, embedding.weight"),
        (Random, "same_gradients_make_the_same_update", "differs"),
    ],
)
def test_a_broken_optimizer_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.optimizer, cls, law)


class Downhill(Schedule):
    def __call__(self, step: int, total: int) -> float:
        return 1 - step / 5


class FromNothing(Schedule):
    def __call__(self, step: int, total: int) -> float:
        return step / total


class Remembers(Schedule):
    calls = 0

    def __call__(self, step: int, total: int) -> float:
        self.calls += 1
        return 1 / self.calls


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (Downhill, "factors_are_finite_and_never_negative", "step 6 of 10"),
        (FromNothing, "factors_are_finite_and_never_negative", "the first of 1 steps"),
        (Remembers, "a_factor_depends_on_step_and_total_alone", "asked again"),
    ],
)
def test_a_broken_schedule_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.schedule, cls, law)


class MeanOfTheBatch(Causal):
    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        loss = super().forward(model, batch)
        return loss._replace(total=loss.total / self.count(batch).clamp(min=1))


class CountsWhatIsIgnored(Causal):
    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        return super().forward(model, batch._replace(targets=batch.targets.clamp(min=0)))


class Weightless(Causal):
    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        return super().forward(model, batch._replace(weights=None))


class DragsTheGraph(Causal):
    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        loss = super().forward(model, batch)
        return loss._replace(metrics={"loss": loss.total})


class DividesByNone(Plain, Objective):
    def forward(self, model: LanguageModule, batch: Batch) -> Loss:
        h, _ = model.features(batch)
        counted = (batch.targets >= 0)[..., None]
        total = (h * counted).sum() / counted.sum()
        return Loss(total, {"loss": total.detach()}, {})


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (MeanOfTheBatch, "total_is_a_sum", "the total of 3 rows"),
        (CountsWhatIsIgnored, "a_row_that_counts_nothing_adds_nothing", "changes the total"),
        (Weightless, "weights_weigh", "a weight of 0 at token 2"),
        (DragsTheGraph, "total_is_a_scalar_in_fp32", "'loss' is no detached scalar"),
        (DividesByNone, "a_row_that_counts_nothing_adds_nothing", ""),
    ],
)
def test_a_broken_objective_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.objective, cls, law)


class MeanOverBatches(Evaluator):
    """The mean of the means of batches, as unequal batches punish it."""

    def __call__(self, lm: Any, documents: Iterable[Document] | None = None) -> Evaluation:
        nats = [score.nats for score in lm.stream(documents or ())]
        size = lm.batch_size
        means = [sum(nats[start : start + size]) / len(nats[start : start + size]) for start in range(0, len(nats), size)]
        return Evaluation([Score("nats", sum(means) / len(means), None, len(nats))], [])


class Gambles(Evaluator):
    def __call__(self, lm: Any, documents: Iterable[Document] | None = None) -> Evaluation:
        return Evaluation([Score("luck", random.random(), None, 1)], [])


class ReadsTwice(Evaluator):
    def __call__(self, lm: Any, documents: Iterable[Document] | None = None) -> Evaluation:
        first, second = list(documents or ()), list(documents or ())
        return Evaluation([Score("count", float(len(first) + len(second)), None, 1)], [])


class SaysItTwice(Evaluator):
    def __call__(self, lm: Any, documents: Iterable[Document] | None = None) -> Evaluation:
        return Evaluation([Score("a", 1.0, None, 1), Score("a", 2.0, None, 1)], [])


class NegativeError(Evaluator):
    def __call__(self, lm: Any, documents: Iterable[Document] | None = None) -> Evaluation:
        return Evaluation([Score("a", 1.0, -math.inf, 1)], [])


class Nameless(Evaluator):
    def __call__(self, lm: Any, documents: Iterable[Document] | None = None) -> Evaluation:
        return Evaluation([Score("a", 1.0, None, 1)], [{"value": 1}])


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (MeanOverBatches, "scores_do_not_depend_on_the_batch_size", "with batches of 2 and of 16"),
        (Gambles, "scores_are_the_same_every_time", "evaluated twice, the value of luck"),
        (ReadsTwice, "documents_are_read_once", "given as an iterator and as a list"),
        (SaysItTwice, "scores_are_well_formed", "['a', 'a']"),
        (NegativeError, "scores_are_well_formed", "-inf"),
        (Nameless, "scores_are_well_formed", "has no id"),
    ],
)
def test_a_broken_evaluator_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.evaluator, cls, law)


class Overlapping(Source):
    names: Sequence[str] = ("a", "b", "c")

    def documents(self, shard: int, of: int) -> Iterator[Document]:
        yield from (Document(name, f"text {name}") for name in self.names)

    def fingerprint(self) -> str:
        return "fixed"


class Shuffled(Overlapping):
    def documents(self, shard: int, of: int) -> Iterator[Document]:
        yield Document("a", f"text {random.random()}")


class Twins(Overlapping):
    names = ("a", "b", "a")


class Empty(Overlapping):
    names = ()


class NewEveryTime(Overlapping):
    def fingerprint(self) -> str:
        return str(random.random())


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (Overlapping, "shards_together_are_the_whole", "2 shards together have 6 documents, the whole has 3"),
        (Shuffled, "documents_come_in_the_same_order", "document 0"),
        (Twins, "documents_have_text_and_their_own_id", "document 2 has the id 'a'"),
        (Empty, "documents_have_text_and_their_own_id", "no document"),
        (NewEveryTime, "fingerprint_stays_where_nothing_changed", "different fingerprints"),
    ],
)
def test_a_broken_source_is_caught(cls: type, law: str, says: str) -> None:
    assert says in caught(Kind.source, cls, law)


class Bare(Params):
    rate: float = 1.0


class Thawed(Params):
    model_config = ConfigDict(frozen=False)


class Secretive(Params):
    rate: float = Field(1.0, description="never written down", exclude=True)


class NoInterface:
    def __init__(self, params: Any) -> None:
        self.params = params


def test_a_component_declared_wrongly_is_caught() -> None:
    declared = "parameters_are_frozen_complete_and_described"
    assert "Bare.rate has no description" in caught(Kind.schedule, Downhill, declared, params=Bare)
    assert "Thawed changes frozen" in caught(Kind.schedule, Downhill, declared, params=Thawed)
    written = caught(Kind.schedule, Downhill, "parameters_survive_being_written_down", params=Secretive, given={"rate": 2.0})
    assert "comes back as" in written
    assert "no subclass of llmkit.Schedule" in caught(Kind.schedule, NoInterface, "target_satisfies_the_interface")


@pytest.mark.parametrize(("top", "hook"), [("import numpy", "return []"), ("", "import numpy; return []"), ("", "return []")])
def test_a_plugin_that_imports_something_heavy_to_register_is_caught(
    top: str, hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"plugin_{abs(hash((top, hook)))}"
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").write_text(f"import llmkit\n@llmkit.hookimpl\ndef llmkit_components():\n    {hook}\n")
    (package / "params.py").write_text(f"{top}\nfrom llmkit import Params\nclass P(Params):\n    pass\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    params = __import__(f"{name}.params", fromlist=["P"]).P
    component = Component(Kind.schedule, "heavy.one", params, f"{__name__}:Downhill", "")
    case = next(case for case in cases([component], catalog()) if case.law.name == "registration_imports_nothing_heavy")
    if "numpy" not in top + hook:
        case()
        return
    with pytest.raises(LawBroken, match=f"importing {name}.params and calling its hook imports numpy"):
        case()


def test_a_target_that_is_not_there_is_caught() -> None:
    component = Component(Kind.norm, "gone.norm", Nothing, "nowhere.at:All", "")
    case = next(case for case in cases([component], catalog()) if case.law.name == "target_satisfies_the_interface")
    with pytest.raises(LawBroken, match=r"'nowhere.at:All' cannot be imported: No module named"):
        case()


def test_the_attention_these_are_broken_from_keeps_the_same_laws() -> None:
    """Else what was caught above might be something else."""
    component = Component(Kind.attention, "sound.one", MHAParams, "llmkit.plugins.attention.multihead:MultiHeadAttention", "", offers=BOTH)
    for case in cases([component], catalog(), {"sound.one": [{"n_heads": 4}]}):
        case()


def test_attention_is_an_interface_that_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError):
        Attention().forward(torch.zeros(1, 1, 4), None)  # type: ignore[arg-type]
