"""How an open registry meets pydantic: a field that holds any installed component of one kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, LiteralString, Union, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, SerializationInfo, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from llmkit.core.catalog import Catalog
from llmkit.core.component import Chosen, Component
from llmkit.core.kinds import Kind

if TYPE_CHECKING:
    from llmkit.core.document import Node


@dataclass(frozen=True)
class Slot:
    """`norm: Annotated[Chosen, Slot(Kind.norm)]` takes `rmsnorm` or `{type: rmsnorm, eps: 1e-6}`; they are the same thing.

    The catalog comes in the validation context under `"catalog"`. Errors inside the parameters keep their full path. With
    `"recorded"`, (kind, name) -> revision, parameters are read as those revisions wrote them.
    """

    kind: Kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(_dumped, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # Only which kind: the schema of a spec puts a reference here, since what is installed is not known to a class.
        return {"slot": str(self.kind)}

    def _validate(self, value: Any, info: ValidationInfo) -> Chosen:
        if isinstance(value, Chosen):
            return value
        catalog: Catalog = (info.context or {})["catalog"]
        component, rest = self._component(value, catalog)
        rest = component.migrated(rest, (info.context or {}).get("recorded", {}).get((self.kind, component.name), component.revision))
        # A ValidationError from in here is merged by pydantic into the outer one, with its full path.
        return Chosen(component, component.params.model_validate(rest, context=info.context))

    def _component(self, value: Any, catalog: Catalog) -> tuple[Component, dict[str, Any]]:
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, Mapping):
            raise _refusal("slot_shape", f"expected a {self.kind}: its name, or a mapping with its `type`; {self._installed(catalog)}")
        rest = dict(value)
        name = rest.pop("type", None)
        if not isinstance(name, str):
            raise _refusal("slot_type", f"this {self.kind} has no `type`; {self._installed(catalog)}")
        if (self.kind, name) not in catalog.entries:
            raise _refusal("slot_unknown", catalog.missing(self.kind, name))
        return catalog.find(self.kind, name), rest

    def _installed(self, catalog: Catalog) -> str:
        return f"installed: {', '.join(catalog.names(self.kind)) or 'none'}"


def _refusal(kind: LiteralString, reason: str) -> PydanticCustomError:
    # As a value, since pydantic reads braces in a message as its own.
    return PydanticCustomError(kind, "{reason}", {"reason": reason})


def plain(chosen: Chosen) -> dict[str, Any]:
    """A slot as YAML writes it: `type`, then every parameter, nested slots included."""
    return {"type": chosen.type, **chosen.params.model_dump(mode="json")}


def _dumped(chosen: Chosen, info: SerializationInfo) -> dict[str, Any]:
    """As `plain`; and where a dump leaves defaults out, those of nested slots too."""
    return {"type": chosen.type, **chosen.params.model_dump(mode="json", exclude_defaults=info.exclude_defaults)}


def models_at(root: type[BaseModel], parts: Sequence[str], document: Node, catalog: Catalog) -> list[type[BaseModel]]:
    """The models whose fields may stand at this address of a document: one, or one a branch where the field is a union."""
    options: list[Any] = [root]
    node: Node | None = document
    for part in parts:
        options = [inner for option in options for inner in _inside(option, part, node, catalog)]
        node = node.child(part) if node is not None else None
    return [model for option in options if (model := _model(option, node, catalog)) is not None]


def branches(annotation: Any) -> Iterator[Any]:
    """What a field may hold: its slots, models, and other types, with `Annotated` and unions taken apart."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        slot = next((one for one in metadata if isinstance(one, Slot)), None)
        yield from [slot] if slot is not None else branches(inner)
    elif get_origin(annotation) in (Union, UnionType):
        for branch in get_args(annotation):
            yield from branches(branch)
    else:
        yield annotation


def _inside(option: Any, part: str, node: Node | None, catalog: Catalog) -> Iterator[Any]:
    model = _model(option, node, catalog)
    if model is not None:
        field = model.model_fields.get(part)
        if field is not None:
            yield from branches(field.rebuild_annotation())
    elif get_origin(option) is dict:
        yield from branches(get_args(option)[1])
    elif get_origin(option) in (list, tuple):
        yield from branches(get_args(option)[0])


def _model(option: Any, node: Node | None, catalog: Catalog) -> type[BaseModel] | None:
    if isinstance(option, Slot):
        named = node.child("type") or node if node is not None else None
        entry = catalog.entries.get((option.kind, named.value)) if named is not None and isinstance(named.value, str) else None
        return entry.component.params if entry is not None else None
    return option if isinstance(option, type) and issubclass(option, BaseModel) else None
