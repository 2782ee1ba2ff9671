"""Probes are right without any training: who solves the task scores 1, who guesses scores chance, on instances that nobody trains on."""

from __future__ import annotations

import hashlib
import json
import math
import string
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from llmkit import catalog
from llmkit.core.errors import UserError
from llmkit.core.interfaces.evaluator import DocumentScore, Evaluation, LogLikelihood, Score
from llmkit.core.interfaces.source import Document
from llmkit.core.interfaces.tokenizer import Tokenizer
from llmkit.core.kinds import Kind
from llmkit.plugins.tasks.copying import Copying
from llmkit.plugins.tasks.dyck import Dyck
from llmkit.plugins.tasks.induction import Induction
from llmkit.plugins.tasks.mqar import Mqar
from llmkit.plugins.tasks.task import Task, asked


def tokenizer(kind: str = "bytes", texts: Sequence[str] = (), **params: Any) -> Tokenizer:
    component = catalog().find(Kind.tokenizer, kind)
    made: Tokenizer = component.resolve().train(component.params.model_validate(params), texts)
    return made


class Solver:
    """A language model that is a rule: the probability of every next symbol, given the text before."""

    max_seq_len = 512

    def __init__(self, separator: str = "", tokens: Tokenizer | None = None) -> None:
        self.separator = separator
        self.tokenizer = tokens or tokenizer()

    def next(self, context: str) -> dict[str, float]:
        """The probability of every symbol that may come next."""
        raise NotImplementedError

    def loglikelihood(self, pairs: Sequence[tuple[str, str]]) -> list[LogLikelihood]:
        return [self._one(context, continuation) for context, continuation in pairs]

    def _one(self, context: str, continuation: str) -> LogLikelihood:
        nats, greedy = 0.0, True
        read = context[len(self.separator) :: len(self.separator) + 1]
        for symbol in continuation[:: len(self.separator) + 1]:
            chances = self.next(read)
            p = chances.get(symbol, 0.0)
            nats += math.log(p) if p else -math.inf
            # Among equals one is written: always the same one after the same text.
            best = sorted(one for one, chance in chances.items() if chance == max(chances.values()))
            pick = int.from_bytes(hashlib.sha256(read.encode()).digest()[:4], "big") % len(best)
            greedy = greedy and symbol == best[pick]
            read += symbol
        return LogLikelihood(nats, greedy, len(continuation))

    def stream(self, documents: Iterable[Document]) -> list[DocumentScore]:
        raise AssertionError("a probe has data of its own")

    def generate(self, prompts: Sequence[str], *, max_new_tokens: int, temperature: float = 0.0, seed: int = 0) -> list[str]:
        raise AssertionError("a probe scores")


class Follower(Solver):
    """What stood behind the latest symbol when it was last here; anything where it was not."""

    def next(self, context: str) -> dict[str, float]:
        last = context[-1]
        where = context.rfind(last, 0, len(context) - 1)
        return {context[where + 1]: 1.0} if where >= 0 else dict.fromkeys(string.ascii_letters + string.digits, 1 / 62)


class Copier(Solver):
    """Behind the colon, the symbol of the string at this place."""

    def next(self, context: str) -> dict[str, float]:
        before, _, after = context.partition(":")
        return {before.replace(".", "")[len(after)]: 1.0}


class Stack(Solver):
    """The bracket that closes the latest open one, or else any that opens: as likely."""

    def next(self, context: str) -> dict[str, float]:
        still_open: list[str] = []
        for symbol in context:
            if symbol in "([{<":
                still_open.append(symbol)
            else:
                still_open.pop()
        return {**dict.fromkeys("([{<", 0.125), ")]}>"["([{<".index(still_open[-1])]: 0.5}


class Neighbour(Solver):
    """Closes what was just opened, and else closes anything."""

    def next(self, context: str) -> dict[str, float]:
        known = "([{<".find(context[-1])
        return {")]}>"[known]: 1.0} if known >= 0 else dict.fromkeys(")]}>", 0.25)


class Guesser(Solver):
    """Any of some symbols, all as likely, whatever stands before."""

    def __init__(self, symbols: str, **options: Any) -> None:
        super().__init__(**options)
        self.symbols = symbols

    def next(self, context: str) -> dict[str, float]:
        return {symbol: 1 / len(self.symbols) for symbol in self.symbols}


