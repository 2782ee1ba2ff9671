"""A family of models on the Hugging Face hub: how its configuration reads as a spec, how a spec reads as its configuration, its weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from llmkit.core.errors import UserError
from llmkit.core.slot import plain
from llmkit.core.spec import Spec
from llmkit.interop.anatomy import Anatomy, Disagreement, Part, anatomy, disagreements
from llmkit.interop.weights import Rule
from llmkit.interop.wording import Config
from llmkit.runtime import unchecked_spec

MODULES = (
    "llama", "gpt2", "mistral", "qwen2", "gpt_neox", "qwen3", "olmo2", "phi3", "smollm3", "gemma", "gemma2", "gemma3",
    "mixtral", "qwen3_moe", "deepseek_v3",
)  # fmt: skip
"""Files of `families`, the plainest first: of two families that are equally near to a spec, the earlier is named."""


@dataclass(frozen=True)
class Family:
    """One entry.

    model_type    `model_type` of its configuration: what an import is keyed on
    architecture  the class that transformers builds
    model_of      a configuration, its defaults filled in -> the spec's `model`
    config_of     what a spec means -> a configuration, which says of it what this family can say, and nothing of the rest
    rules         its weight map
    ignored       regular expressions of tensors that old files have and that hold no weights (masks, frequencies)
    prefix        of the names, which files saved from the model without its head lack
    """

    model_type: str
    architecture: str
    model_of: Callable[[Config], Part]
    config_of: Callable[[Anatomy], Config]
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)
    prefix: str = "model."

    def config(self, model: Anatomy) -> Config:
        """The configuration of a model."""
        return {"model_type": self.model_type, "architectures": [self.architecture], **self.config_of(model)}

    def disagreements(self, spec: Spec) -> list[Disagreement]:
        """Where a spec is not what this family has. None: it can be said exactly.

        What the family's configuration says of the model is read as a spec again: whatever does not come back, it cannot say.
        """
        model = anatomy(spec)
        # Unchecked: of a spec that is far from it a family says what it can, and that may not fit together.
        back = unchecked_spec({"tokenizer": plain(spec.tokenizer), "model": self.model_of(self.config(model))})
        return disagreements(model, anatomy(back))


@cache
def families() -> dict[str, Family]:
    """Every family, by `model_type`."""
    modules = [importlib.import_module(f"llmkit.interop.families.{name}") for name in MODULES]
    return {module.FAMILY.model_type: module.FAMILY for module in modules}


def family_of_config(config: Config) -> Family:
    """The family that a configuration names; `UserError` where there is none."""
    name = config.get("model_type")
    if not isinstance(name, str) or name not in families():
        raise UserError(f"config.json: model_type {name!r} is not a family that llmkit imports; it knows {', '.join(families())}")
    return families()[name]


def family_of_spec(spec: Spec, preferred: str | None = None) -> Family:
    """The first family that says this spec exactly, `preferred` before all. `UserError` with what is in the way of the nearest."""
    refusals: list[tuple[Family, list[Disagreement]]] = []
    for family in sorted(families().values(), key=lambda one: one.model_type != preferred):
        found = family.disagreements(spec)
        if not found:
            return family
        refusals.append((family, found))
    nearest, found = min(refusals, key=lambda one: len(one[1]))
    raise UserError(
        f"no Hugging Face family can express {spec.name!r}; the nearest is {nearest.model_type} ({nearest.architecture}), "
        f"where this is in the way:\n{_listed(nearest, found)}"
    )


def named_family(spec: Spec, name: str) -> Family:
    """The family of this name. `UserError` where there is none, or with what of the spec it cannot express."""
    if name not in families():
        raise UserError(f"there is no family {name!r}; llmkit exports {', '.join(families())}")
    family = families()[name]
    found = family.disagreements(spec)
    if found:
        raise UserError(f"family {name} cannot express {spec.name!r}; this is in the way:\n{_listed(family, found)}")
    return family


def _listed(family: Family, found: list[Disagreement]) -> str:
    return "\n".join(
        f"  {one.address}: the spec has {_written(one.value)}, {family.model_type} has {_written(one.theirs)}" for one in found
    )


def _written(value: Any) -> str:
    return "none" if value is None else str(value)
