"""Chat templates: a conversation written as one text, by the Jinja template that comes with a tokenizer. Torch-free.

Templates are other people's code: they run in Jinja's sandbox, with what transformers gives them and nothing else, so that
both write the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypedDict

from llmkit.core.errors import UserError

if TYPE_CHECKING:
    from jinja2 import Environment, Template


class _Written(TypedDict):
    role: str


class Message(_Written, total=False):
    """One message of a conversation. Templates may read further keys, such as `tool_calls`."""

    content: Any


Messages = Sequence[Message] | Sequence[Mapping[str, Any]]

CONTROL = re.compile(r"<\|[^|<>\s]+\|>")
"""What reads like a special token in a template: `<|im_start|>`."""

_JOINTS = [chr(code) for code in range(0xE000, 0xE100)]
"""Private characters, one of which is in no text that is written: it holds a special token apart that is spelled in a message."""


def render(template: str, messages: Messages, **variables: Any) -> str:
    """The conversation as one text.

    variables  what else the template reads: `add_generation_prompt`, `bos_token`, `eos_token`, `tools`, ...

    `UserError` where the template is no Jinja, refuses the conversation, or needs what is not there.
    """
    from jinja2 import TemplateError

    _check(messages)
    try:
        # As transformers does: a template that asks `tools is not none` gets none, not something undefined.
        return str(compiled(template).render(messages=[dict(one) for one in messages], **{"tools": None, "documents": None} | variables))
    except TemplateError as error:
        raise UserError(f"the chat template refuses this conversation: {error.message or type(error).__name__}") from error
    except (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError) as error:
        raise UserError(f"the chat template fails on this conversation: {error}") from error


@lru_cache(maxsize=32)
def compiled(template: str) -> Template:
    """The template, ready to be rendered; `UserError` with the line where it is no Jinja."""
    from jinja2 import TemplateError, TemplateSyntaxError

    try:
        return _environment().from_string(template)
    except TemplateSyntaxError as error:
        raise UserError(f"the chat template is no Jinja: line {error.lineno}: {error.message}") from None
    except TemplateError as error:
        raise UserError(f"the chat template is no Jinja: {error}") from None


def control_tokens(template: str) -> list[str]:
    """The special tokens that a template writes itself, as far as they are spelled `<|like this|>`, in their order."""
    from jinja2 import nodes

    compiled(template)
    tree = _environment().parse(template)
    texts = [node.data for node in tree.find_all(nodes.TemplateData)]
    texts += [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    return sorted({token for text in texts for token in CONTROL.findall(text)}, key=template.find)


@lru_cache(maxsize=32)
def end_of_turn(template: str, specials: frozenset[str], roles: tuple[tuple[str, str], ...]) -> str | None:
    """The special token with which the template ends what an assistant said; None where it writes none, or cannot be asked."""
    said = "\ue0ff"
    conversation: list[Message] = [{"role": "user", "content": "?"}, {"role": "assistant", "content": said}]
    try:
        behind = render(template, conversation, add_generation_prompt=False, **dict(roles)).rpartition(said)[2]
    except UserError:
        return None
    found = spelled(specials).search(behind) if specials else None
    return found.group() if found else None


def spelled(specials: Iterable[str]) -> re.Pattern[str]:
    """Finds special tokens in a text, the longest first where one begins another; nothing where there are none."""
    return re.compile("(" + ("|".join(map(re.escape, sorted(specials, key=len, reverse=True))) or "(?!)") + ")")


def held_apart(said: Mapping[str, Any], specials: Iterable[str]) -> tuple[dict[str, Any], str]:
    """What was said with every special token that somebody spells in it broken by a character, and that character.

    A token may also be spelled in two strings that the template writes one behind the other, so a string that begins or ends like a
    part of one gets the character there. Once it is taken out of the pieces between special tokens, what was said is there as it was
    said, and is text.

    said  the messages and whatever else the template writes: tools, documents
    """
    written = json.dumps(said, ensure_ascii=False, default=str)
    joint = next((character for character in _JOINTS if character not in written), None)
    if joint is None:
        raise UserError("a message uses all of the characters U+E000 to U+E0FF; leave one of them out")
    tokens = list(specials)
    starts, ends = ({part for token in tokens for part in _parts(token, backwards=backwards)} for backwards in (False, True))
    held = _Held(spelled(tokens), tuple(starts), tuple(ends), joint)
    return {name: _broken(value, held) for name, value in said.items()}, joint


class _Held(NamedTuple):
    """Special tokens, what they may begin and end with, and the character that holds them apart."""

    tokens: re.Pattern[str]
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    joint: str


def _parts(token: str, *, backwards: bool) -> Iterable[str]:
    """The proper beginnings of a token, or its proper ends, that are no word or part of one: a template compares those."""
    parts = (token[place:] if backwards else token[:place] for place in range(1, len(token)))
    return (part for part in parts if not part.isalnum())


def _broken(value: Any, held: _Held) -> Any:
    if isinstance(value, str):
        inside = held.tokens.sub(lambda match: match.group()[0] + held.joint + match.group()[1:], value)
        return held.joint * value.startswith(held.ends) + inside + held.joint * value.endswith(held.starts)
    if isinstance(value, Mapping):
        return {_broken(key, held): _broken(item, held) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_broken(item, held) for item in value]
    return value


def _check(messages: Messages) -> None:
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise UserError(f"message {index} of the conversation is {message!r}; it must be a mapping with `role` and `content`")


@cache
def _environment() -> Environment:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks what an assistant wrote; it changes nothing in the text."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> NoReturn:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": refuse, "strftime_now": _now}
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Jinja's own filter escapes HTML, which a conversation is not."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
