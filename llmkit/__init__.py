"""llmkit: swappable components for building language models from scratch. Importing it imports no torch."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # For type checkers and editors, which know nothing of `__getattr__`: what `_PUBLIC` says, again.
    from llmkit.core.component import Component as Component
    from llmkit.core.component import Migration as Migration
    from llmkit.core.component import Params as Params
    from llmkit.core.hooks import hookimpl as hookimpl
    from llmkit.core.interfaces.attention import Attention as Attention
    from llmkit.core.interfaces.attention import KVCache as KVCache
    from llmkit.core.interfaces.attention import attend as attend
    from llmkit.core.interfaces.attention import project as project
    from llmkit.core.interfaces.deduplicator import Deduplicator as Deduplicator
    from llmkit.core.interfaces.deduplicator import Ragged as Ragged
    from llmkit.core.interfaces.deduplicator import Resolution as Resolution
    from llmkit.core.interfaces.evaluator import Evaluator as Evaluator
    from llmkit.core.interfaces.extractor import Extractor as Extractor
    from llmkit.core.interfaces.ffn import Aux as Aux
    from llmkit.core.interfaces.ffn import FeedForward as FeedForward
    from llmkit.core.interfaces.filter import Drop as Drop
    from llmkit.core.interfaces.filter import Filter as Filter
    from llmkit.core.interfaces.filter import FilterParams as FilterParams
    from llmkit.core.interfaces.filter import Limit as Limit
    from llmkit.core.interfaces.init import Init as Init
    from llmkit.core.interfaces.mixer import Mixer as Mixer
    from llmkit.core.interfaces.mixer import MixerParams as MixerParams
    from llmkit.core.interfaces.mixer import Size as Size
    from llmkit.core.interfaces.norm import Norm as Norm
    from llmkit.core.interfaces.objective import Batch as Batch
    from llmkit.core.interfaces.objective import Loss as Loss
    from llmkit.core.interfaces.objective import Objective as Objective
    from llmkit.core.interfaces.optimizer import Optimizer as Optimizer
    from llmkit.core.interfaces.position import Position as Position
    from llmkit.core.interfaces.schedule import Schedule as Schedule
    from llmkit.core.interfaces.source import Broken as Broken
    from llmkit.core.interfaces.source import Document as Document
    from llmkit.core.interfaces.source import Source as Source
    from llmkit.core.interfaces.tokenizer import Tokenizer as Tokenizer
    from llmkit.core.kinds import Kind as Kind
    from llmkit.core.site import Site as Site
    from llmkit.model.build import build as build
    from llmkit.runtime import catalog as catalog
    from llmkit.runtime import load_spec as load_spec
    from llmkit.train.run import load_run as load_run

__version__ = "0.1.0"

_PUBLIC = {
    "Component": "llmkit.core.component",
    "Migration": "llmkit.core.component",
    "Params": "llmkit.core.component",
    "Kind": "llmkit.core.kinds",
    "Site": "llmkit.core.site",
    "hookimpl": "llmkit.core.hooks",
    "catalog": "llmkit.runtime",
    "load_spec": "llmkit.runtime",
    "build": "llmkit.model.build",
    "load_run": "llmkit.train.run",
    "attend": "llmkit.core.interfaces.attention",
    "project": "llmkit.core.interfaces.attention",
    "KVCache": "llmkit.core.interfaces.attention",
    "Attention": "llmkit.core.interfaces.attention",
    "Position": "llmkit.core.interfaces.position",
    "Norm": "llmkit.core.interfaces.norm",
    "FeedForward": "llmkit.core.interfaces.ffn",
    "Aux": "llmkit.core.interfaces.ffn",
    "Init": "llmkit.core.interfaces.init",
    "Tokenizer": "llmkit.core.interfaces.tokenizer",
    "Optimizer": "llmkit.core.interfaces.optimizer",
    "Schedule": "llmkit.core.interfaces.schedule",
    "Objective": "llmkit.core.interfaces.objective",
    "Batch": "llmkit.core.interfaces.objective",
    "Loss": "llmkit.core.interfaces.objective",
    "Evaluator": "llmkit.core.interfaces.evaluator",
    "Source": "llmkit.core.interfaces.source",
    "Document": "llmkit.core.interfaces.source",
    "Broken": "llmkit.core.interfaces.source",
    "Extractor": "llmkit.core.interfaces.extractor",
    "Filter": "llmkit.core.interfaces.filter",
    "FilterParams": "llmkit.core.interfaces.filter",
    "Drop": "llmkit.core.interfaces.filter",
    "Limit": "llmkit.core.interfaces.filter",
    "Deduplicator": "llmkit.core.interfaces.deduplicator",
    "Ragged": "llmkit.core.interfaces.deduplicator",
    "Resolution": "llmkit.core.interfaces.deduplicator",
    "Mixer": "llmkit.core.interfaces.mixer",
    "MixerParams": "llmkit.core.interfaces.mixer",
    "Size": "llmkit.core.interfaces.mixer",
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'llmkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
