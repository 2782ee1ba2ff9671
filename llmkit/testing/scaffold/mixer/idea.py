"""As large as they are, with a floor."""

from __future__ import annotations

from collections.abc import Mapping

from llmkit import Mixer, Size
from llmkit.testing.scaffold.mixer import IdeaParams


class Idea(Mixer):
    """A source has the floor, and a part of what is left by its tokens."""

    params: IdeaParams

    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        """Parts of the trained tokens, together 1."""
        tokens = sum(size.tokens for size in sizes.values())
        floor = min(self.params.floor, 1 / len(sizes))
        left = 1 - floor * len(sizes)
        return {name: floor + left * size.tokens / tokens for name, size in sizes.items()}
