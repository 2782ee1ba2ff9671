"""The filled spec: every default written, so that a run can be read without the llmkit that made it."""

from __future__ import annotations

from typing import Any

import yaml

from llmkit.core.document import BOOL, FLOAT, INT, NULL
from llmkit.core.spec import Spec


def filled(spec: Spec) -> dict[str, Any]:
    """The spec as YAML writes it, every default included, and under `derived` what follows from the rest.

    `derived` is for a person: loading ignores it and computes it again.
    """
    document: dict[str, Any] = spec.model_dump(mode="json")
    document["derived"] = {
        "model.vocab_size": spec.vocab_size,
        "train.seq_len": spec.seq_len,
        "train.steps": spec.steps,
        "train.tokens": spec.steps * spec.train.batch_size * spec.seq_len,
    }
    return document


def to_yaml(document: dict[str, Any]) -> str:
    """A document as YAML that reads back as the same, by YAML 1.1 and by 1.2: text that either takes for a number is quoted."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


class _Dumper(yaml.SafeDumper):
    """Writes equal values out each time, and knows what YAML 1.2 takes for more than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def text(self, data: str) -> yaml.ScalarNode:
        """Text; Unicode's line breaks are escaped, since a reader would turn them into spaces."""
        return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if set(data) & set("\x85\u2028\u2029") else None)


_Dumper.add_representer(str, _Dumper.text)
for _name, _pattern in (("null", NULL), ("bool", BOOL), ("int", INT), ("float", FLOAT)):
    _Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", _pattern, None)


def differences(left: Spec, right: Spec) -> list[tuple[str, Any, Any]]:
    """(address, value on the left, value on the right) of everything that differs; None where one side lacks it."""
    ours, theirs = (_leaves(spec.model_dump(mode="json"), "") for spec in (left, right))
    return [(address, ours.get(address), theirs.get(address)) for address in {**ours, **theirs} if ours.get(address) != theirs.get(address)]


def _leaves(value: Any, address: str) -> dict[str, Any]:
    if isinstance(value, dict) and value:
        items = value.items()
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        items = dict(enumerate(value)).items()
    else:
        return {address: value}
    found: dict[str, Any] = {}
    for key, item in items:
        found.update(_leaves(item, f"{address}.{key}" if address else str(key)))
    return found
