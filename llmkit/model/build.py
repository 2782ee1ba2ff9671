"""From a validated spec to a model."""

from __future__ import annotations

import torch

from llmkit.core.spec import Spec
from llmkit.model.decoder import Decoder
from llmkit.model.init import initialise


def build(spec: Spec, *, device: str | torch.device = "cpu", seed: int | None = None) -> Decoder:
    """The model of a spec, in fp32, with the initial values of `seed` (the spec's unless given).

    On `device="meta"` it has shapes and no values, whatever its size.
    """
    with torch.device("meta"):
        model = Decoder(spec)
    device = torch.device(device)
    if device.type == "meta":
        return model
    model.to_empty(device=device)
    model.tie_weights()
    model.reset_buffers()
    initialise(model, spec.model, spec.init_seed if seed is None else seed)
    return model
