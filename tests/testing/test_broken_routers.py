"""Laws of feed-forward networks catch mixtures of experts that are broken on purpose, one mistake each."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from llmkit import Aux, catalog
from llmkit.core.component import Component
from llmkit.core.kinds import Kind
from llmkit.plugins.ffn.components import MoEParams
from llmkit.plugins.ffn.moe import MoE, Router, Routing
from llmkit.testing import LawBroken, cases


class DropsTokens(MoE):
    """A capacity of half of the tokens an expert: those that come later get nothing."""

    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        y, aux = super().forward(x)
        first = self.router(x.flatten(0, 1)).experts[:, 0]
        before = torch.nn.functional.one_hot(first, self.params.n_experts).cumsum(dim=0)
        kept = before.gather(1, first[:, None]) <= max(1, first.shape[0] // 4)
        return y * kept.view(*x.shape[:2], 1), aux


class DetachedRouter(Router):
    def forward(self, x: Tensor) -> Routing:
        routing = super().forward(x)
        return routing._replace(weights=routing.weights.detach())


class LearnsFromItsLossAlone(MoE):
    def __init__(self, params: MoEParams, site: object) -> None:
        super().__init__(params, site)  # type: ignore[arg-type]
        self.router = DetachedRouter(params, site.d_model)  # type: ignore[attr-defined]


class TellsMeanLoads(MoE):
    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        y, aux = super().forward(x)
        return y, aux._replace(stats={"load": aux.stats["load"].float() / x.shape[0]})


class BalancesTheBatch(MoE):
    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        y, aux = super().forward(x)
        return y, aux._replace(losses={name: loss.mean().expand_as(loss) for name, loss in aux.losses.items()})


class SkipsIdleExperts(MoE):
    """A product for each expert that has tokens, as it is often written: its number depends on values."""

    def forward(self, x: Tensor) -> tuple[Tensor, Aux]:
        routing = self.router(x.flatten(0, 1))
        for expert in routing.experts.unique():
            if expert.item() < 0:
                raise AssertionError
        return super().forward(x)


@pytest.mark.parametrize(
    ("cls", "law", "says"),
    [
        (DropsTokens, "every_token_by_itself", "differs from itself alone"),
        (LearnsFromItsLossAlone, "gradient_reaches_every_parameter", "no gradient of the output reaches router.weight"),
        (TellsMeanLoads, "statistics_add_up", "'load' of 3 sequences is not the sum"),
        (BalancesTheBatch, "auxiliary_losses_are_of_one_sequence", "'balance' of sequence 0 of 3 is not what it is alone"),
        (SkipsIdleExperts, "forward_asks_no_tensor", "(2, 6) tokens alone"),
        (SkipsIdleExperts, "compiles_once", ""),
    ],
)
def test_a_broken_mixture_is_caught_by_its_law(cls: type[MoE], law: str, says: str) -> None:
    component = Component(Kind.ffn, "broken.moe", MoEParams, f"{__name__}:{cls.__qualname__}", "broken on purpose")
    case = next(case for case in cases([component], catalog()) if case.law.name == law)
    with pytest.raises(LawBroken) as broken:
        case()
    assert says in str(broken.value)
