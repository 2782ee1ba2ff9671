"""Several seeds of one spec trained as one stacked model: what a small model's steps cost is then shared."""

from llmkit.train.stacked.reasons import can_stack
from llmkit.train.stacked.run import TOGETHER, train_together

__all__ = ["TOGETHER", "can_stack", "train_together"]
