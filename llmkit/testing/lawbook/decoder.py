"""Laws of everything that sits in a decoder: attention, position, norm, FFN. The small model around it is what is observed."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from llmkit.core.interfaces.attention import Caches
from llmkit.core.interfaces.objective import Batch
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.init import initialise
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.model import drawn, finite, same, tokens
from llmkit.testing.subject import Subject

PADDING = -1

AMPLE = 16
"""Positions that a cache has room for: more than any law needs."""

# Ascending, so that what breaks first is the smallest that breaks. Chunks of one, chunks longer than a small window, one chunk.
SPLITS = ((1,), (1, 1), (2, 1), (1, 2), (1, 1, 1), (3, 3), (6, 1), (2, 5, 1), (8, 1, 1, 2), (1, 11), (12,), (1,) * 12)


def causal(subject: Subject) -> None:
    """No output depends on a later token."""
    for length in (2, 3, 6, 12):
        ids = tokens(1, length)
        before = subject.logits(ids)
        for place in range(1, length):
            changed = ids.clone()
            changed[0, place] = 65
            after = subject.logits(changed)
            same(after[:, :place], before[:, :place], f"of {length} tokens, changing token {place} changes an output before it")


def cached_equals_uncached(subject: Subject) -> None:
    """Through a cache, in chunks of any size, the logits are those of one pass without it."""
    for split in SPLITS:
        ids = tokens(2, sum(split))
        caches = caches_for(subject.model, *ids.shape)
        if caches is None:
            continue
        cached = torch.cat([subject.logits(chunk, caches=caches) for chunk in torch.split(ids, list(split), dim=1)], dim=1)
        same(cached, subject.logits(ids), f"in chunks of {list(split)} tokens, cached and uncached disagree")


def caches_for(model: Decoder, rows: int, length: int) -> Caches | None:
    """Empty caches for so many rows and tokens, with room to spare, or with exactly that room where a position encoding refuses more.

    None where it refuses even that: such a law has nothing to prove at that length.
    """
    max_len = next((room for room in (AMPLE, length) if model.refuses_cache(room) is None), None)
    return None if max_len is None else model.new_caches(rows, max_len)


def truncated_cache_equals_a_shorter_one(subject: Subject) -> None:
    """A cache truncated to n positions goes on as if it had never seen more, or refuses with a reason."""
    ids = tokens(1, 8)
    whole = subject.logits(ids)
    for kept in (1, 3, 5):
        caches = caches_for(subject.model, 1, 8)
        if caches is None:
            return
        subject.logits(torch.cat([ids[:, :kept], tokens(1, 2, seed=1)], dim=1), caches=caches)
        try:
            caches.truncate(kept)
        except ValueError as refusal:
            if not str(refusal):
                raise LawBroken(f"truncating {kept + 2} positions to {kept} is refused without a reason") from None
            continue
        found = subject.logits(ids[:, kept:], caches=caches)
        same(found, whole[:, kept:], f"after {kept + 2} tokens, truncated to {kept}, the cache still tells of what was cut")


def selected_cache_rows_go_on(subject: Subject) -> None:
    """Cache rows that are reordered, repeated or dropped go on as their own sequences would."""
    ids = tokens(3, 7)
    rows = torch.tensor([2, 0, 0])
    caches = caches_for(subject.model, 3, 7)
    if caches is None:
        return
    subject.logits(ids[:, :4], caches=caches)
    caches.select(rows)
    same(
        subject.logits(ids[rows, 4:], caches=caches),
        subject.logits(ids[rows])[:, 4:],
        "after select([2, 0, 0]) of 3 rows, rows are mixed up",
    )


def rows_are_independent(subject: Subject) -> None:
    """Every row of a batch has the logits that it has alone."""
    for rows in (2, 4):
        ids = tokens(rows, 6)
        together = subject.logits(ids)
        for row in range(rows):
            same(together[row : row + 1], subject.logits(ids[row : row + 1]), f"row {row} of {rows} differs from the same row alone")


def left_padding_changes_nothing(subject: Subject) -> None:
    """Padding on the left (position -1) changes no logits, with a cache and without, and makes nothing infinite."""
    lengths = (2, 5, 7)
    longest, more = max(lengths), 3
    ids = tokens(len(lengths), longest + more)
    padded, positions = torch.zeros(len(lengths), longest, dtype=torch.int64), torch.full((len(lengths), longest), PADDING)
    for row, length in enumerate(lengths):
        padded[row, -length:] = ids[row, :length]
        positions[row, -length:] = torch.arange(length)
    found = subject.logits(padded, positions=positions)
    finite(found, "the logits of a batch with padding are not finite")
    for row, length in enumerate(lengths):
        alone = subject.logits(ids[row : row + 1, :length])
        same(found[row : row + 1, -length:], alone, f"{length} tokens after {longest - length} of padding have other logits than alone")
    caches = caches_for(subject.model, len(lengths), longest + more)
    if caches is None:
        return
    cached = [subject.logits(padded, positions=positions, caches=caches)]
    for step in range(more):
        following = torch.stack([ids[row, length + step] for row, length in enumerate(lengths)])[:, None]
        cached.append(subject.logits(following, caches=caches))
    whole = torch.cat(cached, dim=1)
    for row, length in enumerate(lengths):
        alone = subject.logits(ids[row : row + 1, : length + more])
        place = f"{length} tokens after {longest - length} of padding, through a cache and {more} tokens on,"
        same(whole[row : row + 1, longest - length :], alone, f"{place} have other logits than alone")


def packed_documents_are_separate(subject: Subject) -> None:
    """Documents packed into one row, each with its segment and its positions, have the logits that they have alone."""
    for lengths in ((1, 1), (2, 1), (3, 12, 2)):
        documents = [tokens(1, length, seed=length) for length in lengths]
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        segments = torch.cat([torch.full((length,), index) for index, length in enumerate(lengths)])[None]
        packed = subject.logits(torch.cat(documents, dim=1), positions=positions, segments=segments)
        for index, (document, part) in enumerate(zip(documents, torch.split(packed, list(lengths), dim=1))):
            same(
                part,
                subject.logits(document),
                f"document {index} of documents of {list(lengths)} tokens packed in a row differs from itself alone",
            )


def initial_values_come_from_the_model(subject: Subject) -> None:
    """What `__init__` puts into a parameter does not matter: built on meta or directly, after any random numbers, values are equal."""
    spec = subject.spec()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        direct = build(spec)
        torch.manual_seed(2)
        again = build(spec)
    from_meta = _from_meta(build(spec, device="meta"), spec.init_seed)
    expected = direct.state_dict()
    for how, model in (("built again", again), ("built on meta, emptied and initialised", from_meta)):
        for name, value in model.state_dict().items():
            if not torch.equal(value, expected[name]):
                raise LawBroken(
                    f"{name} has other values when {how}; say `initial(name, shape, generator)` instead of setting it in __init__"
                )
    ids = tokens(1, 6)
    with torch.no_grad():
        same(from_meta.eval()(ids), direct.eval()(ids), "what is no parameter was lost on meta; rebuild it in `reset_buffers()`")


def _from_meta(model: Decoder, seed: int) -> Decoder:
    """The way every large model takes. Memory is filled with NaN first, so that a value which nobody sets is seen."""
    model.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor.fill_(float("nan"))
    model.reset_buffers()
    model.tie_weights()
    initialise(model, model.spec.model, seed)
    return model


def saved_and_loaded_is_the_same(subject: Subject) -> None:
    """A model saved to safetensors and loaded into one built on meta has the same logits."""
    spec = subject.spec()
    loaded = _from_meta(build(spec, device="meta"), spec.train.seed + 1).eval()
    with tempfile.TemporaryDirectory() as directory:
        file = str(Path(directory) / "model.safetensors")
        save_model(subject.model, file)
        load_model(loaded, file)
    ids = tokens(1, 6)
    with torch.no_grad():
        same(loaded(ids), subject.logits(ids), "a loaded model differs from the one that was saved", tolerance=0)


def keeps_the_dtype(subject: Subject) -> None:
    """In bf16 the logits are bf16 and finite, with a cache and without."""
    model = drawn(subject.spec()).to(torch.bfloat16)
    ids = tokens(1, 6)
    caches = caches_for(model, 1, 6)
    with torch.no_grad():
        ways = [("without a cache", model(ids))] + ([] if caches is None else [("through a cache", model(ids, caches=caches))])
        for how, logits in ways:
            if logits.dtype is not torch.bfloat16:
                raise LawBroken(f"{how}, the logits of a bf16 model are {logits.dtype}")
            finite(logits, f"{how}, the logits of a bf16 model are not finite")


def gradients_are_finite(subject: Subject) -> None:
    """Every gradient of a batch with padding is finite."""
    model = drawn(subject.spec())
    ids = tokens(2, 6)
    positions = torch.tensor([[PADDING, PADDING, 0, 1, 2, 3], [0, 1, 2, 3, 4, 5]])
    h, aux = model.features(Batch(ids, ids, positions))
    logits = model.head(h)
    total = (logits.logsumexp(dim=-1) * (positions >= 0)).sum() + sum(loss.sum() for loss in aux.losses.values())
    torch.autograd.backward(total)
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            finite(parameter.grad, f"the gradient of {name} is not finite")


def forward_asks_no_tensor(subject: Subject) -> None:
    """Forward runs on the meta device, where nothing has a value: no `.item()`, no shape that depends on values."""
    model = build(subject.spec(), device="meta")
    ids = torch.zeros(2, 6, dtype=torch.int64, device="meta")
    for how, arguments in (("alone", {}), ("with positions and segments", {"positions": ids, "segments": ids})):
        try:
            shape = model(ids, **arguments).shape
            caches = caches_for(model, 2, 6)
            cached = shape if caches is None else model(ids, caches=caches).shape
        except (RuntimeError, NotImplementedError) as error:
            raise LawBroken(f"(2, 6) tokens {how}: {error}") from error
        if not shape == cached == (2, 6, model.embedding.num_embeddings):
            raise LawBroken(f"(2, 6) tokens {how} give logits of shape {tuple(shape)}")


def compiles_once(subject: Subject) -> None:
    """One compilation for all blocks that are alike, and one for all decode steps, without a graph break."""
    model = build(subject.spec()).eval()
    compiled: list[str] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        compiled.append(graph.__class__.__name__)
        return graph.forward

    torch._dynamo.reset()
    try:
        for block in model.blocks:
            block.compile(fullgraph=True, backend=counting)
        with torch.no_grad():
            model(tokens(1, 6))
            _one(compiled, "a forward pass of 2 blocks that are alike")
            caches = caches_for(model, 1, 9)
            if caches is None:
                return
            model(tokens(1, 5), caches=caches)
            compiled.clear()
            for step in range(4):
                model(tokens(1, 1, seed=step), caches=caches)
            _one(compiled, "4 decode steps of 2 blocks that are alike")
    finally:
        torch._dynamo.reset()


def _one(compiled: list[str], what: str) -> None:
    if len(compiled) != 1:
        raise LawBroken(f"{what} were compiled {len(compiled)} times; `forward` may read no number of its layer and ask no tensor")


def module_of(subject: Subject) -> nn.Module:
    """The component itself in the small model: the first module of its class."""
    cls = subject.component.resolve()
    for module in subject.model.modules():
        if type(module) is cls:
            return module
    raise LawBroken(f"the small model holds no {cls.__name__}")


LAWS = (
    Law(causal, combined=True),
    Law(cached_equals_uncached, combined=True),
    Law(rows_are_independent, combined=True),
    Law(left_padding_changes_nothing, combined=True),
    Law(packed_documents_are_separate, combined=True),
    Law(saved_and_loaded_is_the_same, combined=True),
    Law(initial_values_come_from_the_model, combined=True),
    Law(gradients_are_finite, combined=True),
    Law(truncated_cache_equals_a_shorter_one),
    Law(selected_cache_rows_go_on),
    Law(keeps_the_dtype),
    Law(forward_asks_no_tensor),
    Law(compiles_once),
)
