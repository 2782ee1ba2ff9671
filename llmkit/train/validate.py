"""Looking at a model while it trains: the validation text, and a sample of what it writes."""

from __future__ import annotations

import math

from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.spec import Spec
from llmkit.data.batches import windows
from llmkit.data.prepare import Prepared
from llmkit.model.decoder import Decoder
from llmkit.model.generate import generate
from llmkit.train.engine import Engine

ROWS = 16
"""Validation sequences computed at once."""


def validate(spec: Spec, engine: Engine, prepared: Prepared, limit: int | None = None) -> dict[str, float]:
    """`val_loss`, nats a token, and `val_bits_per_byte`, over the validation stream in consecutive windows of `seq_len`.

    Bits per byte are the nats of all predicted tokens, end-of-text included, / ln 2 / the UTF-8 bytes of the documents. With a
    `limit` on the sequences, both are of the first so many, whose bytes are taken to be the average ones.
    The ranks share the windows.
    """
    tokens = prepared.validation
    batches = windows(
        tokens,
        spec.seq_len,
        batch_size=ROWS,
        mask_documents=spec.data.mask_documents,
        limit=limit,
        shard=engine.data_rank,
        of=engine.data_ranks,
    )
    nats, counted = engine.total(*engine.nats(batches))
    loss = nats / counted
    tokens_a_byte = (tokens.n_tokens - 1) / tokens.n_bytes
    return {"val_loss": loss, "val_bits_per_byte": loss * tokens_a_byte / math.log(2)}


def sample(spec: Spec, model: Decoder, tokenizer: Tokenizer) -> list[str]:
    """A continuation of every sample prompt, begun as training began its documents; the same at every step but for the weights."""
    prompts = [[tokenizer.eos_id, *tokenizer.encode(prompt)] for prompt in spec.train.sample_prompts]
    room = spec.model.max_seq_len - max(map(len, prompts))
    made = generate(
        model,
        prompts,
        max_new_tokens=max(min(spec.train.sample_tokens, room), 0),
        temperature=0.8,
        seed=spec.train.seed,
        stop_ids=tokenizer.stop_ids,
        vocab_limit=tokenizer.vocab_size,
    )
    return [tokenizer.decode(ids) for ids in made]
