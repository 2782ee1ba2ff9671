"""Documents to one document, before anything is validated: recipes, `extends`, `--set`.

Layers, from the bottom: `recipes/defaults.yaml`, what is extended, the file itself, then every `--set`. The laws of `merge`:

- mappings merge, everything else is replaced, lists too; the address of an override may name an item (`eval.0.type`)
- a name and a mapping with that `type` are the same thing: `rmsnorm` and `{type: rmsnorm}`
- a changed `type` drops the parameters of the old one, the same type keeps them
- of exclusive keys (`train.steps`, `train.tokens`) the layer above decides; both in one layer is a problem
- after all layers, `blocks.<name>` is laid over `block`, by the same laws
- `name` and `extends` are not inherited, and `derived` is never read: it is computed again
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from llmkit.core.document import DEFAULTS, Node, located, read_value, read_yaml
from llmkit.core.problems import Place, Problem, SpecError, suggestion

Source: TypeAlias = str | Path | Mapping[str, Any]

EXCLUSIVE: dict[tuple[str, ...], tuple[tuple[str, ...], ...]] = {("train",): (("steps", "tokens"),), ("data",): (("source", "sources"),)}
"""By the address of a mapping: groups of keys of which one layer may set one."""

RECIPE = "recipe:"

STUDIES = "studies/"
"""The folder of the recipes that are studies: they extend a spec, and are none."""

OVERRIDE = "--set "

_UNHEARD = "changes nothing, since every block of `model.blocks` says otherwise; set it there, as model.blocks.NAME"


class Layer(NamedTuple):
    """A document that was read: its name in messages, what it holds, and where its own `extends` starts from."""

    file: str
    node: Node
    directory: Path | None
    stem: str


def compose(source: Source, overrides: Sequence[str], recipes: Path) -> Node:
    """The one document of a spec. `SpecError` where it cannot be read.

    source     a path, `recipe:NAME`, or a mapping
    overrides  `address=value`, the value in YAML
    recipes    the directory of the recipes that ship, `defaults.yaml` among them
    """
    return inherit_blocks(lay(read_layer(source, recipes), overrides, recipes))


def lay(top: Layer, overrides: Sequence[str], recipes: Path) -> Node:
    """All layers of a document laid over each other, before `blocks` inherit: more may be laid over it."""
    layers = [*_extended(top, recipes), top]
    studies = [problem for layer in layers for problem in _study(layer)]
    if studies:
        raise SpecError(studies)
    required = [problem for layer in layers for problem in _unmet(layer.node)]
    if required:
        raise SpecError(required)
    sets = [_override(text) for text in overrides]
    problems = [problem for layer in layers for problem in _both_in_one(layer.node.value)] + _both_in_sets(sets)
    if problems:
        raise SpecError(problems)
    document = read_layer(DEFAULTS, recipes).node
    for layer in layers:
        document = merge(document, _without(layer.node, "extends", "derived", *([] if layer is top else ["name"])))
    for override in sets:
        document = merge(document, override)
    if "name" not in document.value:
        document = merge(document, Node({"name": Node(top.stem, Place(top.file, 1, 1))}, document.place, bare=True))
    return document


def overlay(document: Node, overrides: Sequence[Node]) -> Node:
    """A laid document with one more layer of overrides (`nested`) over it, its blocks inherited: an arm of a study."""
    problems = _both_in_sets(overrides)
    if problems:
        raise SpecError(problems)
    for override in overrides:
        document = merge(document, override)
    return inherit_blocks(document)


def _study(layer: Layer) -> Iterator[Problem]:
    axes = layer.node.child("axes")
    if axes is not None:
        message = f"{layer.file} is a study, not a spec; run it with `llmkit ablate {layer.file}`, or name the spec that it extends"
        yield Problem(axes.key or axes.place, "axes", message)


def merge(under: Node | None, over: Node, address: tuple[str, ...] = ()) -> Node:
    """One document laid over another, by the laws above."""
    if under is None:
        return over
    if over.bare and isinstance(under.value, list):
        return _merge_items(under, over, address)
    if isinstance(over.value, str) and isinstance(under.value, dict) and _type(under.value) == over.value:
        return replace(over, value={**under.value, "type": Node(over.value, over.place)})
    if not isinstance(over.value, dict):
        return over
    lower = _as_mapping(under)
    before, after = _type(lower), _type(over.value)
    changed = before is not None and after is not None and before != after
    if changed or (lower is not under.value and not lower):
        return over
    values = {name: node for name, node in lower.items() if name not in _displaced(over.value, address)}
    for name, node in over.value.items():
        values[name] = merge(values.get(name), node, (*address, name))
    return replace(under if over.bare else over, value=values, key=under.key if over.bare else over.key, bare=under.bare and over.bare)


def inherit_blocks(document: Node) -> Node:
    """`model.blocks.<name>` laid over `model.block`, which then has served its purpose.

    `SpecError` where an override of `model.block` reaches no block, since each says otherwise: it would change nothing, silently.
    """
    model = document.child("model")
    blocks = model.child("blocks") if model is not None else None
    if model is None or blocks is None or not isinstance(blocks.value, dict):
        return document
    block = model.child("block")
    named = {name: _inherited(block, node) for name, node in blocks.value.items()}
    reached = {leaf.place for node in named.values() for _, leaf in node.leaves()}
    lost = [
        (address, leaf.place) for address, leaf in (block.leaves("model.block") if block is not None else ()) if leaf.place not in reached
    ]
    unheard = [Problem(place, address, _UNHEARD) for address, place in lost if place.file.startswith(OVERRIDE)]
    if unheard:
        raise SpecError(unheard)
    values = {name: node for name, node in model.value.items() if name != "block"}
    values["blocks"] = replace(blocks, value=named)
    return replace(document, value={**document.value, "model": replace(model, value=values)})


def _inherited(block: Node | None, named: Node) -> Node:
    """A named block that says nothing is the block it inherits from."""
    if named.value is None and block is not None:
        return replace(block, key=named.key)
    return merge(block, named) if isinstance(named.value, dict) else named


def read_layer(source: Source, recipes: Path) -> Layer:
    """A document by itself, without what it extends."""
    if isinstance(source, Mapping):
        file = "<mapping>"
        return Layer(file, _mapping(located(source, Place(file))), Path.cwd(), "spec")
    if isinstance(source, str) and source.startswith(RECIPE):
        path = _recipe(source, recipes)
        return Layer(source, _mapping(read_yaml(_text(path, source), source)), path.parent, path.stem)
    path = Path(source)
    return Layer(str(path), _mapping(read_yaml(_text(path, str(path)), str(path))), path.parent, path.stem)


def recipe_names(recipes: Path) -> list[str]:
    """The specs that ship, as `recipe:NAME` calls them."""
    return [name for name in _shipped(recipes) if not name.startswith(STUDIES)]


def study_names(recipes: Path) -> list[str]:
    """The studies that ship, as `recipe:NAME` calls them."""
    return [name for name in _shipped(recipes) if name.startswith(STUDIES)]


def _shipped(recipes: Path) -> list[str]:
    names = (path.relative_to(recipes).with_suffix("").as_posix() for path in recipes.rglob("*.yaml"))
    return sorted(name for name in names if RECIPE + name != DEFAULTS)


def recipe_text(name: str, recipes: Path) -> str:
    """A recipe's file, to be copied elsewhere: what it extends by a relative path is named as a recipe."""
    path = _recipe(RECIPE + name, recipes)
    text = _text(path, RECIPE + name)
    extends = _mapping(read_yaml(text, RECIPE + name)).child("extends")
    if extends is None or str(extends.value).startswith(RECIPE):
        return text
    below = Path(os.path.normpath(path.parent / extends.value)).relative_to(recipes).with_suffix("").as_posix()
    lines = text.splitlines(keepends=True)
    lines[(extends.place.line or 1) - 1] = f"extends: {RECIPE}{below}\n"
    return "".join(lines)


