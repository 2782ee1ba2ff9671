"""What a person may call a tokenizer on the command line: files, a run, or a component, with `NAME=` before it for a name."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.core.interfaces.tokenizer import Tokenizer
    from llmkit.core.spec import Spec

LABEL = re.compile(r"[^={}]+")
RUN = "run:"

Train = Callable[["Spec"], "Tokenizer"]
"""Makes the tokenizer of a spec; `UserError` where it learns and there is nothing to learn from."""


class Named(NamedTuple):
    """A tokenizer and what it is called in the tables."""

    name: str
    tokenizer: Tokenizer


def named_tokenizers(arguments: Sequence[str], base: str, overrides: Sequence[str], train: Train) -> dict[str, Tokenizer]:
    """Every tokenizer by its name.

    base, overrides  the spec that components are put into; one of its own type takes its parameters from there
    """
    found: dict[str, Tokenizer] = {}
    for argument in arguments:
        name, tokenizer = _named(argument, base, overrides, train)
        if name in found:
            raise UserError(f"two tokenizers are called {name!r}; write NAME={argument} for another name")
        found[name] = tokenizer
    return found


def _named(argument: str, base: str, overrides: Sequence[str], train: Train) -> Named:
    label, equals, rest = argument.partition("=")
    if not equals or not LABEL.fullmatch(label) or Path(argument).exists():
        label, rest = "", argument
    place = Path(rest.removeprefix(RUN)).expanduser()
    if rest.startswith(RUN) or (place / "spec.yaml").is_file():
        return Named(label or place.name, of_run(place))
    if place.exists():
        return Named(label or _called(place), of_files(place))
    return _component(label, rest, base, overrides, train)


def of_run(place: Path) -> Tokenizer:
    """The tokenizer of a run, as the run recorded it; the model is not loaded."""
    from llmkit.train.run import RunDirectory

    run = RunDirectory(place)
    if not run.exists():
        raise UserError(f"{str(place)!r} is no run: it has no spec.yaml; name a run's directory, or a tokenizer's files without run:")
    chosen = run.load_spec().tokenizer
    kind: type[Tokenizer] = chosen.component.resolve()
    if run.tokenizer.is_dir():
        return kind.load(chosen.params, run.tokenizer)
    if kind.learns:
        raise UserError(f"run {str(place)!r} has no tokenizer: it was built and never trained, or was killed before it had one")
    return kind.train(chosen.params, ())


def of_files(place: Path) -> Tokenizer:
    """A tokenizer from its files in any form that `pretrained` reads."""
    import json

    from llmkit.runtime import load_spec

    chosen = load_spec("recipe:tiny", (f"tokenizer={json.dumps({'type': 'pretrained', 'path': str(place)})}",)).tokenizer
    tokenizer: Tokenizer = chosen.component.resolve().train(chosen.params, ())
    return tokenizer


def _called(place: Path) -> str:
    """A directory by its name, a file with a name of its own by that, `tokenizer.json` by its directory's."""
    generic = place.is_file() and place.stem in ("tokenizer", "vocab", "encoder", "merges")
    return (place.resolve().parent if generic else place.resolve()).name


def _component(label: str, text: str, base: str, overrides: Sequence[str], train: Train) -> Named:
    from llmkit.core.problems import SpecError
    from llmkit.runtime import load_spec

    try:
        spec = load_spec(base, (*overrides, f"tokenizer={text}"))
    except SpecError as error:
        if "/" in text and not text.startswith("{"):
            raise UserError(f"there is no {text!r}; name a tokenizer's file or directory, a run, or a component such as bpe") from None
        raise error
    chosen = spec.tokenizer
    size = f" {chosen.params.vocab_size:,}" if chosen.component.resolve().learns else ""
    return Named(label or f"{chosen.type}{size}", train(spec))
