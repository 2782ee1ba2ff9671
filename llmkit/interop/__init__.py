"""Hugging Face models both ways: configurations, weights, and the proof that both sides say the same."""

from llmkit.interop.family import families, family_of_config, family_of_spec
from llmkit.interop.pretrained import config_of, load_pretrained, save_pretrained, spec_of
from llmkit.interop.proof import prove

__all__ = ["config_of", "families", "family_of_config", "family_of_spec", "load_pretrained", "prove", "save_pretrained", "spec_of"]
