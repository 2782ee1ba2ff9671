"""The model that objectives are tried on."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from llmkit.core.interfaces.ffn import Aux
from llmkit.core.interfaces.objective import Batch

V, D = 11, 6


class Bigram(nn.Module):
    """The smallest model with an embedding and a head."""

    def __init__(self, dtype: torch.dtype = torch.float32, aux: Aux | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(V, D, dtype=dtype)
        self.head = nn.Linear(D, V, bias=False, dtype=dtype)
        self.aux = aux or Aux({}, {})

    def features(self, batch: Batch) -> tuple[Tensor, Aux]:
        return self.embedding(batch.ids), self.aux
