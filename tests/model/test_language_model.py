"""A model as evaluators see it, against the model itself run one window and one row at a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import LanguageModel
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.model.build import build
from llmkit.model.decoder import Decoder
from llmkit.model.generate import generate
from llmkit.model.language_model import ModelLM
from llmkit.runtime import load_spec

SEQ_LEN, MAX_SEQ_LEN = 16, 24
TEXTS = [
    "one two three four five",
    "",
    "six",
    "é→😀 and a document longer than a window of the stream, which it crosses",
    "end <|endoftext|>",
]
DOCUMENTS = [Document(str(index), text) for index, text in enumerate(TEXTS)]


def decoder(**block: Any) -> Decoder:
    position = block.pop("position", "rope")
    attention = {"type": "gqa", "n_heads": 4, "n_kv_heads": 2, **block}
    model = {
        "d_model": 32,
        "n_layers": 2,
        "max_seq_len": MAX_SEQ_LEN,
        "position": position,
        "block": {"attention": attention, "ffn": {"type": "swiglu", "d_ff": 48}},
    }
    built = build(load_spec({"tokenizer": "bytes", "model": model}), seed=3)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4)
    return built


@pytest.fixture(scope="module")
def model() -> Decoder:
    return decoder()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    chosen = load_spec({"tokenizer": "bytes", "model": {"d_model": 64, "n_layers": 1, "max_seq_len": 8}}).tokenizer
    trained: Tokenizer = chosen.component.resolve().train(chosen.params, [])
    return trained


def lm(model: Decoder, tokenizer: Tokenizer, batch_size: int = 4, **options: Any) -> ModelLM:
    return ModelLM(model, tokenizer, seq_len=SEQ_LEN, batch_size=batch_size, **options)


def next_token_nats(model: Decoder, ids: list[int]) -> list[float]:
    """-ln p of ids[1:], one row at a time, in fp64 after the logits."""
    with torch.no_grad():
        logits = model(torch.tensor([ids[:-1]]))[0].double()
    return F.cross_entropy(logits, torch.tensor(ids[1:]), reduction="none").tolist()


def expected_stream(model: Decoder, tokenizer: Tokenizer) -> list[tuple[float, int]]:
    """The definition, read off: eos d0 eos d1 eos ..., window i predicts tokens i T + 1 .. (i + 1) T."""
    stream, owner = [tokenizer.eos_id], []
    for index, text in enumerate(TEXTS):
        ids = [*tokenizer.encode(text), tokenizer.eos_id]
        stream += ids
        owner += [index] * len(ids)
    nats: list[float] = []
    for start in range(0, len(stream) - 1, SEQ_LEN):
        nats += next_token_nats(model, stream[start : start + SEQ_LEN + 1])
    return [(sum(value for value, of in zip(nats, owner) if of == index), owner.count(index)) for index in range(len(TEXTS))]


def test_it_is_what_the_interface_asks_for(model: Decoder, tokenizer: Tokenizer) -> None:
    seen: LanguageModel = lm(model, tokenizer)
    assert seen.max_seq_len == MAX_SEQ_LEN and seen.tokenizer is tokenizer


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_stream_predicts_every_token_of_every_document_once(model: Decoder, tokenizer: Tokenizer, batch_size: int) -> None:
    scores = lm(model, tokenizer, batch_size).stream(DOCUMENTS)
    for score, text, (nats, tokens) in zip(scores, TEXTS, expected_stream(model, tokenizer)):
        assert score.nats == pytest.approx(nats, rel=1e-5)
        assert (score.tokens, score.bytes) == (tokens, len(text.encode()))
    assert [score.id for score in scores] == [document.id for document in DOCUMENTS]


def test_stream_takes_any_iterable_and_nothing(model: Decoder, tokenizer: Tokenizer) -> None:
    scorer = lm(model, tokenizer)
    assert scorer.stream(iter(DOCUMENTS)) == scorer.stream(DOCUMENTS)
    assert scorer.stream([]) == []


def test_stream_is_the_validation_loss_of_training(model: Decoder, tokenizer: Tokenizer, tmp_path: Any) -> None:
    from llmkit.data.batches import windows
    from llmkit.data.tokens import TokenFile, TokenWriter, seal

    with TokenWriter(tmp_path, "v", vocab_size=tokenizer.vocab_size, eos_id=tokenizer.eos_id, tokenizer="bytes") as file:
        for document in DOCUMENTS:
            file.add(document.id, tokenizer.encode(document.text), len(document.text.encode()))
    seal(tmp_path, "v", sources={"documents": len(DOCUMENTS)})
    for masked in (False, True):
        total, count = 0.0, 0
        for batch in windows(TokenFile(tmp_path, "v"), SEQ_LEN, batch_size=3, mask_documents=masked):
            with torch.no_grad():
                h, _ = model.features(batch)
                total += F.cross_entropy(model.head(h).flatten(0, 1), batch.targets.flatten(), reduction="sum").item()
            count += int((batch.targets != -100).sum())
        scores = lm(model, tokenizer, mask_documents=masked).stream(DOCUMENTS)
        assert sum(score.tokens for score in scores) == count
        assert sum(score.nats for score in scores) == pytest.approx(total, rel=1e-5)


def test_masked_documents_are_scored_as_if_alone(model: Decoder, tokenizer: Tokenizer) -> None:
    short = [Document("a", "abc"), Document("b", "xyz!"), Document("c", "12")]
    scores = lm(model, tokenizer, mask_documents=True).stream(short)
    for score, document in zip(scores, short):
        alone = next_token_nats(model, [tokenizer.eos_id, *tokenizer.encode(document.text), tokenizer.eos_id])
        assert score.nats == pytest.approx(sum(alone), rel=1e-5)
    assert lm(model, tokenizer).stream(short)[1].nats != pytest.approx(scores[1].nats, rel=1e-3)


PAIRS = [
    ("the capital", " of France"),
    ("", "x"),
    ("a", ""),
    ("é", "é😀"),
    ("too long a context for this model", " yes"),
    ("q", "0123456789"),
]


@pytest.mark.parametrize("block", [{}, {"position": "alibi"}, {"position": "learned"}, {"window": 5}], ids=str)
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_loglikelihood_equals_one_row_at_a_time(tokenizer: Tokenizer, block: dict[str, Any], batch_size: int) -> None:
    model = decoder(**block)
    for (context, continuation), found in zip(PAIRS, lm(model, tokenizer, batch_size).loglikelihood(PAIRS)):
        ids = [tokenizer.bos_id, *tokenizer.encode(context), *tokenizer.encode(continuation)][-MAX_SEQ_LEN - 1 :]
        count = len(tokenizer.encode(continuation))
        expected = -sum(next_token_nats(model, ids)[len(ids) - 1 - count :]) if count else 0.0
        assert found.tokens == count
        assert found.nats == pytest.approx(expected, rel=1e-5)


TEXT = "a text asked at many places"
PLACES = [*range(len(TEXT) - 1), 4, 4]
QUESTIONS = [
    *((TEXT[:place], TEXT[place]) for place in PLACES),
    ("a te", "x"),
    ("a te", "y"),
    ("a te", "xt"),
    ("a f", "ew"),
    ("", TEXT[:9]),
]
DYNAMIC = {"type": "rope", "scaling": {"type": "dynamic", "factor": 2.0, "original_max_seq_len": 8}}


@pytest.mark.parametrize("position", ["rope", "alibi", "learned", DYNAMIC], ids=str)
def test_texts_that_begin_each_other_score_as_if_each_were_read_alone(tokenizer: Tokenizer, position: Any) -> None:
    scorer = lm(decoder(position=position), tokenizer)
    for pair, found in zip(QUESTIONS, scorer.loglikelihood(QUESTIONS)):
        alone = scorer.loglikelihood([pair])[0]
        assert found.nats == pytest.approx(alone.nats, rel=1e-5) and found[1:] == alone[1:]


@pytest.mark.parametrize(("position", "lines"), [("rope", 4), (DYNAMIC, len(QUESTIONS))], ids=str)
def test_texts_that_begin_each_other_are_read_in_one_line_unless_their_length_counts(
    tokenizer: Tokenizer, position: Any, lines: int
) -> None:
    model, read = decoder(position=position), []
    model.blocks[0].register_forward_pre_hook(lambda block, arguments: read.append(len(arguments[0])))
    lm(model, tokenizer).loglikelihood(QUESTIONS)
    # The longest text whole, two of 24 and 25 tokens that are cut on the left, and the one that goes on otherwise.
    assert sum(read) == lines


def test_greedy_says_whether_the_model_would_have_written_it(model: Decoder, tokenizer: Tokenizer) -> None:
    ids = [tokenizer.bos_id, *tokenizer.encode("abc")]
    with torch.no_grad():
        likeliest = [int(model(torch.tensor([ids]))[0, -1, :128].argmax())]
        whole = model(torch.tensor([ids]))[0, -1]
    text = tokenizer.decode(likeliest)
    right, wrong = lm(model, tokenizer).loglikelihood([("abc", text), ("abc", "~" if text != "~" else "!")])
    assert right.greedy == (int(whole.argmax()) == likeliest[0])
    assert not wrong.greedy and wrong.nats < right.nats


def test_a_continuation_too_long_is_refused_with_both_lengths(model: Decoder, tokenizer: Tokenizer) -> None:
    with pytest.raises(UserError, match=f"of {MAX_SEQ_LEN + 1} tokens is longer than the {MAX_SEQ_LEN} that the model reads"):
        lm(model, tokenizer).loglikelihood([("", "x" * (MAX_SEQ_LEN + 1))])
    assert lm(model, tokenizer).loglikelihood([("context", "x" * MAX_SEQ_LEN)])[0].tokens == MAX_SEQ_LEN


def test_likelihoods_of_all_next_bytes_and_specials_sum_to_one(model: Decoder, tokenizer: Tokenizer) -> None:
    pairs = [("ab", chr(code)) for code in range(128)]
    mass = sum(math.exp(found.nats) for found in lm(model, tokenizer, 50).loglikelihood(pairs))
    ids = [tokenizer.bos_id, *tokenizer.encode("ab")]
    with torch.no_grad():
        assert mass == pytest.approx(model(torch.tensor([ids]))[0, -1].softmax(-1)[:128].sum().item(), rel=1e-5)


def test_greedy_generation_is_the_argmax_one_token_at_a_time(model: Decoder, tokenizer: Tokenizer) -> None:
    prompts = ["ab", "", "a longer prompt"]
    for prompt, completion in zip(prompts, lm(model, tokenizer, 2).generate(prompts, max_new_tokens=6)):
        ids, made = [tokenizer.bos_id, *tokenizer.encode(prompt)], []
        while len(made) < 6:
            with torch.no_grad():
                token = int(model(torch.tensor([ids + made]))[0, -1, : tokenizer.vocab_size].argmax())
            if token in tokenizer.stop_ids:
                break
            made.append(token)
        assert completion == tokenizer.decode(made)


def test_generation_does_not_depend_on_batching_and_repeats_with_its_seed(model: Decoder, tokenizer: Tokenizer) -> None:
    prompts = ["ab", "cd", "a longer one", "ab"]
    options: dict[str, Any] = {"max_new_tokens": 8, "temperature": 1.0}
    one, all_at_once = (lm(model, tokenizer, size).generate(prompts, seed=5, **options) for size in (1, 4))
    assert one == all_at_once
    assert one[0] != one[3], "equal prompts are samples, not copies"
    assert one != lm(model, tokenizer).generate(prompts, seed=6, **options)


def test_a_prompt_too_long_is_cut_on_the_left(model: Decoder, tokenizer: Tokenizer) -> None:
    long = "x" * 100 + "abcdefgh"
    ids = tokenizer.encode(long)[-(MAX_SEQ_LEN - 4) :]
    made = generate(model, [ids], max_new_tokens=4, temperature=0, stop_ids=tokenizer.stop_ids, vocab_limit=tokenizer.vocab_size)
    assert lm(model, tokenizer).generate([long], max_new_tokens=4) == [tokenizer.decode(made[0])]


def test_every_module_is_left_in_the_mode_it_was_in(tokenizer: Tokenizer) -> None:
    model = decoder()
    model.train()
    model.blocks[0].eval()
    before = [module.training for module in model.modules()]
    scorer = lm(model, tokenizer)
    scorer.stream(DOCUMENTS)
    scorer.loglikelihood(PAIRS)
    with pytest.raises(UserError):
        scorer.loglikelihood([("", "x" * 99)])
    assert [module.training for module in model.modules()] == before
    assert torch.is_grad_enabled()
