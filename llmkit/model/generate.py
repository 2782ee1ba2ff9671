"""Text from a model, token by token, through its caches.

Rows of unequal length stand flush right, so that the next token of every row is in the same column; what stands to the left of a
prompt is padding, with position -1. Every decoding step has the same shapes, whatever rows have finished.

Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from llmkit.core.errors import UserError
from llmkit.core.interfaces.attention import Caches
from llmkit.model.decoder import Decoder
from llmkit.model.decoding import Decoding

PREFILL_TOKENS = 2048
"""Prompt tokens read in one forward pass, over all rows: their logits exist at once, and with a large vocabulary would fill the memory."""

OnToken = Callable[[int, int], None]
"""Called with (row, id) as each token is made, in the order of the rows."""

Stops = Callable[[Sequence[int]], bool]
"""Whether a row ends after these new ids."""


def generate(
    model: Decoder | Decoding,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int = 0,
    stop_ids: Set[int] = frozenset(),
    stops: Stops | None = None,
    vocab_limit: int | None = None,
    on_token: OnToken | None = None,
) -> list[list[int]]:
    """A completion of every prompt: the new ids, without the prompt and without the token that stopped it.

    model        a `Decoding` decodes in its precision, compiled where it is; a `Decoder` as it is
    temperature  the logits are divided by it; 0 takes the likeliest token
    top_k        of the k likeliest tokens only
    top_p        of the smallest set of likeliest tokens whose probability reaches p only, after top_k (arXiv 1904.09751)
    min_p        of the tokens at least p times as probable as the likeliest only, after top_p (arXiv 2407.01082)
    repetition_penalty  logits of tokens that the prompt or the completion has are divided by it where positive and multiplied where
                 negative, before all else (arXiv 1909.05858); 1 for none
    seed         with the ids of a prompt it decides that row's chances: the other rows do not. Equal prompts differ from each other
    stop_ids     a row ends before any of these
    stops        called with a row's new ids after each token: the row ends after it where this says so (stop strings)
    vocab_limit  ids from here on are never generated
    on_token     called with (row, id) as each token is made

    Raises `UserError` where an argument is out of range, a prompt has no token, or a row would outgrow the model.
    """
    sampling = Sampling(temperature, top_k, top_p, min_p, repetition_penalty)
    decoding = model if isinstance(model, Decoding) else Decoding(model)
    _check(decoding.model, prompts, max_new_tokens)
    if not prompts or max_new_tokens == 0:
        return [[] for _ in prompts]
    with evaluating(decoding.model):
        rows = _Rows(decoding, prompts, max_new_tokens)
        choose = _Chooser(sampling, seed, prompts, vocab_limit, rows.device)
        logits = _prefill(decoding.model, prompts, rows.caches)
        for step in range(max_new_tokens):
            chosen = choose(logits)
            for row, token in enumerate(chosen.tolist()):
                rows.take(row, token, stop_ids, stops, on_token)
            if all(rows.finished) or step + 1 == max_new_tokens:
                break
            logits = decoding.step(chosen[:, None], rows.places(step), rows.caches)
    return rows.made


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, as `generate` says; `UserError` where a value is out of range."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise UserError(f"temperature is {self.temperature:g}; it must be 0 (the likeliest token) or more")
        if self.top_k is not None and self.top_k < 1:
            raise UserError(f"top_k is {self.top_k}; it must be 1 or more, or left out to keep all tokens")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UserError(f"top_p is {self.top_p:g}; it must be above 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise UserError(f"min_p is {self.min_p:g}; it must be between 0 and 1")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise UserError(f"repetition_penalty is {self.repetition_penalty:g}; it must be above 0 (1 is none)")


class _Rows:
    """The completions so far, and the caches that they are read from."""

    def __init__(self, decoding: Decoding, prompts: Sequence[Sequence[int]], new: int) -> None:
        self.made: list[list[int]] = [[] for _ in prompts]
        self.finished = [False] * len(prompts)
        self.device = next(decoding.model.parameters()).device
        self.lengths = [len(prompt) for prompt in prompts]
        self.caches = decoding.model.new_caches(len(prompts), decoding.length(max(self.lengths) + new))

    def take(self, row: int, token: int, stop_ids: Set[int], stops: Stops | None, on_token: OnToken | None) -> None:
        """The next token of a row, unless the row has ended or ends before it."""
        self.finished[row] = self.finished[row] or token in stop_ids
        if self.finished[row]:
            return
        self.made[row].append(token)
        if on_token is not None:
            on_token(row, token)
        self.finished[row] = stops is not None and stops(self.made[row])

    def places(self, step: int) -> Tensor:
        """The positions of the tokens just chosen, (B, 1). A finished row goes on as padding: it keeps its place, and the shapes stay."""
        places = [-1 if done else length + step for done, length in zip(self.finished, self.lengths, strict=True)]
        return torch.tensor(places, device=self.device)[:, None]


class _Chooser:
    """Takes the next token of every row, by the rules of a `Sampling`."""

    def __init__(
        self, sampling: Sampling, seed: int, prompts: Sequence[Sequence[int]], vocab_limit: int | None, device: torch.device
    ) -> None:
        self.sampling, self.vocab_limit, self.device = sampling, vocab_limit, device
        self.chances = [] if sampling.temperature == 0 else _chances(seed, prompts)
        self.prompts = prompts
        self.seen: Tensor | None = None

    def __call__(self, logits: Tensor) -> Tensor:
        """Logits (B, V) -> ids (B,)."""
        logits = self._penalised(logits[:, : self.vocab_limit])
        if self.sampling.temperature == 0:
            chosen = logits.argmax(dim=-1)
        else:
            uniform = torch.stack([torch.rand((), generator=chance) for chance in self.chances]).to(self.device)
            rules = self.sampling
            kept = candidates(logits, temperature=rules.temperature, top_k=rules.top_k, top_p=rules.top_p, min_p=rules.min_p)
            chosen = draw(*kept, uniform)
        if self.seen is not None:
            self.seen.scatter_(1, chosen[:, None], True)
        return chosen

    def _penalised(self, logits: Tensor) -> Tensor:
        penalty = self.sampling.repetition_penalty
        if penalty == 1:
            return logits
        if self.seen is None:
            self.seen = torch.zeros(logits.shape, dtype=torch.bool, device=self.device)
            for row, prompt in enumerate(self.prompts):
                known = [token for token in prompt if token < logits.shape[1]]
                self.seen[row, torch.tensor(known, dtype=torch.int64, device=self.device)] = True
        return torch.where(self.seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def candidates(
    logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None, min_p: float | None = None
) -> tuple[Tensor, Tensor]:
    """The tokens that may come next: logits (B, V) -> probabilities (B, C), likeliest first and 0 where cut, and their ids (B, C).

    They sum to 1 over each row. `top_k` cuts first, then `top_p`, then `min_p`; none cuts the likeliest.
    """
    if temperature == 0:
        ids = logits.argmax(dim=-1, keepdim=True)
        return torch.ones_like(ids, dtype=torch.float32), ids
    if top_k is not None and top_k < logits.shape[-1]:
        logits, ids = logits.float().topk(top_k, dim=-1)
    else:
        logits, ids = logits.float().sort(dim=-1, descending=True, stable=True)
    # The largest logit becomes 0 first, so that no temperature, however small, makes it infinite.
    probabilities = ((logits - logits[:, :1]) / max(temperature, torch.finfo(torch.float32).tiny)).softmax(dim=-1)
    if top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = probabilities.masked_fill(before >= top_p, 0)
    if min_p is not None:
        probabilities = probabilities.masked_fill(probabilities < min_p * probabilities[:, :1], 0)
    if top_p is not None or min_p is not None:
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return probabilities, ids


def draw(probabilities: Tensor, ids: Tensor, uniform: Tensor) -> Tensor:
    """One id a row, from `candidates` and a number in [0, 1) for each row: (B, C), (B, C), (B,) -> (B,).

    The first candidate whose cumulated probability exceeds the number: one number a row, so rows have streams of their own.
    """
    cumulated = probabilities.cumsum(dim=-1)
    index = torch.searchsorted(cumulated, uniform[:, None] * cumulated[:, -1:], right=True)
    # A number next to 1 can round up to the whole sum, and would then find nothing.
    last = (probabilities > 0).sum(dim=-1, keepdim=True) - 1
    return ids.gather(-1, index.minimum(last))[:, 0]


def _check(model: Decoder, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    if max_new_tokens < 0:
        raise UserError(f"max_new_tokens is {max_new_tokens}; it must be 0 or more")
    limit = model.spec.model.max_seq_len
    for row, prompt in enumerate(prompts):
        which = f"prompt {row + 1} of {len(prompts)}" if len(prompts) > 1 else "the prompt"
        if not prompt:
            raise UserError(
                f"{which} has no token, so there is nothing to go on from; give text, or let it begin with the begin-of-text token"
            )
        if len(prompt) + max_new_tokens > limit:
            raise UserError(
                f"{which} has {len(prompt)} tokens, and {max_new_tokens} new ones would make {len(prompt) + max_new_tokens}, more than the "
                f"model's max_seq_len of {limit}; {_shorten(len(prompt), max_new_tokens, limit)}"
            )


def _shorten(prompt: int, new: int, limit: int) -> str:
    ways = []
    if limit > prompt:
        ways.append(f"ask for at most {limit - prompt} new tokens")
    if limit > new:
        ways.append(f"shorten the prompt to {limit - new} tokens")
    return ", or ".join(ways) or "shorten both"


def _chances(seed: int, prompts: Sequence[Sequence[int]]) -> list[torch.Generator]:
    """A generator a row: a function of the seed and the prompt, and of how many equal prompts stand before it."""
    seen: Counter[tuple[int, ...]] = Counter()
    generators = []
    for prompt in map(tuple, prompts):
        key = hashlib.sha256(f"generate:{seed}:{seen[prompt]}:{','.join(map(str, prompt))}".encode()).digest()
        generators.append(torch.Generator().manual_seed(int.from_bytes(key[:8], "little", signed=True)))
        seen[prompt] += 1
    return generators


def _prefill(model: Decoder, prompts: Sequence[Sequence[int]], caches: Caches) -> Tensor:
    """Read all prompts into the caches; the logits (B, V) after the last token of each."""
    width = max(map(len, prompts))
    ids = torch.zeros(len(prompts), width, dtype=torch.int64)
    positions = torch.full_like(ids, -1)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(prompt)
        positions[row, width - len(prompt) :] = torch.arange(len(prompt))
    device = next(model.parameters()).device
    ids, positions = ids.to(device), positions.to(device)
    chunk = max(PREFILL_TOKENS // len(prompts), 1)
    logits = torch.empty(0)
    for start in range(0, width, chunk):
        part = slice(start, start + chunk)
        logits = model(ids[:, part], positions=positions[:, part], caches=caches)[:, -1]
    if bool(logits.isnan().any()):
        raise UserError("the model's logits are not numbers: its training diverged; take an earlier checkpoint, or train with a lower rate")
    return logits


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without gradients and in evaluation mode; afterwards every module is in the mode it was in.

    `no_grad` and not `inference_mode`, whose tensors no later backward pass may touch: a module that keeps one would break training.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
