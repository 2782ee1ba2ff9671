"""The proof of an import or an export: transformers reads the files, and both models say the same."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmkit.core.errors import UserError
from llmkit.interop.files import write_object
from llmkit.interop.huggingface import reference, transformers
from llmkit.interop.wording import Config
from llmkit.model.decoder import Decoder
from llmkit.model.generate import evaluating, generate

PROOF = "proof.json"
TOLERANCE = 1e-4
"""How far logits in fp32 may lie apart, beside as large a part of their own size."""

ROWS, LONGEST, NEW = 2, 256, 64


@dataclass(frozen=True)
class Proof:
    """What was compared, in fp32.

    max_abs_logit_difference  over `tokens` random tokens, read at once
    greedy_tokens_equal       whether each of the `greedy_tokens` made through the caches is what transformers finds likeliest there
    told                      settings that lie in a GGUF file, and that transformers does not read from there but was told
    """

    architecture: str
    max_abs_logit_difference: float
    logits_equal: bool
    greedy_tokens_equal: bool
    tokens: int
    greedy_tokens: int
    tolerance: float
    transformers: str
    told: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether both models say the same."""
        return self.logits_equal and self.greedy_tokens_equal

    def write(self, directory: Path) -> None:
        """`proof.json`. `UserError` where it does not hold."""
        if not self.holds:
            raise UserError(
                f"the proof failed: against transformers' {self.architecture}, logits differ by up to {self.max_abs_logit_difference:.3g} "
                f"(tolerance {self.tolerance:g}) and greedy tokens {'agree' if self.greedy_tokens_equal else 'differ'}; nothing was written"
            )
        write_object(directory / PROOF, self.document())

    def document(self) -> dict[str, Any]:
        """As JSON holds it."""
        return asdict(self)


def prove(model: Decoder, place: Path, *, told: Config | None = None, seed: int = 0) -> Proof:
    """Compare a model (fp32, on the CPU) with what transformers makes of a directory or a GGUF file.

    told  settings that transformers does not read from the file

    Prompts are random, and longer than the shortest window where that is short enough. A greedy token counts as equal where transformers
    has none likelier than it by more than the tolerance: two models in fp32 may break a tie differently, and then go different ways.
    """
    ids = _prompts(model, seed)
    with evaluating(model):
        ours = model(ids)
    room = _room(model, ids.shape[1])
    made = torch.tensor(generate(model, ids.tolist(), max_new_tokens=room, temperature=0))
    whole = torch.cat([ids, made.to(ids)], dim=1)
    with reference(place, told) as theirs, torch.no_grad():
        answer = theirs(whole).logits
        architecture = type(theirs).__name__
    before = answer[:, ids.shape[1] - 1 : -1]
    chosen = before.gather(-1, whole[:, ids.shape[1] :, None])[..., 0]
    expected = answer[:, : ids.shape[1]]
    return Proof(
        architecture=architecture,
        max_abs_logit_difference=float((ours - expected).abs().max()),
        logits_equal=bool(torch.allclose(ours, expected, atol=TOLERANCE, rtol=TOLERANCE)),
        greedy_tokens_equal=bool((before.amax(dim=-1) - chosen <= TOLERANCE * (1 + chosen.abs())).all()),
        tokens=ids.numel(),
        greedy_tokens=made.numel(),
        tolerance=TOLERANCE,
        transformers=transformers().__version__,
        told=tuple(sorted(told or ())),
    )


def _room(model: Decoder, length: int) -> int:
    """How many tokens can be made after so many: fewer, or none, where a position refuses the cache (LongRoPE beyond its first context)."""
    room = min(NEW, model.spec.model.max_seq_len - length)
    return next((new for new in range(room, 0, -1) if model.refuses_cache(length + new) is None), 0)


def _prompts(model: Decoder, seed: int) -> Tensor:
    limit = model.spec.model.max_seq_len
    windows = [window for window in model.windows if window is not None]
    wanted = min([LONGEST, *(window + 16 for window in windows)]) if windows else 48
    length = max(min(wanted, limit - NEW), min(limit // 2, wanted), 1)
    return torch.randint(model.spec.vocab_size, (ROWS, length), generator=torch.Generator().manual_seed(seed))