def _recipe(source: str, recipes: Path) -> Path:
    name = source.removeprefix(RECIPE)
    if source != DEFAULTS and name not in _shipped(recipes):
        raise SpecError([Problem(Place(source), "", f"no recipe is called {name!r}; {suggestion(name, _shipped(recipes))}")])
    return recipes / f"{name}.yaml"


def _text(path: Path, shown: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([Problem(Place(shown), "", f"is no UTF-8 text (byte {error.start}); save it as UTF-8")]) from None
    except OSError as error:
        remedy = "give the path of a spec, or recipe:NAME for one that ships"
        raise SpecError([Problem(Place(shown), "", f"cannot be read ({(error.strerror or str(error)).lower()}); {remedy}")]) from None


def _mapping(node: Node) -> Node:
    if node.value is None:
        return replace(node, value={})
    if not isinstance(node.value, dict):
        raise SpecError([Problem(node.place, "", "a spec is a mapping; begin with `model:`")])
    # An error about the whole document stands at its head, not at its first key.
    return replace(node, place=replace(node.place, line=1, column=1) if node.place.line else node.place)


def _extended(layer: Layer, recipes: Path) -> list[Layer]:
    """What a layer extends, the lowest first."""
    found: list[Layer] = []
    seen = [_identity(layer)]
    while (extends := layer.node.child("extends")) is not None:
        place = extends.place
        if not isinstance(extends.value, str):
            raise SpecError([Problem(place, "extends", "expected one path, or recipe:NAME; chain files to extend several")])
        source = extends.value
        if not source.startswith(RECIPE):
            source = os.path.normpath((layer.directory or Path()) / source)
        try:
            layer = read_layer(source, recipes)
        except SpecError as error:
            if not (unread := error.problems[0]).place.line:
                raise SpecError([Problem(place, "extends", str(unread))]) from None
            raise
        if _identity(layer) in seen:
            raise SpecError([Problem(place, "extends", f"{source!r} extends itself in the end; break the circle")])
        seen.append(_identity(layer))
        found.insert(0, layer)
    return found


def _identity(layer: Layer) -> str:
    if layer.file.startswith((RECIPE, "<")) or layer.directory is None:
        return layer.file
    return str((layer.directory / Path(layer.file).name).resolve())


def _override(text: str) -> Node:
    """`a.b=VALUE` as a layer: mappings that nobody wrote, around the value."""
    address, equals, value = text.partition("=")
    parts = address.strip().split(".")
    file = f"{OVERRIDE}{text}"
    if not equals or not all(parts):
        raise SpecError([Problem(Place(file), "", "is no override; write ADDRESS=VALUE, such as model.block.norm=layernorm")])
    if parts[0] in ("extends", "derived"):
        raise SpecError([Problem(Place(file), parts[0], "cannot be set from outside; set what it stands for")])
    return nested(parts, read_value(value, file), Place(file))


def nested(parts: Sequence[str], node: Node, key: Place) -> Node:
    """A value below mappings that nobody wrote: what an address lays over a document. `key` is where the address was written."""
    for part in reversed(parts):
        node = Node({part: replace(node, key=key)}, key, bare=True)
    return node


def _type(mapping: Mapping[str, Node]) -> str | None:
    named = mapping.get("type")
    return named.value if named is not None and isinstance(named.value, str) else None


def _as_mapping(under: Node) -> dict[str, Node]:
    """A name is the mapping with that `type`; any other scalar or list has nothing to merge with."""
    if isinstance(under.value, dict):
        return under.value
    return {"type": under} if isinstance(under.value, str) else {}


def _merge_items(items: Node, over: Node, address: tuple[str, ...]) -> Node:
    values = list(items.value)
    for index, node in over.value.items():
        if not index.isdecimal() or int(index) >= len(values):
            there = f"it has {len(values)} items, counted from 0" if values else "it is empty"
            raise SpecError([Problem(over.place, ".".join(address), f"has no item {index!r}: {there}; set the whole list instead")])
        values[int(index)] = merge(values[int(index)], node, (*address, index))
    return replace(items, value=values)


def _displaced(over: Mapping[str, Node], address: tuple[str, ...]) -> set[str]:
    """Keys of the layer below that exclude one of this layer's."""
    groups = EXCLUSIVE.get(address, ())
    return {name for group in groups for name in group if any(_given(over, one) for one in group if one != name)}


def _given(mapping: Mapping[str, Node], name: str) -> bool:
    return name in mapping and mapping[name].value is not None


def _both_in_one(document: dict[str, Node]) -> Iterator[Problem]:
    for address, groups in EXCLUSIVE.items():
        parts, node = Node(document, Place("")).walk(address)
        if len(parts) < len(address) or not isinstance(node.value, dict):
            continue
        for group in groups:
            yield from _excluded(
                [(node.value[name], (*address, name)) for name in node.value if name in group and _given(node.value, name)]
            )


def _both_in_sets(sets: Sequence[Node]) -> list[Problem]:
    """All overrides together are one layer: the person who typed both must choose."""
    given: dict[str, Node] = {}
    for override in sets:
        given |= dict(override.leaves())
    found: list[Problem] = []
    for address, groups in EXCLUSIVE.items():
        for group in groups:
            names = [(*address, name) for name in group]
            found += _excluded([(given[".".join(name)], name) for name in names if given.get(".".join(name), _NOTHING).value is not None])
    return found


_NOTHING = Node(None, Place(""))


def _excluded(given: Sequence[tuple[Node, tuple[str, ...]]]) -> Iterator[Problem]:
    for node, address in given[1:]:
        first, name = given[0]
        place = node.key or node.place
        yield Problem(place, ".".join(address), f"excludes {'.'.join(name)!r}, given at {first.key or first.place}; remove one of them")


def _unmet(document: Node) -> Iterator[Problem]:
    """Distributions under `requires` that are not installed, or not in that version."""
    requires = document.child("requires")
    if requires is None or not isinstance(requires.value, list):
        return
    for index, node in enumerate(requires.value):
        problem = _missing_distribution(node.value)
        if problem is not None:
            yield Problem(node.place, f"requires.{index}", problem)


def _missing_distribution(text: Any) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import InvalidRequirement, Requirement

    try:
        requirement = Requirement(str(text))
    except InvalidRequirement as error:
        return f"{text!r} is no requirement ({str(error).splitlines()[0]}); write it as for pip, such as llmkit-acme>=0.2"
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        return f"{text!r} is not installed; run: pip install {str(requirement)!r}"
    if requirement.specifier.contains(installed, prereleases=True):
        return None
    return f"{text!r} is not met, {requirement.name} {installed} is installed; run: pip install --upgrade {str(requirement)!r}"


def _without(document: Node, *names: str) -> Node:
    return replace(document, value={name: node for name, node in document.value.items() if name not in names})
