"""How an open registry meets pydantic: a field that holds any installed component of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from llmkit.core.catalog import Catalog
from llmkit.core.component import Chosen, Component
from llmkit.core.kinds import Kind


@dataclass(frozen=True)
class Slot:
    """`norm: Annotated[Chosen, Slot(Kind.norm)]` takes `rmsnorm` or `{type: rmsnorm, eps: 1e-6}`; they are the same thing.

    The catalog comes in the validation context under `"catalog"`. Errors inside the parameters keep their full path.
    """

    kind: Kind

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(plain),
            metadata={"slot": self.kind},
        )

    def _validate(self, value: Any, info: ValidationInfo) -> Chosen:
        if isinstance(value, Chosen):
            return value
        catalog: Catalog = (info.context or {})["catalog"]
        component, rest = self._component(value, catalog)
        # A ValidationError from in here is merged by pydantic into the outer one, with its full path.
        return Chosen(component, component.params.model_validate(rest, context=info.context))

    def _component(self, value: Any, catalog: Catalog) -> tuple[Component, dict[str, Any]]:
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, Mapping):
            raise PydanticCustomError(
                "slot_shape", f"expected the name of a {self.kind} or a mapping with a `type`, got {{value!r}}", {"value": value}
            )
        rest = dict(value)
        name = rest.pop("type", None)
        if not isinstance(name, str):
            raise PydanticCustomError("slot_type", f"this {self.kind} has no `type`; name one of {', '.join(catalog.names(self.kind))}")
        if (self.kind, name) not in catalog.entries:
            raise PydanticCustomError("slot_unknown", "{reason}", {"reason": catalog.missing(self.kind, name), "name": name})
        return catalog.find(self.kind, name), rest


def plain(chosen: Chosen) -> dict[str, Any]:
    """A slot as YAML writes it: `type`, then every parameter, nested slots included."""
    return {"type": chosen.type, **chosen.params.model_dump(mode="json")}
