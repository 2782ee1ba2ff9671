"""Laws of every component: how it is declared."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from functools import cache

from llmkit.core.component import Params
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.subject import Subject

HEAVY = ("torch", "accelerate", "datasets", "tokenizers", "transformers", "numpy", "scipy", "pandas", "matplotlib")

_PROBE = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
module = importlib.import_module(sys.argv[2])
while True:
    hook = getattr(module, "llmkit_components", None)
    if hook is not None:
        list(hook())
    parent = module.__name__.rpartition(".")[0]
    if not parent:
        break
    module = sys.modules[parent]
print(json.dumps([name for name in json.loads(sys.argv[3]) if name in sys.modules]))
"""


def registration_imports_nothing_heavy(subject: Subject) -> None:
    """Declaring the component imports none of torch, numpy, transformers and their like.

    A fresh interpreter imports the module of its parameters, and calls the hooks of that module and of the packages around it.
    """
    module = subject.component.params.__module__
    heavy = _heavy_after(module)
    if heavy:
        raise LawBroken(f"importing {module} and calling its hook imports {', '.join(heavy)}; name the code by `target` instead")


@cache
def _heavy_after(module: str) -> list[str]:
    arguments = [sys.executable, "-c", _PROBE, json.dumps(sys.path), module, json.dumps(HEAVY)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it died"])[-1]
        raise LawBroken(f"a fresh interpreter cannot import {module}: {last}")
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def parameters_are_frozen_complete_and_described(subject: Subject) -> None:
    """Parameters are a `Params`, frozen, refuse what is extra, and every field has a description."""
    cls = subject.component.params
    if not (isinstance(cls, type) and issubclass(cls, Params)):
        raise LawBroken(f"{cls!r} is no subclass of llmkit.Params")
    if not cls.model_config.get("frozen") or cls.model_config.get("extra") != "forbid":
        raise LawBroken(f"{cls.__name__} changes frozen or extra; leave both as llmkit.Params has them")
    bare = [name for name, field in cls.model_fields.items() if not field.description]
    if bare:
        raise LawBroken(f"{cls.__name__}.{bare[0]} has no description; write Field(..., description='...')")


def parameters_survive_being_written_down(subject: Subject) -> None:
    """Parameters that are written as plain data and read again are equal: a saved spec is complete."""
    written = subject.params.model_dump(mode="json")
    try:
        read = type(subject.params).model_validate(json.loads(json.dumps(written)), context={"catalog": subject.catalog})
    except ValueError as error:
        raise LawBroken(f"{written} is refused when it is read again: {error}") from error
    if read != subject.params:
        raise LawBroken(f"{subject.params!r} comes back as {read!r}")


def target_satisfies_the_interface(subject: Subject) -> None:
    """The target can be imported and is a subclass of its kind's interface."""
    component = subject.component
    module, _, attribute = component.kind.interface.partition(":")
    interface = getattr(importlib.import_module(module), attribute)
    try:
        found = component.resolve()
    except (ImportError, AttributeError) as error:
        raise LawBroken(f"target {component.target!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, interface)):
        raise LawBroken(f"{component.target} is no subclass of llmkit.{attribute}")


LAWS = (
    Law(registration_imports_nothing_heavy, once=True),
    Law(parameters_are_frozen_complete_and_described, once=True),
    Law(target_satisfies_the_interface, once=True),
    Law(parameters_survive_being_written_down),
)