def probe(name: str, lm: Solver, documents: Iterable[Document] | None = None, **params: Any) -> tuple[dict[str, Score], Evaluation]:
    component = catalog().find(Kind.evaluator, name)
    evaluation: Evaluation = component.resolve()(component.params.model_validate(params))(lm, documents)
    json.dumps(evaluation.items, allow_nan=False)
    return {score.metric: score for score in evaluation.scores}, evaluation


SOLVED = [
    ("induction", Follower, {}),
    ("induction", Follower, {"pieces": 4, "shortest": 12, "separator": " "}),
    ("mqar", Follower, {}),
    ("mqar", Follower, {"pairs": 20, "queries": 7, "separator": " "}),
    ("copying", Copier, {}),
    ("copying", Copier, {"blanks": 9, "length": 5, "separator": " "}),
    ("dyck", Stack, {}),
    ("dyck", Stack, {"length": 60, "depth": 9, "separator": " "}),
]


@pytest.mark.parametrize(("name", "solver", "params"), SOLVED, ids=str)
def test_who_solves_the_task_has_accuracy_one_and_no_loss(name: str, solver: type[Solver], params: dict[str, Any]) -> None:
    scores, evaluation = probe(name, solver(params.get("separator", "")), **params)
    for metric in ("accuracy", "exact", *(["accuracy_nested"] if name == "dyck" else [])):
        assert scores[metric][1:] == (1.0, 0.0, 128), metric
    assert scores["loss"].value == pytest.approx(0, abs=1e-9)
    assert all(set(item["right"]) == {1.0} for item in evaluation.items)


GUESSED = [
    ("induction", Induction(), "abcdefghijklmnopqrstuvwxyz"),
    ("mqar", Mqar(values=9), "ABCDEFGHI"),
    ("copying", Copying(symbols=12), "abcdefghijkl"),
    ("dyck", Dyck(), ")]}>"),
    ("dyck", Dyck(), "([{<)]}>"),
]


@pytest.mark.parametrize(("name", "task", "symbols"), GUESSED, ids=str)
def test_who_guesses_among_the_answers_scores_chance(name: str, task: Task, symbols: str) -> None:
    scores, _ = probe(name, Guesser(symbols), instances=400, **task.model_dump())
    found, chance = scores["accuracy"], scores["chance"].value
    assert chance == task.chance and found.stderr is not None
    assert found.value == pytest.approx(chance, abs=max(4 * found.stderr, 1e-12))
    if name != "dyck":
        assert scores["loss"].value == pytest.approx(math.log(len(symbols)))
    else:
        assert (found.value, scores["loss"].value) == (pytest.approx(1 / 4), pytest.approx(math.log(4)))


def test_who_looks_one_bracket_back_gets_the_nested_ones_by_chance_only() -> None:
    scores, _ = probe("dyck", Neighbour(), instances=200)
    adjacent = [answer.distance == 1 for instance in asked(Dyck(), 0, 200) for answer in instance.answers]
    assert scores["accuracy_nested"].value == pytest.approx(1 / 4)
    share = sum(adjacent) / len(adjacent)
    assert scores["accuracy"].value == pytest.approx(share + (1 - share) / 4)


def test_a_word_without_depth_has_nothing_nested() -> None:
    scores, _ = probe("dyck", Stack(), depth=1, length=40, instances=4)
    assert math.isnan(scores["accuracy_nested"].value) and scores["accuracy_nested"].stderr is None


def test_the_gain_of_induction_is_what_the_second_time_is_easier() -> None:
    scores, _ = probe("induction", Follower())
    assert scores["loss_first"].value == pytest.approx(math.log(62)) and scores["gain"].value == pytest.approx(math.log(62))
    scores, _ = probe("induction", Guesser("abcdefghijklmnopqrstuvwxyz"))
    assert scores["loss_first"].value == pytest.approx(math.log(26)) and scores["gain"].value == pytest.approx(0)


class Sometimes(Follower):
    """Knows the answers of an instance or none of them, by its first symbols."""

    def next(self, context: str) -> dict[str, float]:
        return super().next(context) if context[0] in "abcdefghij" else {"!": 1.0}


def test_the_standard_error_is_over_instances_not_over_their_answers() -> None:
    scores, evaluation = probe("mqar", Sometimes(), instances=400)
    each = [np.mean(item["right"]) for item in evaluation.items]
    assert set(each) == {0.0, 1.0}
    assert scores["accuracy"].value == pytest.approx(np.mean(each)) == scores["exact"].value
    assert scores["accuracy"].stderr == pytest.approx(stats.sem(each)) == scores["exact"].stderr
    assert scores["loss"].value == math.inf and all(set(item["nats"]) <= {None, 0.0} for item in evaluation.items)


