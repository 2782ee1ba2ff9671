"""What a run writes down about itself before its first step."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import Any

import torch

from llmkit.core.catalog import Catalog
from llmkit.core.manifest import manifest
from llmkit.core.spec import Spec
from llmkit.data.cache import key_of
from llmkit.data.prepare import Prepared
from llmkit.model.count import account
from llmkit.train import precision


def resolved(spec: Spec, device: torch.device, recorded: str | None = None) -> Spec:
    """The spec with what `auto` became: on this device, or where the run began, whose `recorded` precision it keeps."""
    asked = recorded if recorded is not None and spec.train.precision == "auto" else spec.train.precision
    became = precision.resolve(asked, device)
    return spec.model_copy(update={"train": spec.train.model_copy(update={"precision": became})})


def manifest_of(spec: Spec, catalog: Catalog, prepared: Prepared | None = None) -> dict[str, Any]:
    """What a run records: versions, components and revisions, git state, hardware, what the model costs, and the fingerprints of its
    data where it has some."""
    return manifest(spec, catalog) | {"cost": cost(spec, catalog), "fingerprints": {} if prepared is None else prepared.contents()}


def cost(spec: Spec, catalog: Catalog) -> dict[str, Any]:
    """Parameters and FLOPs as `llmkit build` counts them, so that whoever compares runs needs to build no model.

    Counted once in a process for each shape: it takes a tenth of a second, and whoever trains many small models trains the same again.
    """
    document = spec.model_dump(mode="json")
    key = key_of([document["model"], document["train"]["objective"], spec.vocab_size, catalog.fingerprint])
    if key not in _COSTS:
        counted = account(spec, catalog)
        _COSTS[key] = {"parameters": asdict(counted.parameters), "flops_per_token": asdict(counted.flops_per_token)}
    return copy.deepcopy(_COSTS[key])


_COSTS: dict[str, dict[str, Any]] = {}
