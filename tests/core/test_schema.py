"""What an editor is told: right specs are valid, wrong ones are not, and each with one message at its place."""

from __future__ import annotations

import jsonschema
import pytest

import llmkit
from llmkit.core.compose import recipe_names
from llmkit.core.document import read_yaml
from llmkit.core.filled import filled
from llmkit.core.kinds import Kind
from llmkit.core.schema import spec_schema
from llmkit.runtime import RECIPES, load_spec

MODEL = {"d_model": 64, "n_layers": 2, "max_seq_len": 32}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = spec_schema(llmkit.catalog())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("name", recipe_names(RECIPES))
def test_a_recipe_that_ships_is_valid_as_written_and_as_filled(validator, name):
    assert list(validator.iter_errors(read_yaml((RECIPES / f"{name}.yaml").read_text(), name).plain())) == []
    assert list(validator.iter_errors(filled(load_spec(f"recipe:{name}")))) == []


@pytest.mark.parametrize(
    "document",
    [
        {"extends": "recipe:tiny", "model": {"n_layers": 3}},
        {"model": {**MODEL, "block": {"norm": {"eps": 1e-5}}}},
        {"model": {**MODEL, "blocks": {"a": {"position": "none"}, "b": {}}, "pattern": {"repeat": ["a"]}, "norm": None}},
        {"model": MODEL, "train": {"tokens": "2_000_000", "optimizer": {"lr": 1e-3}}, "eval": ["perplexity"]},
        {"model": {**MODEL, "block": {"attention": {"type": "mha", "n_heads": 4, "bias": "qkv"}}}},
        {"model": {**MODEL, "position": {"type": "rope", "scaling": {"type": "yarn", "factor": 2.0}}}},
    ],
)
def test_a_partial_spec_is_valid_since_layers_below_fill_it(validator, document):
    assert list(validator.iter_errors(document)) == []


@pytest.mark.parametrize(
    ("document", "path", "says"),
    [
        ({"tokenizer": "bytes"}, "$", "'model' is a required property"),
        ({"model": {"d_model": 64, "n_layers": 2}}, "$.model", "'max_seq_len' is a required property"),
        ({"model": MODEL, "modle": {}}, "$", "'modle' was unexpected"),
        ({"model": {**MODEL, "d_model": "wide"}}, "$.model.d_model", "'wide'"),
        ({"model": {**MODEL, "n_layers": 0}}, "$.model.n_layers", "0"),
        ({"model": {**MODEL, "norm": "rmsnrom"}}, "$.model.norm", "is not one of ['dyt', 'layernorm', 'none', 'rmsnorm']"),
        ({"model": {**MODEL, "norm": {"type": "rmsnorm", "esp": 1}}}, "$.model.norm", "'esp' was unexpected"),
        ({"model": {**MODEL, "norm": {"type": "rmsnorm", "eps": -1}}}, "$.model.norm.eps", "-1"),
        ({"model": {**MODEL, "block": {"layout": "prae"}}}, "$.model.block.layout", "is not one of"),
        ({"model": {**MODEL, "blocks": {"a": {"norm": 3}}}}, "$.model.blocks.a.norm", "3 is not of type 'string', 'object'"),
        ({"model": {**MODEL, "block": {"attention": {"type": "gqa", "n_heads": "x"}}}}, "$.model.block.attention.n_heads", "'x'"),
        ({"model": MODEL, "eval": ["perplexitty"]}, "$.eval[0]", "is not one of"),
    ],
)
def test_a_wrong_spec_has_one_error_at_its_place(validator, document, path, says):
    errors = list(validator.iter_errors(document))
    assert {error.json_path for error in errors} == {path} and says in errors[0].message


def test_every_component_and_every_parameter_is_in_it_with_its_description():
    definitions = spec_schema(llmkit.catalog())["$defs"]
    for component in llmkit.catalog():
        slot = definitions[f"slot:{component.kind}"]
        branch = next(one["then"] for one in slot["allOf"] if one["if"].get("properties") == {"type": {"const": component.name}})
        assert f"{component.name}: {component.summary}" in slot["properties"]["type"]["description"]
        assert set(branch["properties"]) == {"type", *component.params.model_fields}
        assert all(branch["properties"][name]["description"] for name in component.params.model_fields)
    assert {f"slot:{kind}" for kind in Kind} <= set(definitions)
