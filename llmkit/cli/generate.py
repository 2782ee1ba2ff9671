"""`llmkit generate`: text from a trained run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit.cli.output import Json, person, print_json, result
from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from llmkit.core.interfaces.tokenizer import Tokenizer
    from llmkit.model.stop_strings import StopStrings
    from llmkit.train.run import Run


class DecodingPrecision(StrEnum):
    """What the weights are while text is made."""

    fp32 = "fp32"
    bf16 = "bf16"
    int8 = "int8"


NEW_TOKENS = 128
"""How many tokens are made where nobody says, and the model has room for them."""

_UNSEEN = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}

Prompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", metavar="TEXT", help="What to go on from; special tokens written in it are special. Repeatable."),
]
Files = Annotated[list[Path] | None, typer.Option("--prompt-file", metavar="FILE", help="A prompt from a UTF-8 text. Repeatable.")]
Length = Annotated[
    int | None, typer.Option(min=0, help=f"The most tokens a completion has; {NEW_TOKENS}, or what the model has room for, unless given.")
]


def generate_text(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's directory, or one checkpoint of it.")],
    prompt: Prompts = None,
    prompt_file: Files = None,
    max_new_tokens: Length = None,
    temperature: Annotated[float, typer.Option(help="Below 1 likelier tokens, above 1 more chance; 0 always the likeliest.")] = 1.0,
    top_k: Annotated[int | None, typer.Option(min=1, help="Of the K likeliest tokens only.")] = None,
    top_p: Annotated[float | None, typer.Option(help="Of the likeliest tokens that together reach probability P only.")] = None,
    min_p: Annotated[float | None, typer.Option(help="Of the tokens at least P times as probable as the likeliest only.")] = None,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1, what has been said already becomes less likely.")] = 1.0,
    stop: Annotated[list[str] | None, typer.Option(metavar="TEXT", help="End before this text. Repeatable.")] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    batch: Annotated[int, typer.Option(min=1, help="Completions of each prompt, made together.")] = 1,
    no_bos: Annotated[bool, typer.Option("--no-bos", help="Do not begin with the begin-of-text token.")] = False,
    ignore_eos: Annotated[bool, typer.Option("--ignore-eos", help="Go on after an end token.")] = False,
    precision: Annotated[
        DecodingPrecision, typer.Option(help="fp32, bf16, or int8: linear layers of 8 bits, the fastest on a CPU, which loses a little.")
    ] = DecodingPrecision.fp32,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the step: half a minute the first time, several times faster after. int8 always is.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Let a trained run write.

    Example: llmkit generate runs/tiny --prompt "The list" --temperature 0.8 --min-p 0.05 --stop "."
    """
    texts = [*(prompt or ()), *(read_prompt(path) for path in prompt_file or ())]
    if not texts:
        raise UserError('there is nothing to go on from; give --prompt TEXT (--prompt "" starts from nothing)')
    check_sampling(temperature, top_p, min_p, repetition_penalty)
    from llmkit.model.decoding import Decoding
    from llmkit.model.device import fastest_device
    from llmkit.model.generate import generate
    from llmkit.model.stop_strings import StopStrings
    from llmkit.train.run import load_run

    loaded = load_run(run)
    starts = [start(loaded.tokenizer, text, bos=not no_bos) for text in texts for _ in range(batch)]
    stops = StopStrings(loaded.tokenizer, stop or ())
    decoding = Decoding(
        loaded.model.to(fastest_device()),
        precision=precision.value,
        compiled=compiled or precision is DecodingPrecision.int8,
        warn=lambda reason: person.print(f"warning: {reason}", markup=False),
    )
    stream = Stream(loaded.tokenizer, stops) if len(starts) == 1 and not as_json and result.is_terminal else None
    began = perf_counter()
    made = generate(
        decoding,
        starts,
        max_new_tokens=room(loaded, starts) if max_new_tokens is None else max_new_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop_ids=frozenset() if ignore_eos else loaded.tokenizer.stop_ids,
        stops=stops,
        vocab_limit=loaded.tokenizer.vocab_size,
        on_token=stream,
    )
    seconds = perf_counter() - began
    completions = [stops.cut(loaded.tokenizer.decode(ids)) for ids in made]
    tokens = sum(map(len, made))
    if as_json:
        print_json({"completions": completions, "tokens": tokens, "tokens_per_second": tokens / seconds})
        return
    if stream is not None:
        stream.end()
    else:
        show(completions, batch)
    person.print(f"{tokens} tokens, {tokens / seconds:.0f} a second", style="dim")


def check_sampling(temperature: float, top_p: float | None, min_p: float | None, repetition_penalty: float) -> None:
    """What is wrong with the arguments alone is said before a model is loaded."""
    if min_p is not None and not 0 <= min_p <= 1:
        raise UserError(f"--min-p {min_p:g} must be between 0 and 1")
    if not (math.isfinite(repetition_penalty) and repetition_penalty > 0):
        raise UserError(f"--repetition-penalty {repetition_penalty:g} must be above 0 (1 is none)")
    if not (math.isfinite(temperature) and temperature >= 0):
        raise UserError(f"--temperature {temperature:g} must be 0 (always the likeliest token) or more")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"--top-p {top_p:g} must be above 0 and at most 1")


def read_prompt(path: Path) -> str:
    """A text file as a prompt."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"--prompt-file {str(path)!r} is no UTF-8 text (byte {error.start}); convert it first") from error
    except OSError as error:
        raise UserError(f"cannot read --prompt-file {str(path)!r}: {error.strerror}") from error


def start(tokenizer: Tokenizer, text: str, *, bos: bool) -> list[int]:
    """The ids that a sequence starts with: what training began with, then the prompt, whose special tokens are special."""
    ids = [tokenizer.bos_id] if bos else []
    ids += tokenizer.encode(text, specials=True)
    if not ids:
        raise UserError(
            "a prompt is empty and --no-bos drops the token before it, so there is nothing to go on from; give text, or leave out --no-bos"
        )
    return ids


def room(run: Run, starts: Sequence[Sequence[int]]) -> int:
    """How many tokens are made where nobody said: at least one, so that a prompt which is too long is told so."""
    return max(min(NEW_TOKENS, run.spec.model.max_seq_len - max(map(len, starts))), 1)


class Stream:
    """Prints one completion as it is made. What is not certain yet waits: a character whose bytes are not all there, the beginning
    of what may become a stop string."""

    def __init__(self, tokenizer: Tokenizer, stops: StopStrings) -> None:
        self.tokenizer = tokenizer
        self.stops = stops
        self.ids: list[int] = []
        self.printed = ""

    def __call__(self, row: int, token: int) -> None:
        self.ids.append(token)
        text = self.tokenizer.decode(self.ids)
        if not text.endswith("\ufffd"):
            self._print(self.stops.certain(text))

    def end(self) -> None:
        """What still waits, and a new line."""
        self._print(self.stops.cut(self.tokenizer.decode(self.ids)) + "\n")

    def _print(self, text: str) -> None:
        write(text[len(self.printed) :])
        self.printed = text


def show(completions: Sequence[str], batch: int) -> None:
    """The completions as they are; with a heading each where there are several."""
    for index, text in enumerate(completions):
        if len(completions) > 1:
            result.print(f"--- prompt {index // batch + 1}, completion {index % batch + 1}")
        write(text + "\n")


def write(text: str) -> None:
    """To stdout as it is; on a terminal without control characters, because a model may write an escape sequence."""
    result.file.write(text.translate(_UNSEEN) if result.is_terminal else text)
    result.file.flush()
