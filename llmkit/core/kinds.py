"""The kinds of component, and where the interface of each is written down."""

from __future__ import annotations

from enum import StrEnum


class Kind(StrEnum):
    """What a component is. One word everywhere: the spec's key, the interface's file, the state dict's key."""

    tokenizer = "tokenizer"
    position = "position"
    attention = "attention"
    norm = "norm"
    ffn = "ffn"
    init = "init"
    optimizer = "optimizer"
    schedule = "schedule"
    objective = "objective"
    evaluator = "evaluator"
    source = "source"
    extractor = "extractor"
    filter = "filter"
    deduplicator = "deduplicator"
    mixer = "mixer"

    @property
    def interface(self) -> str:
        """`module:Class` of the interface; importing it imports torch for the kinds that are modules."""
        return _INTERFACES[self]

    @property
    def is_module(self) -> bool:
        """Whether the component is an `nn.Module`, built with `(params, site)`; the others are built with `(params)`."""
        return self in (Kind.position, Kind.attention, Kind.norm, Kind.ffn, Kind.objective)


_INTERFACES = {
    Kind.tokenizer: "llmkit.core.interfaces.tokenizer:Tokenizer",
    Kind.position: "llmkit.core.interfaces.position:Position",
    Kind.attention: "llmkit.core.interfaces.attention:Attention",
    Kind.norm: "llmkit.core.interfaces.norm:Norm",
    Kind.ffn: "llmkit.core.interfaces.ffn:FeedForward",
    Kind.init: "llmkit.core.interfaces.init:Init",
    Kind.optimizer: "llmkit.core.interfaces.optimizer:Optimizer",
    Kind.schedule: "llmkit.core.interfaces.schedule:Schedule",
    Kind.objective: "llmkit.core.interfaces.objective:Objective",
    Kind.evaluator: "llmkit.core.interfaces.evaluator:Evaluator",
    Kind.source: "llmkit.core.interfaces.source:Source",
    Kind.extractor: "llmkit.core.interfaces.extractor:Extractor",
    Kind.filter: "llmkit.core.interfaces.filter:Filter",
    Kind.deduplicator: "llmkit.core.interfaces.deduplicator:Deduplicator",
    Kind.mixer: "llmkit.core.interfaces.mixer:Mixer",
}
