"""A package to begin with, for each kind of component. Importing this imports no torch.

What is copied is code like any other: the folder of a kind holds a plugin whose component is called `my.idea`, which is under every
law in llmkit's own tests. A new package is that folder with the names changed.
"""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path

from llmkit.core.errors import UserError
from llmkit.core.kinds import Kind

TEMPLATES = Path(__file__).parent
BASELINE = """# What the other spec is compared with: llmkit train baseline.yaml
tokenizer: bytes
model:
  d_model: 64
  n_layers: 2
  max_seq_len: 64
  position: {position}
  block:
    attention: {{type: mha, n_heads: 4}}
    ffn: swiglu
    norm: rmsnorm
train:
  steps: 100
  batch_size: 8
"""
_NAME = re.compile(r"^[a-z][a-z0-9]*([-_][a-z0-9]+)*$")
_PREFIX = re.compile(r"^[a-z][a-z0-9_]*$")


@dataclass(frozen=True)
class Names:
    """What a package and all in it is called: of `my-idea` with the prefix `my`,

    distribution  `llmkit-my-idea`
    package       `llmkit_my_idea`
    component     `my.idea`: the prefix is not written twice
    module        `idea`
    cls           `Idea`
    """

    distribution: str
    package: str
    component: str
    module: str
    cls: str


def names(name: str, prefix: str) -> Names:
    """What everything is called; `UserError` where a name cannot be one."""
    if not _NAME.match(name):
        raise UserError(f"{name!r} cannot name a package; write lower-case words with hyphens between them, such as my-idea")
    if not _PREFIX.match(prefix) or prefix == "llmkit":
        raise UserError(
            f"--prefix {prefix!r} cannot begin a component's name; give one lower-case word of your own, not llmkit's, such as acme"
        )
    name = name.removeprefix("llmkit-")
    module = name.removeprefix(f"{prefix}-").replace("-", "_")
    if not module.isidentifier():
        raise UserError(f"{module!r} cannot name a module; let what follows {prefix!r} begin with a letter")
    if keyword.iskeyword(module):
        raise UserError(f"{name!r} would make a module called {module!r}, which is a word of Python; choose another name")
    cls = "".join(word.capitalize() for word in module.split("_"))
    package = f"llmkit_{name.replace('-', '_')}"
    return Names(f"llmkit-{name}", package, f"{prefix}.{module}", module, cls)


def scaffold(name: str, kind: Kind, directory: Path, prefix: str = "my") -> list[Path]:
    """Write a package with a component of this kind into a new directory; the files, in the order in which a person reads them.

    `UserError` where the directory is there already, or a name cannot be one. Nothing is written then.
    """
    called = names(name, prefix)
    files = texts(called, kind)
    try:
        directory.mkdir(parents=True)
        for path, text in files.items():
            place = directory / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text, encoding="utf-8")
    except FileExistsError:
        raise UserError(f"{str(directory)!r} is there already and is left as it is; name another directory with --out") from None
    except OSError as error:
        raise UserError(f"cannot write {str(directory)!r} ({(error.strerror or str(error)).lower()}); name another with --out") from None
    return [directory / path for path in files]


def texts(called: Names, kind: Kind) -> dict[str, str]:
    """Path -> text of every file of a package."""
    source = f"src/{called.package}"
    return {
        "README.md": _readme(called, kind),
        "pyproject.toml": _pyproject(called),
        f"{source}/__init__.py": _renamed("__init__.py", called, kind),
        f"{source}/{called.module}.py": _renamed("idea.py", called, kind),
        "tests/test_laws.py": _tests(called),
        "baseline.yaml": BASELINE.format(position="none" if kind is Kind.position else "rope"),
        f"{called.module}.yaml": _spec(called, kind),
    }


def _renamed(file: str, called: Names, kind: Kind) -> str:
    text = (TEMPLATES / kind / file).read_text(encoding="utf-8")
    if re.search(rf"\b{called.cls}(Params)?\b", text) and called.cls != "Idea":
        raise UserError(f"a class {called.cls!r} would hide another one of that name; choose a name that says more than {called.module!r}")
    changes = {
        rf"{re.escape(__name__)}\.{kind}\.idea": f"{called.package}.{called.module}",
        rf"{re.escape(__name__)}\.{kind}": called.package,
        r"my\.idea": called.component,
        r"Idea(?=Params\b|\b)": called.cls,
    }
    for pattern, name in changes.items():
        text = re.sub(rf"\b{pattern}", name, text)
    return text


def _pyproject(called: Names) -> str:
    return f"""[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{called.distribution}"
version = "0.1.0"
description = "A component for llmkit: {called.component}."
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["llmkit>=0.1"]

[project.optional-dependencies]
test = ["pytest>=8.3"]

# The group is always `llmkit`; the name on the left is the plugin's own.
[project.entry-points.llmkit]
{called.module} = "{called.package}"

[tool.setuptools.packages.find]
where = ["src"]
"""


def _tests(called: Names) -> str:
    return f'''"""Every law of llmkit, on every component of this package."""

import {called.package}
import pytest


@pytest.mark.llmkit_laws({called.package})
def test_law(law):
    law()
'''


def _spec(called: Names, kind: Kind) -> str:
    changed = {
        Kind.tokenizer: f"tokenizer: {called.component}",
        Kind.position: f"model:\n  position: {called.component}",
        Kind.attention: f"model:\n  block:\n    attention: {{type: {called.component}, n_heads: 4}}",
        Kind.norm: f"model:\n  block:\n    norm: {called.component}",
        Kind.ffn: f"model:\n  block:\n    ffn: {called.component}",
        Kind.init: f"model:\n  init: {called.component}",
        Kind.optimizer: f"train:\n  optimizer: {called.component}",
        Kind.schedule: f"train:\n  schedule: {called.component}",
        Kind.objective: f"train:\n  objective: {called.component}",
        Kind.evaluator: f"eval: [perplexity, {called.component}]",
        Kind.source: f"data:\n  source: {called.component}",
        Kind.extractor: f"data:\n  extractor: {called.component}",
        Kind.filter: f"data:\n  filters:\n    {called.module}: {called.component}",
        Kind.deduplicator: f"data:\n  deduplicators:\n    {called.module}: {called.component}",
        Kind.mixer: f"data:\n  sources:\n    reference: {{type: pydoc, docstrings: false}}\n"
        f"    library: {{type: pydoc, topics: false}}\n  mixer: {called.component}",
    }[kind]
    return f"""# The baseline with one thing changed: llmkit train {called.module}.yaml
extends: baseline.yaml
requires: ["{called.distribution}>=0.1"]
{changed}
"""


def _readme(called: Names, kind: Kind) -> str:
    return f"""# {called.distribution}

`{kind}: {called.component}`, a component for llmkit.

```
llmkit plugins check .        # every law of llmkit on it, installed or not
pip install -e .              # beside llmkit; nothing else is to be done
llmkit plugins show {kind}:{called.component}
llmkit train {called.module}.yaml
llmkit train baseline.yaml
llmkit compare runs/{called.module} runs/baseline
pytest                        # the laws again, a test each
```

* `src/{called.package}/__init__.py` declares it: its name, its parameters, where its code lies. It imports no torch.
* `src/{called.package}/{called.module}.py` is the code. What is in it works: replace its middle.
* `{called.module}.yaml` is `baseline.yaml` with this component in its place.
"""
