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

import torch
from torch import Tensor, nn

from llmkit.core.errors import UserError
from llmkit.core.interfaces.attention import Caches
from llmkit.model.decoder import Decoder

PREFILL_TOKENS = 2048
"""Prompt tokens read in one forward pass, over all rows: their logits exist at once, and with a large vocabulary would fill the memory."""

OnToken = Callable[[int, int], None]
"""Called with (row, id) as each token is made, in the order of the rows."""


def generate(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    stop_ids: Set[int] = frozenset(),
    vocab_limit: int | None = None,
    on_token: OnToken | None = None,
) -> list[list[int]]:
    """A completion of every prompt: the new ids, without the prompt and without the token that stopped it.

    temperature  the logits are divided by it; 0 takes the likeliest token
    top_k        of the k likeliest tokens only
    top_p        of the smallest set of likeliest tokens whose probability reaches p only, after top_k (arXiv 1904.09751)
    seed         with the ids of a prompt it decides that row's chances: the other rows do not. Equal prompts differ from each other
    stop_ids     a row ends before any of these
    vocab_limit  ids from here on are never generated
    on_token     called with (row, id) as each token is made

    Raises `UserError` where an argument is out of range, a prompt has no token, or a row would outgrow the model.
    """
    _check(model, prompts, max_new_tokens, temperature, top_k, top_p)
    rows: list[list[int]] = [[] for _ in prompts]
    if not prompts or max_new_tokens == 0:
        return rows
    device = next(model.parameters()).device
    chances = _chances(seed, prompts)
    finished = [False] * len(prompts)
    with evaluating(model):
        caches = model.new_caches(len(prompts), max(map(len, prompts)) + max_new_tokens)
        logits = _prefill(model, prompts, caches)
        for step in range(max_new_tokens):
            probabilities, ids = candidates(logits[:, :vocab_limit], temperature=temperature, top_k=top_k, top_p=top_p)
            uniform = torch.stack([torch.rand((), generator=chance) for chance in chances]).to(device)
            chosen = draw(probabilities, ids, uniform)
            for row, token in enumerate(chosen.tolist()):
                finished[row] = finished[row] or token in stop_ids
                if finished[row]:
                    continue
                rows[row].append(token)
                if on_token is not None:
                    on_token(row, token)
            if all(finished) or step + 1 == max_new_tokens:
                break
            # A finished row goes on as padding: it keeps its place, and the shapes stay.
            places = [-1 if done else len(prompt) + step for prompt, done in zip(prompts, finished, strict=True)]
            logits = model(chosen[:, None], positions=torch.tensor(places, device=device)[:, None], caches=caches)[:, -1]
    return rows


def candidates(logits: Tensor, *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None) -> tuple[Tensor, Tensor]:
    """The tokens that may come next: logits (B, V) -> probabilities (B, C), likeliest first and 0 where cut, and their ids (B, C).

    They sum to 1 over each row. `top_k` cuts before `top_p` does, and `top_p` never cuts the likeliest.
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


def _check(
    model: Decoder, prompts: Sequence[Sequence[int]], max_new_tokens: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    if max_new_tokens < 0:
        raise UserError(f"max_new_tokens is {max_new_tokens}; it must be 0 or more")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UserError(f"temperature is {temperature:g}; it must be 0 (the likeliest token) or more")
    if top_k is not None and top_k < 1:
        raise UserError(f"top_k is {top_k}; it must be 1 or more, or left out to keep all tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"top_p is {top_p:g}; it must be above 0 and at most 1")
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
