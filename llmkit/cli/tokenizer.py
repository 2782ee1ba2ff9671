"""`llmkit tokenizer`: one trained, or several side by side. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.output import Json, Set, person, print_json, result, show_rows
from llmkit.cli.tokenizer_tables import tables
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.core.interfaces.tokenizer import Tokenizer
    from llmkit.core.spec import Spec
    from llmkit.data.tokenizer_comparison import Comparison
    from llmkit.data.tokenizer_texts import Text

app = typer.Typer(no_args_is_help=True, help="Train a tokenizer; compare tokenizers on text.")

SHOWN_BYTES = 4_000_000
"""Bytes of a text on which a tokenizer is looked at, unless told otherwise."""

Texts = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="[NAME=]PATH", help="A UTF-8 file, a directory or a quoted pattern. Repeatable; one name is one text."),
]


@app.command("train")
def train_tokenizer(
    spec: Annotated[str | None, typer.Argument(metavar="[SPEC]", help="A spec, or recipe:NAME; ./spec.yaml, else recipe:tiny.")] = None,
    text: Texts = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Where it is saved; tokenizers/<name> unless given. It must be new.")
    ] = None,
    sample_bytes: Annotated[
        int | None,
        typer.Option(
            "--sample-bytes", min=1, metavar="N", help="Learn from about N bytes of the text, taken evenly: it bounds the memory."
        ),
    ] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Train a spec's tokenizer on its cleaned training text, or on files, and save it so that transformers loads it.

    Example: llmkit tokenizer train recipe:tiny --set tokenizer.vocab_size=8192 --sample-bytes 100000000 --out tokenizers/tiny
    """
    from llmkit.data.tokenizer_training import save, trained_on_data, trained_on_files
    from llmkit.runtime import load_spec

    more = [] if sample_bytes is None else [f"tokenizer.sample_bytes={sample_bytes}"]
    loaded = load_spec(_spec(spec), (*(overrides or ()), *more))
    place = out or Path("tokenizers") / loaded.name
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"--out {str(place)!r} is there already and is left as it is; name another directory")
    trained = trained_on_files(loaded, text, _preparing()) if text else trained_on_data(loaded, _preparing())
    save(trained.tokenizer, place)
    document = {"tokenizer": str(place), "type": loaded.tokenizer.type, **trained.document()}
    if as_json:
        print_json(document)
        return
    show_rows(
        ("tokenizer", "ids", "bytes a token", "measured on"),
        [(str(place), f"{trained.tokenizer.vocab_size:,}", f"{trained.bytes_per_token:.3f}", trained.measured_on)],
    )
    told = f'use it with `--set "tokenizer={{type: pretrained, path: {place}}}"`, or transformers.AutoTokenizer.from_pretrained("{place}")'
    person.print(told, style="dim", markup=False, soft_wrap=True)


@app.command("compare")
def compare_tokenizers(
    tokenizers: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME=]TOKENIZER...",
            help="A tokenizer.json, a directory with one, a tiktoken or SentencePiece file, a run, or a component: bytes, "
            "'{type: bpe, vocab_size: 8192}'.",
        ),
    ],
    text: Texts = None,
    spec: Annotated[
        str | None, typer.Option("--spec", metavar="SPEC", help="Compare on the held-out documents of a spec, a text for each source.")
    ] = None,
    train_text: Annotated[
        list[str] | None,
        typer.Option("--train-text", metavar="PATH", help="What components learn from; the spec's training text unless given. Repeatable."),
    ] = None,
    sample_bytes: Annotated[
        int, typer.Option("--sample-bytes", min=1, metavar="N", help="Look at about N bytes of each text, taken evenly.")
    ] = SHOWN_BYTES,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the measured speed; tokenizers take turns in each.")] = 5,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw it: .html (self-contained), .png, .svg or .pdf.")
    ] = None,
    overrides: Set = None,
    as_json: Json = False,
) -> None:
    """Tokenizers side by side: bytes a token, tokens a word, digits and white space, use of the vocabulary, speed.

    Example: llmkit tokenizer compare runs/tiny bytes '{type: bpe, vocab_size: 8192}' --train-text books.txt --text en=books.txt --text src
    """
    from llmkit.cli.tokenizer_arguments import named_tokenizers
    from llmkit.data.tokenizer_comparison import compare

    if not text and spec is None:
        raise UserError("there is nothing to compare on; give --text FILE, or --spec SPEC for its held-out documents")
    if plot is not None:
        _check_plot(plot)
    base = spec or "recipe:tiny"

    def train(of: Spec) -> Tokenizer:
        return _trained(of, train_text or (), from_data=spec is not None)

    named = named_tokenizers(tokenizers, base, overrides or (), train)
    compared = compare(named, _texts(text or (), spec, overrides or (), sample_bytes), rounds=rounds, progress=_tell)
    if plot is not None:
        _draw(plot, compared)
    if as_json:
        print_json(compared.document())
        return
    _show(compared)
    if plot is not None:
        person.print(f"wrote {plot}", markup=False, soft_wrap=True)


