"""Conversations as text and as ids, beside transformers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from llmkit import load_spec
from llmkit.core.chat import spelled
from llmkit.core.errors import UserError
from llmkit.core.problems import SpecError
from llmkit.plugins.tokenizers.byte_pair import BytePair
from llmkit.plugins.tokenizers.components import BpeParams, BytesParams, PretrainedParams, UnigramParams, WordPieceParams
from llmkit.plugins.tokenizers.pretrained import Pretrained
from llmkit.plugins.tokenizers.templates import SPECIALS, TEMPLATES
from llmkit.plugins.tokenizers.unigram import Unigram
from llmkit.plugins.tokenizers.utf8 import Utf8
from llmkit.plugins.tokenizers.word_piece import WordPiece

CONVERSATION = [
    {"role": "system", "content": "Be  brief.\n"},
    {"role": "user", "content": "  What is 12345 + 1?\n\n"},
    {"role": "assistant", "content": "12346, naïve 你好"},
    {"role": "user", "content": "und 'jetzt'?"},
]
OWN = """{{ bos_token }}{% for message in messages %}
    {% if message.role == 'tool' %}{% continue %}{% endif %}
{{ '<|turn|>' }}{{ message.role | upper }}: {{ message.content | trim | tojson }}
{%- if message.role == 'assistant' %}{% generation %}<|end|>{% endgeneration %}{% endif %}
{% endfor %}
{% if tools is not none %}{{ tools | tojson(indent=2) }}{% endif %}{% if add_generation_prompt %}<|turn|>{% endif %}
"""
CASES = {**{name: (name, list(SPECIALS[name])) for name in TEMPLATES}, "own": (OWN, ["<|turn|>", "<|end|>"])}
messages = st.lists(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["user", "assistant"]),
            "content": st.lists(st.one_of(st.text(max_size=8), st.sampled_from(["<|im_end|>", "<|im_start|>system\n", "\ue000"]))).map(
                "".join
            ),
        }
    ),
    max_size=4,
)


def bpe(template: str, specials: list[str]) -> BytePair:
    return BytePair.train(BpeParams(vocab_size=300, special_tokens=specials, chat_template=template), [OWN, "what is the answer, is it"])


@pytest.fixture(scope="module")
def chatml() -> BytePair:
    return bpe(*CASES["chatml"])


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("prompt", [False, True])
def test_transformers_writes_and_encodes_the_same_conversation(
    case: str, prompt: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "HF_HUB_OFFLINE", "1")
    transformers = pytest.importorskip("transformers")
    ours = bpe(*CASES[case])
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    tools = [{"type": "function", "function": {"name": "add", "description": "a < b & 'c'"}}] if case == "own" else None
    text = theirs.apply_chat_template(CONVERSATION, tokenize=False, add_generation_prompt=prompt, tools=tools)
    assert ours.apply_chat(CONVERSATION, add_generation_prompt=prompt, tools=tools) == text
    ids = theirs.apply_chat_template(CONVERSATION, add_generation_prompt=prompt, tools=tools)["input_ids"]
    assert ours.encode_chat(CONVERSATION, add_generation_prompt=prompt, tools=tools) == ids
    assert ours.decode(ids, skip_specials=False) == text


def test_chatml_is_written_as_its_definition_says(chatml: BytePair) -> None:
    text = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert chatml.apply_chat([{"role": "user", "content": "hi"}], add_generation_prompt=True) == text


@pytest.mark.parametrize(
    "kind", [(Utf8, BytesParams, {}), (Unigram, UnigramParams, {"vocab_size": 300}), (WordPiece, WordPieceParams, {"vocab_size": 600})]
)
def test_every_trainable_tokenizer_has_a_template_and_keeps_it(kind: Any, tmp_path: Path) -> None:
    made, params, more = kind
    tokenizer = made.train(
        params(special_tokens=list(SPECIALS["chatml"]), chat_template="chatml", **more), ["some text", "more of the text"]
    )
    tokenizer.save(tmp_path)
    for again in (made.load(tokenizer.params, tmp_path), Pretrained.train(PretrainedParams(path=str(tmp_path)), ())):
        assert again.apply_chat(CONVERSATION) == tokenizer.apply_chat(CONVERSATION)
        assert again.encode_chat(CONVERSATION) == tokenizer.encode_chat(CONVERSATION)
        assert again.stop_ids == tokenizer.stop_ids == {tokenizer.eos_id, tokenizer.special_tokens["<|im_end|>"]}


@given(conversation=messages)
@settings(max_examples=60, deadline=None)
def test_what_is_said_never_makes_a_special_token_and_comes_back_as_it_was_said(
    chatml: BytePair, conversation: list[dict[str, str]]
) -> None:
    ids = chatml.encode_chat(conversation)
    begin, end = chatml.special_tokens["<|im_start|>"], chatml.special_tokens["<|im_end|>"]
    assert (ids.count(begin), ids.count(end)) == (len(conversation), len(conversation))
    assert chatml.decode(ids, skip_specials=False) == chatml.apply_chat(conversation)


@pytest.mark.parametrize("place", ["a key", "two parts", "documents"])
def test_a_special_token_in_what_a_template_writes_besides_the_content_is_text(place: str) -> None:
    template = """{% for message in messages %}<|turn|>{% for part in message.content %}{{ part if part is string else part | tojson }}
{%- endfor %}{% endfor %}{% for document in documents or [] %}{{ document.text }}{% endfor %}<|end|>"""
    tokenizer = bpe(template, ["<|turn|>", "<|end|>"])
    contents: dict[str, list[Any]] = {"a key": [{"<|end|>": 1}], "two parts": ["<|e", "nd|> and <", "|end|>"], "documents": ["x"]}
    documents = [{"text": "so <|end|> it goes"}] if place == "documents" else None
    conversation = [{"role": "user", "content": contents[place]}]
    ids = tokenizer.encode_chat(conversation, documents=documents)
    assert (ids.count(tokenizer.special_tokens["<|turn|>"]), ids.count(tokenizer.special_tokens["<|end|>"])) == (1, 1)
    assert tokenizer.decode(ids, skip_specials=False) == tokenizer.apply_chat(conversation, documents=documents)


def test_a_conversation_without_special_tokens_is_its_text() -> None:
    assert spelled(()).split("abc") == ["abc"]


def test_a_template_that_calls_itself_without_end_is_told() -> None:
    endless = "{% macro again(n) %}{{ again(n + 1) }}{% endmacro %}{{ again(0) }}"
    with pytest.raises(UserError, match="chat template fails"):
        Utf8.train(BytesParams(chat_template=endless), ()).apply_chat(CONVERSATION)


def test_generation_stops_where_the_template_ends_a_turn() -> None:
    assert bpe(*CASES["llama3"]).end_of_turn == "<|eot_id|>"
    assert bpe(*CASES["zephyr"]).end_of_turn == "<|endoftext|>"
    assert bpe(*CASES["own"]).end_of_turn == "<|end|>"
    plain = bpe(*CASES["chatml"])
    assert plain.stop_ids == {plain.eos_id, plain.special_tokens["<|im_end|>"]}


def test_a_template_changes_no_id_and_no_fingerprint(chatml: BytePair) -> None:
    params = chatml.params.model_copy(update={"chat_template": None})
    without = BytePair.train(params, [OWN, "what is the answer, is it"])
    assert without.fingerprint() == chatml.fingerprint() and without.stop_ids == {without.eos_id}


def test_without_a_template_the_remedy_is_told() -> None:
    with pytest.raises(UserError, match="has no chat template; make one with `chat_template: chatml`"):
        Utf8.train(BytesParams(), ()).apply_chat(CONVERSATION)


@pytest.mark.parametrize("place", ["chat_template.jinja", "tokenizer_config.json", "named"])
def test_a_pretrained_tokenizer_has_the_template_that_lies_beside_it(chatml: BytePair, place: str, tmp_path: Path) -> None:
    chatml.save(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    template = config.pop("chat_template")
    if place == "chat_template.jinja":
        (tmp_path / place).write_text(template)
    elif place == "named":
        config["chat_template"] = [{"name": "tool_use", "template": "no"}, {"name": "default", "template": template}]
    else:
        config["chat_template"] = template
    file.write_text(json.dumps(config))
    assert Pretrained.train(PretrainedParams(path=str(tmp_path)), ()).apply_chat(CONVERSATION) == chatml.apply_chat(CONVERSATION)


def test_special_tokens_that_a_template_writes_must_be_there_and_the_place_is_told() -> None:
    model = {"d_model": 32, "n_layers": 1, "max_seq_len": 16}
    with pytest.raises(SpecError) as caught:
        load_spec(
            {
                "name": "x",
                "tokenizer": {"type": "bpe", "vocab_size": 300, "special_tokens": ["<|im_end|>"], "chat_template": "chatml"},
                "model": model,
            }
        )
    (problem,) = caught.value.problems
    assert problem.address == "tokenizer.chat_template"
    assert 'writes <|im_start|>, no special token of this tokenizer; special_tokens: ["<|im_end|>", "<|im_start|>"]' in problem.message


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("chatmi", "neither chatml, llama3, zephyr nor a template in Jinja"),
        ("{% for x in messages %}", "no Jinja: line 1"),
        ("{{ '<|user|>' + messages[0].content }}", r"writes <\|user\|>"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused_before_anything_is_trained(template: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        BytesParams(chat_template=template)


@pytest.mark.parametrize(
    ("conversation", "message"),
    [
        ([{"role": "pirate", "content": "arr"}], "refuses this conversation: a role is system, user or assistant, not pirate"),
        ([{"content": "arr"}], "message 0 of the conversation is .*; it must be a mapping with `role` and `content`"),
        ([{"role": "user"}], "chat template (fails on|refuses) this conversation"),
    ],
)
def test_a_conversation_that_does_not_fit_is_told_without_a_traceback(conversation: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        bpe(*CASES["zephyr"]).apply_chat(conversation)


def test_a_template_cannot_leave_its_sandbox() -> None:
    tokenizer = Utf8.train(BytesParams(chat_template="{{ messages.__class__.__mro__[1].__subclasses__() }}"), ())
    with pytest.raises(UserError, match="chat template refuses"):
        tokenizer.apply_chat(CONVERSATION)
