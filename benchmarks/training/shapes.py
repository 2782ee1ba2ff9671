"""What is trained. Free of torch and of llmkit, so that a peer's interpreter needs neither of ours."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Shape:
    """A model and a batch of it.

    family  llama: rotary positions, RMSNorm, gated SiLU, no biases, a head of its own
            gpt: learned positions, LayerNorm, GELU, biases, the head tied to the embedding
    """

    family: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    d_ff: int
    vocabulary: int
    length: int
    batch: int

    @property
    def tokens(self) -> int:
        """Tokens in a step."""
        return self.length * self.batch

    def with_vocabulary(self, vocabulary: int) -> Shape:
        """The same with so many entries."""
        return replace(self, vocabulary=vocabulary)

    def products(self) -> dict[tuple[int, int], int]:
        """(outputs, inputs) of every matrix that a token is multiplied with, and how many there are of each."""
        head_width = self.width // self.heads
        inside = [(self.width, self.width), (self.width, self.width)]
        inside += [(self.kv_heads * head_width, self.width)] * 2
        inside += [(self.d_ff, self.width)] * (2 if self.family == "llama" else 1) + [(self.width, self.d_ff)]
        found = {(self.vocabulary, self.width): 1}
        for matrix in inside:
            found[matrix] = found.get(matrix, 0) + self.layers
        return found

    def products_flops(self) -> int:
        """Operations of these products in a step, forward and backward, a multiply-add as two."""
        return 6 * self.tokens * sum(outputs * inputs * count for (outputs, inputs), count in self.products().items())

    def flops(self) -> int:
        """The model's operations in a step: the products, and attention as T x T (`llmkit build` counts the same)."""
        return self.products_flops() + 12 * self.layers * self.width * self.length * self.tokens


SHAPES = {
    "A": Shape("llama", layers=8, width=512, heads=8, kv_heads=2, d_ff=1408, vocabulary=32_000, length=512, batch=4),
    "B": Shape("gpt", layers=6, width=384, heads=6, kv_heads=6, d_ff=1536, vocabulary=50_304, length=256, batch=8),
    "350M": Shape("llama", layers=24, width=1024, heads=16, kv_heads=16, d_ff=2816, vocabulary=32_000, length=2048, batch=16),
    "1B": Shape("llama", layers=16, width=2048, heads=32, kv_heads=8, d_ff=8192, vocabulary=32_000, length=2048, batch=8),
}
"""A and B are for two threads of a processor, the others for one card."""