def _spec(given: str | None) -> str:
    return given or ("spec.yaml" if Path("spec.yaml").exists() else "recipe:tiny")


def _trained(spec: Spec, train_text: Sequence[str], *, from_data: bool) -> Tokenizer:
    from llmkit.data.tokenizer_training import learns, trained, trained_on_data, trained_on_files

    if not learns(spec):
        return trained(spec)
    _tell(f"training {spec.tokenizer.type}")
    if train_text:
        return trained_on_files(spec, train_text, _preparing()).tokenizer
    if from_data:
        return trained_on_data(spec, _preparing()).tokenizer
    raise UserError(f"tokenizer {spec.tokenizer.type!r} learns from text; give --train-text FILE, or --spec SPEC for its training text")


def _texts(arguments: Sequence[str], spec: str | None, overrides: Sequence[str], most: int) -> list[Text]:
    from llmkit.data.tokenizer_texts import documents_of, gathered, places
    from llmkit.data.tokenizer_training import held_out
    from llmkit.runtime import load_spec

    def all_of() -> Iterator[tuple[str, Iterable[str]]]:
        if spec is not None:
            yield from held_out(load_spec(spec, overrides))
        for place in places(arguments):
            yield place.name, documents_of(place)

    return gathered(all_of(), most)


def _check_plot(file: Path) -> None:
    from llmkit.cli.tokenizer_plot import ENDINGS

    if file.suffix not in ENDINGS:
        raise UserError(f"--plot {str(file)!r} is no .html, .png, .svg or .pdf; name one of these")
    if not file.parent.is_dir():
        raise UserError(f"--plot {str(file)!r}: there is no directory {str(file.parent)!r}; make it, or name another")


def _draw(file: Path, compared: Comparison) -> None:
    from llmkit.cli.tokenizer_plot import draw

    try:
        draw(file, compared, tables(compared))
    except ImportError as error:
        raise UserError(f"--plot {str(file)!r} needs {error.name}; pip install 'llmkit[plot]'") from None
    except OSError as error:
        raise UserError(f"cannot write --plot {str(file)!r}: {error.strerror}") from error


def _show(compared: Comparison) -> None:
    for _, heads, rows in tables(compared):
        show_rows(heads, rows)
        if not result.is_terminal:
            result.print()
    for one in compared.tokenizers:
        if one.round_trip.changed:
            shown = ", ".join(map(repr, one.round_trip.changed[:3]))
            person.print(f"{one.name} does not give back {shown} as it was", style="yellow", markup=False, soft_wrap=True)
    person.print(f"MB/s: median of the rounds, and the slowest and fastest; {compared.threads} threads", style="dim", markup=False)


def _tell(what: str) -> None:
    person.print(what, style="dim", markup=False, soft_wrap=True)


def _preparing() -> Callable[[str, int, int | None], None]:
    from llmkit.train.progress import Terminal

    return Terminal(person).preparing
