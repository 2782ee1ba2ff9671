"""Mixers: how much of each source is in what is trained on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

from llmkit.core.component import Params


class MixerParams(Params):
    """For a mixer whose parameters name sources, so that a name that is none is told where it was written, before anything is read."""

    def check_sources(self, sources: Collection[str]) -> Iterable[tuple[str, str]]:
        """What is wrong with these parameters where the spec has these sources: where, below the mixer (`weights.web`), and a sentence."""
        return ()


class Size(NamedTuple):
    """What a source has, once it is cleaned: documents, tokens, bytes of UTF-8."""

    documents: int
    tokens: int
    bytes: int


class Mixer:
    """Proportions of named sources. Built with `(params)`; plain Python, no torch.

    A whole one, with the component that its plugin's hook returns:

        class EvenParams(Params):
            pass

        class Even(Mixer):
            def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
                return {name: 1 / len(sizes) for name in sizes}

        Component(Kind.mixer, "acme.even", EvenParams, "llmkit_acme.even:Even", "as much of every source")
    """

    def __init__(self, params: Any) -> None:
        self.params = params

    def proportions(self, sizes: Mapping[str, Size]) -> dict[str, float]:
        """The part of the trained tokens that comes from each source: none negative, together 1.

        sizes  every source of the spec, in its order, none of them empty

        `UserError` where the parameters do not fit these sources: a weight for one that is not there.
        """
        raise NotImplementedError
