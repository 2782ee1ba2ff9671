"""What other people's specs and checkpoints rely on: the parameters of every built-in, and the names under which it is saved.

Where an old spec or checkpoint would mean something else now, the component's `revision` has to be raised. What only adds
(a component, a parameter with a default) needs no new revision. Either is accepted with

    LLMKIT_ACCEPT_SNAPSHOTS=1 pytest tests/snapshots
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from llmkit import catalog, runtime
from llmkit.core.component import Component
from llmkit.core.kinds import Kind
from llmkit.testing import Subject, examples

HERE = Path(__file__).parent
ACCEPT = "LLMKIT_ACCEPT_SNAPSHOTS"
BUILTINS = [component for name in runtime.BUILTINS for component in import_module(name).llmkit_components()]
IN_THE_MODEL = (Kind.position, Kind.attention, Kind.norm, Kind.ffn)

# Words for people: they may be bettered without anyone's file becoming wrong.
PROSE = {"description", "title", "examples"}


def parameters(component: Component) -> dict[str, Any]:
    """The JSON schema of the parameters, without words."""
    schema = _without_prose(component.params.model_json_schema())
    assert isinstance(schema, dict)
    return schema


def _without_prose(value: Any, *, names: bool = False) -> Any:
    """`names`: the keys are names of fields, and one may be called `title`."""
    if isinstance(value, list):
        return [_without_prose(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if names or key not in PROSE}
    return {key: _without_prose(item, names=key in ("properties", "$defs") and not names) for key, item in kept.items()}


def saved(component: Component) -> dict[str, dict[str, str]]:
    """Name and shape of what the component saves in the small model of the laws, for every example of its parameters."""
    found = {}
    for params in examples(component, catalog()):
        state = Subject(component, params, catalog()).model.state_dict()
        shapes = {name: "x".join(map(str, value.shape)) for name, value in state.items() if belongs(name, component.kind)}
        found[params.model_dump_json(exclude_defaults=True)] = shapes
    return found


def belongs(name: str, kind: Kind) -> bool:
    """Whether a saved name of the first block, or of no block, is that of a component of this kind."""
    parts = name.split(".")
    if parts[0] == "blocks" and parts[1] != "0":
        return False
    return any(part in (kind, f"{kind}s") or part.endswith(f"_{kind}") for part in parts)


def now(component: Component) -> dict[str, Any]:
    keys = saved(component) if component.kind in IN_THE_MODEL else {}
    return {"revision": component.revision, "parameters": parameters(component), "saved": keys}


def only_adds(before: dict[str, Any], found: dict[str, Any]) -> bool:
    """Whether every old spec and checkpoint means what it meant: nothing gone, nothing changed, nothing new that is required."""
    return grows(before["parameters"], found["parameters"]) and all(
        found["saved"].get(example) == keys for example, keys in before["saved"].items()
    )


def grows(old: Any, new: Any) -> bool:
    """Whether a schema takes what it took and means the same: it may have more fields with a default, and more alternatives."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return bool(old == new)
    named = ("properties", "$defs", "mapping")
    if any(not grows(shape, new.get(key, {}).get(name)) for key in named for name, shape in old.get(key, {}).items()):
        return False
    alternatives = all(shape in new.get("oneOf", []) for shape in old.get("oneOf", []))
    rest = {*old, *new} - {*named, "oneOf", "discriminator"}
    return alternatives and grows(old.get("discriminator"), new.get("discriminator")) and all(old.get(key) == new.get(key) for key in rest)


@pytest.mark.parametrize("component", BUILTINS, ids=lambda component: f"{component.kind}:{component.name}")
def test_parameters_and_saved_names_change_only_with_the_revision(component: Component) -> None:
    file = HERE / f"{component.kind}-{component.name}.json"
    found = json.loads(json.dumps(now(component)))
    before = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    if found == before:
        return
    name = f"{component.kind} {component.name}, revision {component.revision},"
    raised = before is None or found["revision"] > before["revision"]
    assert raised or only_adds(before, found), (
        f"{name} has other parameters or saved names than in {file.name}, so that old specs or checkpoints mean something else: "
        f"raise its `revision`, then accept it: {ACCEPT}=1 pytest tests/snapshots"
    )
    assert os.environ.get(ACCEPT), f"{name} is new or has grown; accept it: {ACCEPT}=1 pytest tests/snapshots"
    file.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def test_a_change_of_meaning_is_told_from_an_addition() -> None:
    number = {"type": "number", "default": 1.0}
    before = {"parameters": {"properties": {"a": number}}, "saved": {"{}": {"a": "4"}}}
    added = {"parameters": {"properties": {"a": number, "b": number}}, "saved": {"{}": {"a": "4"}, '{"b":2.0}': {"b": "4"}}}
    assert only_adds(before, added)
    assert not only_adds(added, before)
    assert not only_adds(before, {**added, "saved": {"{}": {"renamed": "4"}}})
    assert not only_adds(before, {**added, "parameters": {"properties": {"a": {**number, "default": 2.0}}}})
    assert not only_adds(before, {**added, "parameters": {**added["parameters"], "required": ["b"]}})


def test_one_more_alternative_is_an_addition_and_one_less_is_not() -> None:
    def union(*names: str, **more: Any) -> dict[str, Any]:
        mapping = {name: f"#/$defs/{name}" for name in names}
        field = {"discriminator": {"mapping": mapping, "propertyName": "type"}, "oneOf": [{"$ref": ref} for ref in mapping.values()]}
        shapes = {name: {"properties": {"type": {"const": name}, **more}, "type": "object"} for name in names}
        return {"parameters": {"properties": {"scaling": field}, "$defs": shapes}, "saved": {}}

    assert only_adds(union("linear"), union("linear", "yarn"))
    assert only_adds(union("linear"), union("linear", factor={"default": 1.0}))
    assert not only_adds(union("linear", "yarn"), union("yarn"))
    assert not only_adds(union("linear", factor={"default": 1.0}), union("linear", factor={"default": 2.0}))


def test_no_snapshot_outlives_its_component() -> None:
    names = {f"{component.kind}-{component.name}" for component in BUILTINS}
    assert {file.stem for file in HERE.glob("*.json")} == names
