"""llmkit: swappable components for building language models from scratch. Importing it imports no torch."""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Component": "llmkit.core.component",
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
}


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'llmkit' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
