"""Models of the Hugging Face hub as models of a spec, and back, on disk: configurations, weights, end tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llmkit.core.errors import UserError
from llmkit.core.problems import SpecError
from llmkit.core.spec import Spec
from llmkit.interop.anatomy import anatomy
from llmkit.interop.family import Family, family_of_config, family_of_spec
from llmkit.interop.files import TensorFiles, read_object, write_object
from llmkit.interop.huggingface import filled, write_config, write_tensors
from llmkit.interop.weights import Link, Shape, links
from llmkit.interop.wording import Config, reworded
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.runtime import load_spec

CONFIG, GENERATION = "config.json", "generation_config.json"
ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class Imported:
    """A model of the hub as a model of a spec: its values in fp32, which hold every bf16 and fp16 number exactly.

    dtypes      what each parameter was saved in: an export gives that back
    generation  `generation_config.json`, or what of it the configuration says: the tokens that begin, end and fill a text
    """

    model: Decoder
    family: Family
    dtypes: dict[str, torch.dtype]
    generation: dict[str, Any]


def spec_of(config: Config) -> dict[str, Any]:
    """The spec document of a Hugging Face configuration (the content of a `config.json`), without any weights.

    `UserError` where no family has its `model_type`, or where it says something that no component does.
    """
    family, whole = family_of_config(config), filled(config)
    try:
        return {"tokenizer": "bytes", "model": family.model_of(whole)}
    except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{CONFIG}: its settings make no {family.model_type} model: {error!r}") from error


def config_of(spec: Spec) -> Config:
    """The Hugging Face configuration of a spec. `UserError` with what is in the way, where no family can express it."""
    return family_of_spec(spec).config(anatomy(spec))


def load_pretrained(directory: str | Path, tokenizer: Mapping[str, Any] | None = None) -> Imported:
    """A model that `save_pretrained` wrote, transformers' or ours.

    tokenizer  the spec's slot; its files may lie elsewhere, and the model has rows for its ids in any case

    Raises `UserError` where files are missing or damaged, the family is not known, or a setting or a weight has no place here.
    """
    place = Path(directory)
    config = read_object(place / CONFIG)
    family = family_of_config(config)
    if "quantization_config" in config:
        raise UserError(f"{str(place / CONFIG)!r}: the weights are quantised (quantization_config); import the model in bf16 or fp32")
    document = spec_of(config) | ({} if tokenizer is None else {"tokenizer": tokenizer}) | {"name": place.resolve().name}
    model = build(_spec(document, config, place), device="meta").to_empty(device="cpu")
    model.tie_weights()
    model.reset_buffers()
    with TensorFiles(place) as files:
        dtypes = _read(model, family, files)
    return Imported(model.eval(), family, dtypes, _generation(place, config))


def save_pretrained(
    model: Decoder,
    directory: str | Path,
    *,
    dtypes: Mapping[str, torch.dtype] | None = None,
    generation: Mapping[str, Any] | None = None,
    shard_size: str | None = None,
    family: Family | None = None,
) -> Family:
    """Write a model as transformers reads it: configuration, weights, `generation_config.json`; the family that it is.

    family      one that can express the spec; the plainest that can unless given
    dtypes      what to save each parameter in; as it is unless given
    generation  the content of `generation_config.json`
    shard_size  of the largest file, such as "2GB"; 5 GB unless given

    Raises `UserError` with the component that is in the way, where no family can express the spec.
    """
    family, place = family or family_of_spec(model.spec), Path(directory)
    own = saved(model)
    wanted = {name: (dtypes or {}).get(name, tensor.dtype) for name, tensor in own.items()}
    tensors: dict[str, Tensor] = {}
    for link in _links(model, family):
        given = link.outward([own[name].detach().cpu().to(wanted[name]) for name in link.ours])
        tensors.update(zip(link.theirs, given, strict=True))
    ends = {role: value for role in ROLES if (value := (generation or {}).get(role)) is not None}
    main = max(wanted.values(), key=list(wanted.values()).count)
    place.mkdir(parents=True, exist_ok=True)
    write_config(place, family.config(anatomy(model.spec)) | dict.fromkeys(ROLES) | ends | {"dtype": str(main).removeprefix("torch.")})
    write_tensors(place, tensors, *([] if shard_size is None else [shard_size]))
    write_object(place / GENERATION, dict(generation or {}))
    return family


def saved(model: Decoder) -> dict[str, Tensor]:
    """Every parameter and persistent buffer once, by its name in the model."""
    state = model.state_dict(keep_vars=True)
    return {name: tensor for name, tensor in state.items() if not (model.tied and name == "head.weight")}


def _spec(document: dict[str, Any], config: Config, place: Path) -> Spec:
    """The spec of a configuration; `UserError` in the configuration's words where it makes no model."""
    try:
        return load_spec(document)
    except SpecError as error:
        inner = [problem for problem in error.problems if problem.address.split(".")[0] == "model"]
        if len(inner) < len(error.problems):
            raise
        whole = filled(config)
        told = "\n".join(reworded(f"{problem.address.rpartition('.')[2]}: {problem.message}", whole) for problem in inner)
        raise UserError(f"{str(place / CONFIG)!r} makes no model: {told}") from error


def _links(model: Decoder, family: Family) -> list[Link]:
    shapes: dict[str, Shape] = {name: tuple(tensor.shape) for name, tensor in saved(model).items()}
    return links(family.rules, anatomy(model.spec), shapes)


def _read(model: Decoder, family: Family, files: TensorFiles) -> dict[str, torch.dtype]:
    """Put a directory's tensors into the model; the dtypes that they had."""
    own, left = saved(model), {name for name in files if not any(re.search(pattern, name) for pattern in family.ignored)}
    bare = not any(name.startswith(family.prefix) for name in left)
    dtypes: dict[str, torch.dtype] = {}
    for link in _links(model, family):
        names = [name.removeprefix(family.prefix) if bare else name for name in link.theirs]
        missing = next((name for name in names if name not in files), None)
        if missing is not None:
            raise UserError(f"{str(files.directory)!r} has no tensor {missing!r}, which its {CONFIG} calls for: it is of another model")
        theirs = [files.read(name) for name in names]
        left.difference_update(names)
        _put([own[name] for name in link.ours], link, theirs, files.directory)
        dtypes.update(dict.fromkeys(link.ours, theirs[0].dtype))
    if model.tied:
        # Some files hold a tied head as well; transformers takes the embedding.
        left.discard("lm_head.weight")
    if left:
        raise UserError(f"{str(files.directory)!r} has tensors for which its {CONFIG} has no place: {', '.join(sorted(left)[:5])}")
    return dtypes


def _put(own: list[Tensor], link: Link, theirs: list[Tensor], directory: Path) -> None:
    try:
        values = link.inward(theirs, [tensor.shape for tensor in own])
        fits = all(value.shape == tensor.shape for value, tensor in zip(values, own, strict=True))
    except (RuntimeError, ValueError):
        fits = False
    if not fits:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in theirs[:3])
        raise UserError(f"{str(directory)!r}: {link.theirs[0]!r} is {shapes}, which does not fit {link.ours[0]} {tuple(own[0].shape)}")
    with torch.no_grad():
        for tensor, value in zip(own, values, strict=True):
            tensor.copy_(value)


def _generation(place: Path, config: Config) -> dict[str, Any]:
    if (place / GENERATION).is_file():
        return read_object(place / GENERATION)
    return {role: config[role] for role in ROLES if config.get(role) is not None}