def test_a_probe_reads_no_documents_and_asks_the_same_every_time() -> None:
    def forbidden() -> Iterable[Document]:
        raise AssertionError("documents were read")
        yield

    first, second = probe("mqar", Follower(), forbidden())[1], probe("mqar", Follower())[1]
    assert first == second and first != probe("mqar", Follower(), seed=1)[1]
    assert [item["text"] for item in first.items] == [instance.text() for instance in asked(Mqar(), 0, 128)]


def test_one_instance_has_no_standard_error() -> None:
    assert probe("copying", Copier(), instances=1)[0]["accuracy"] == Score("accuracy", 1.0, None, 1)


def test_an_instance_longer_than_the_model_reads_is_refused_with_both_lengths() -> None:
    lm = Follower()
    lm.max_seq_len = 31
    with pytest.raises(UserError, match="has 32 tokens, and the model reads 31 at once; ask for a shorter one"):
        probe("mqar", lm)
    lm.max_seq_len = 32
    assert probe("mqar", lm)[0]["accuracy"].value == 1.0


def test_a_tokenizer_that_makes_one_of_two_symbols_is_refused() -> None:
    folding = tokenizer("wordpiece", ["abc abc", "a b c"] * 9, vocab_size=600)
    assert folding.encode("a") != folding.encode("b")
    if folding.encode("a") == folding.encode("A"):
        with pytest.raises(UserError, match="makes the same ids of 'a' and 'A'"):
            probe("mqar", Follower(tokens=folding))


def test_with_words_for_tokens_a_symbol_with_its_space_is_one_token() -> None:
    text = Random(0).choices([" " + symbol for symbol in Mqar().alphabet], k=20_000)
    words = tokenizer("bpe", ["".join(text)], vocab_size=400)
    for instance in asked(Mqar(separator=" "), 0, 5):
        assert len(words.encode(instance.text(" "))) == len(instance.symbols)
    assert probe("mqar", Follower(" ", words), separator=" ")[0]["accuracy"].value == 1.0


class Nearsighted(Copier):
    """Copies a string of up to so many symbols, and then says nothing right."""

    def next(self, context: str) -> dict[str, float]:
        before = context.partition(":")[0]
        return super().next(context) if len(before) <= 16 else {"!": 1.0}


def test_length_extrapolation_tells_every_length_apart() -> None:
    _, evaluation = probe("length_extrapolation", Nearsighted(), task={"type": "copying", "length": 8}, factors=[4, 1, 2])
    assert [(score.metric, score.value) for score in evaluation.scores] == [
        ("accuracy_at_1x", 1.0),
        ("accuracy_at_2x", 1.0),
        ("accuracy_at_4x", 0.0),
        ("read_up_to", 4.0),
        ("chance", 1 / 26),
    ]
    lengths = {item["id"].split("/")[0]: len(item["text"]) for item in evaluation.items}
    assert lengths == {"1x": 17, "2x": 33, "4x": 65}


def test_a_length_that_the_model_does_not_read_has_no_value_and_says_so() -> None:
    lm = Copier()
    lm.max_seq_len = 40
    scores, evaluation = probe("length_extrapolation", lm, task={"type": "copying", "length": 8})
    assert scores["accuracy_at_2x"].value == 1.0 and math.isnan(scores["accuracy_at_4x"].value)
    assert scores["accuracy_at_4x"].stderr is None and scores["read_up_to"].value == 2.0
    assert evaluation.items[-1] == {"id": "4x", "tokens": 65, "max_seq_len": 40}
    lm.max_seq_len = 16
    with pytest.raises(UserError, match="at 1x, an instance has 17 tokens, and the model reads 16 at once"):
        probe("length_extrapolation", lm, task={"type": "copying", "length": 8})


def test_a_factor_that_the_task_has_no_symbols_for_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="at 4 times the length, mqar: pairs 32 needs as many different keys"):
        probe("length_extrapolation", Follower(), task="mqar")


@pytest.mark.parametrize(("task", "solver"), [("mqar", Follower), ("induction", Follower), ("dyck", Stack), ("copying", Copier)])
def test_every_task_can_be_asked_at_more_than_its_length(task: str, solver: type[Solver]) -> None:
    of = {"type": task, **({"pairs": 6} if task == "mqar" else {"length": 6})}
    scores, _ = probe("length_extrapolation", solver(), task=of, factors=[1, 4], instances=20)
    assert scores["accuracy_at_4x"].value == 1.0
