"""Laws of tokenizers, on text that has broken tokenizers before."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmkit.core.component import Params
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.testing.law import Law, LawBroken
from llmkit.testing.subject import Subject

NASTY = (
    "",
    " ",
    "a",
    "  two  spaces  and one at the end ",
    "\r\n\t\n\n\x0b\x0c",
    "\0",
    "don't stop, it's 12345678 o'clock",
    "naïve café Bügeleisen",
    "e\u0301 and \u00e9 are not the same",
    "你好世界 здравствуй مرحبا",
    "🦙🦙 👨\u200d👩\u200d👧\u200d👦 \U0001f1e9\U0001f1ea",
    "\u200b\ufeff\u00a0\u2028",
    "<| endoftext |> <|endoftext <endoftext>",
    "def f(x):\n    return x  # comment\n",
    "a" * 300,
)
"""Ascending in nastiness, so that what breaks first is simple."""

TEXTS = [*NASTY, "the quick brown fox jumps over the lazy dog, again and again and again. " * 4] * 4
"""What a tokenizer that learns learns from."""

MUCH = "many words, and " * 10_000


TEMPLATE = """\
{{ bos_token }}{% for message in messages %}{{ message.role }}: „{{ message.content | trim }}“{{ eos_token }}
{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"""
SAID = (
    {"role": "user", "content": " naïve <|endoftext|>, you said?\n"},
    {"role": "assistant", "content": "\U0001f999 {{ bos_token }} 12345"},
)
"""What a template would not have, if it were read as a template, and what makes no token of its own."""


def text_survives_the_round_trip(subject: Subject) -> None:
    """Text decoded from its ids is the text; where the component offers `normalises`, encoding and decoding again changes no more."""
    tokenizer = _trained(subject)
    lossy = "normalises" in subject.component.offered(subject.params)
    for text in _texts(tokenizer):
        back = tokenizer.decode(tokenizer.encode(text), skip_specials=False)
        expected = tokenizer.decode(tokenizer.encode(back), skip_specials=False) if lossy else text
        if back != expected:
            raise LawBroken(f"{text!r} comes back as {back!r}" + (f", and that as {expected!r}" if lossy else ""))


def plain_text_never_makes_a_special_token(subject: Subject) -> None:
    """A special token written in plain text is text, alone, in a batch and with offsets; with `specials=True` it is itself."""
    tokenizer = _trained(subject)
    specials = tokenizer.special_tokens
    for text in _texts(tokenizer):
        for how, ids in (
            ("encode", tokenizer.encode(text)),
            ("encode_batch", tokenizer.encode_batch([text])[0]),
            ("encode_offsets", tokenizer.encode_offsets(text)[0]),
        ):
            made = [name for name, index in specials.items() if index in ids]
            if made:
                raise LawBroken(f"{how}({text!r}) makes {made[0]}")
    for name, index in specials.items():
        if tokenizer.encode(name, specials=True) != [index]:
            raise LawBroken(f"encode({name!r}, specials=True) gives {tokenizer.encode(name, specials=True)}, not [{index}]")


def nothing_is_added_at_the_ends(subject: Subject) -> None:
    """The empty text has no ids, and nothing is added before or behind a text."""
    tokenizer = _trained(subject)
    for specials in (False, True):
        if tokenizer.encode("", specials=specials):
            raise LawBroken(f"encode('', specials={specials}) gives {tokenizer.encode('', specials=specials)}")
        added = set(tokenizer.encode("a", specials=specials)) & set(tokenizer.special_tokens.values())
        if added:
            raise LawBroken(f"encode('a', specials={specials}) adds the special ids {sorted(added)}")


def a_batch_is_its_texts_one_by_one(subject: Subject) -> None:
    """`encode_batch`, and `encode_arrays`, give what `encode` gives for each text."""
    tokenizer = _trained(subject)
    texts = list(_texts(tokenizer))
    for specials in (False, True):
        batch = tokenizer.encode_batch(texts, specials=specials)
        if len(batch) != len(texts):
            raise LawBroken(f"{len(texts)} texts give {len(batch)} lists of ids")
        for text, ids in zip(texts, batch):
            if ids != tokenizer.encode(text, specials=specials):
                raise LawBroken(f"{text!r} in a batch has other ids than alone (specials={specials})")
    # What is quicker for much text may have ids of its own.
    many = [*texts, MUCH]
    arrays = tokenizer.encode_arrays(many)
    if [array.tolist() for array in arrays] != [tokenizer.encode(text) for text in many]:
        raise LawBroken("encode_arrays gives other ids than encode")


def spans_cover_the_text(subject: Subject) -> None:
    """`encode_offsets` gives the ids of `encode`, and spans in order that cover every character that is in some token."""
    tokenizer = _trained(subject)
    lossy = "normalises" in subject.component.offered(subject.params)
    for text in _texts(tokenizer):
        ids, spans = tokenizer.encode_offsets(text)
        if ids != tokenizer.encode(text) or len(ids) != len(spans):
            raise LawBroken(f"encode_offsets({text!r}) has other ids than encode, or another number of spans")
        covered = 0
        for start, end in spans:
            if not 0 <= start <= end <= len(text) or end < covered or (start > covered and not lossy):
                raise LawBroken(f"of {text!r}, the span ({start}, {end}) comes after character {covered}")
            covered = end
        if covered != len(text) and not lossy:
            raise LawBroken(f"of {text!r}, the spans end at character {covered} of {len(text)}")


def ids_are_below_the_vocabulary_size(subject: Subject) -> None:
    """Every id is below `vocab_size`, which is at most what the parameters declare for the model."""
    tokenizer = _trained(subject)
    declared = int(subject.params.vocab_size)  # type: ignore[attr-defined]
    if tokenizer.vocab_size > declared:
        raise LawBroken(f"the tokenizer has {tokenizer.vocab_size} ids, and its parameters declare {declared} to the model")
    for text in _texts(tokenizer):
        largest = max([*tokenizer.encode(text), *tokenizer.special_tokens.values()])
        if largest >= tokenizer.vocab_size:
            raise LawBroken(f"{text!r} has the id {largest}, and vocab_size is {tokenizer.vocab_size}")


def saved_and_loaded_gives_the_same_ids(subject: Subject) -> None:
    """What `save` wrote, `load` reads as the same tokenizer: ids, special tokens, fingerprint."""
    tokenizer = _trained(subject)
    with tempfile.TemporaryDirectory() as directory:
        tokenizer.save(Path(directory))
        loaded = type(tokenizer).load(subject.params, Path(directory))
    for text in _texts(tokenizer):
        if loaded.encode(text) != tokenizer.encode(text):
            raise LawBroken(f"after loading, {text!r} has the ids {loaded.encode(text)}, not {tokenizer.encode(text)}")
        if loaded.encode(text, specials=True) != tokenizer.encode(text, specials=True):
            raise LawBroken(f"after loading, {text!r} has other ids with specials=True")
    for name in ("special_tokens", "vocab_size", "eos_id", "bos_id", "pad_id", "stop_ids"):
        if getattr(loaded, name) != getattr(tokenizer, name):
            raise LawBroken(f"after loading, {name} is {getattr(loaded, name)!r}, not {getattr(tokenizer, name)!r}")
    if loaded.fingerprint() != tokenizer.fingerprint():
        raise LawBroken("after loading, the fingerprint is another, so prepared tokens would never be found again")


def a_chat_template_survives_saving_and_loading(subject: Subject) -> None:
    """What is saved with a `chat_template`, where the parameters take one, is loaded with it: a conversation has the same text and ids."""
    params = _with_template(subject.params)
    if params is None:
        return
    tokenizer: Tokenizer = subject.component.resolve().train(params, TEXTS)
    if tokenizer.chat_template is None:
        raise LawBroken(f"its parameters say chat_template: {TEMPLATE!r}, and the tokenizer has none")
    loaded = tokenizer
    for time in ("once", "twice"):
        with tempfile.TemporaryDirectory() as directory:
            loaded.save(Path(directory))
            loaded = type(tokenizer).load(params, Path(directory))
        for name in ("chat_template", "roles", "end_of_turn", "stop_ids"):
            if getattr(loaded, name) != getattr(tokenizer, name):
                raise LawBroken(f"saved and loaded {time}, {name} is {getattr(loaded, name)!r}, not {getattr(tokenizer, name)!r}")
        for prompt in (False, True):
            if loaded.apply_chat(SAID, add_generation_prompt=prompt) != tokenizer.apply_chat(SAID, add_generation_prompt=prompt):
                raise LawBroken(f"saved and loaded {time}, a conversation is written otherwise")
            if loaded.encode_chat(SAID, add_generation_prompt=prompt) != tokenizer.encode_chat(SAID, add_generation_prompt=prompt):
                raise LawBroken(f"saved and loaded {time}, a conversation has other ids")


def training_is_a_function_of_the_text(subject: Subject) -> None:
    """Trained twice on the same text, a tokenizer is the same."""
    if _trained(subject).fingerprint() != _trained(subject).fingerprint():
        raise LawBroken("two tokenizers trained on the same text have different fingerprints")


def _with_template(params: Params) -> Params | None:
    """The parameters with a chat template of the law's own; None where they take none."""
    if "chat_template" not in type(params).model_fields:
        return None
    return type(params).model_validate({**params.model_dump(), "chat_template": TEMPLATE})


def _trained(subject: Subject) -> Tokenizer:
    tokenizer: Tokenizer = subject.component.resolve().train(subject.params, TEXTS)
    return tokenizer


def _texts(tokenizer: Tokenizer) -> Iterator[str]:
    yield from NASTY
    for name in tokenizer.special_tokens:
        yield name
        yield f"a{name}b {name}{name}"


LAWS = (
    Law(text_survives_the_round_trip),
    Law(plain_text_never_makes_a_special_token),
    Law(nothing_is_added_at_the_ends),
    Law(a_batch_is_its_texts_one_by_one),
    Law(spans_cover_the_text),
    Law(ids_are_below_the_vocabulary_size),
    Law(saved_and_loaded_gives_the_same_ids),
    Law(a_chat_template_survives_saving_and_loading),
    Law(training_is_a_function_of_the_text),
)
