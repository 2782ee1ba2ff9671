"""Every instance of a synthetic task is what its docstring says, and no training text is ever asked."""

from __future__ import annotations

import math
import string
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from llmkit.core.errors import UserError
from llmkit.plugins.tasks.copying import Copying
from llmkit.plugins.tasks.dyck import Dyck
from llmkit.plugins.tasks.induction import Induction
from llmkit.plugins.tasks.mqar import Mqar
from llmkit.plugins.tasks.task import HELD_OUT, Instance, Task, asked, instances, is_held_out

seeds = st.integers(0, 2**32)


@st.composite
def inductions(draw: st.DrawFn) -> Induction:
    shortest = draw(st.integers(2, 20))
    length = draw(st.integers(shortest, 26))
    return Induction(length=length, shortest=shortest, pieces=draw(st.integers(1, shortest - 1)), symbols=draw(st.integers(length, 62)))


@st.composite
def recalls(draw: st.DrawFn) -> Mqar:
    pairs = draw(st.integers(1, 20))
    queries, times = draw(st.none() | st.integers(1, pairs)), draw(st.integers(1, 3))
    return Mqar(pairs=pairs, queries=queries, times=times, keys=draw(st.integers(pairs, 36)), values=draw(st.integers(2, 26)))


@st.composite
def copies(draw: st.DrawFn) -> Copying:
    length = draw(st.integers(1, 20))
    shortest = draw(st.none() | st.integers(1, length))
    return Copying(length=length, shortest=shortest, symbols=draw(st.integers(2, 62)), blanks=draw(st.integers(0, 9)))


words = st.builds(Dyck, length=st.integers(1, 24).map(lambda half: 2 * half), kinds=st.integers(2, 4), depth=st.integers(1, 6))
tasks: st.SearchStrategy[Task] = st.one_of(inductions(), recalls(), copies(), words)


@given(inductions(), seeds)
def test_an_induction_answer_is_what_followed_the_symbol_before_it_where_that_stood_once(task: Induction, seed: int) -> None:
    symbols, answers = task.draw(Random(seed))
    first, again = symbols[: len(symbols) // 2], symbols[len(symbols) // 2 :]
    assert task.least <= len(first) <= task.length
    assert sorted(first) == sorted(again) and len(set(first)) == len(first) and set(first) <= set(task.alphabet)
    assert len(answers) >= len(first) - task.pieces
    for place, distance, options in answers:
        before = symbols[place - 1]
        assert symbols[: place - 1].count(before) == 1
        assert symbols[symbols.index(before) + 1] == symbols[place] == symbols[place - distance]
        assert not options
    if task.pieces == 1:
        assert first == again and [answer.place for answer in answers] == list(range(len(first) + 1, len(symbols)))


@given(recalls(), seeds)
def test_the_key_of_every_recall_query_stands_exactly_once_before_with_the_value_that_answers(task: Mqar, seed: int) -> None:
    symbols, answers = task.draw(Random(seed))
    asked = task.pairs if task.queries is None else task.queries
    first, again = 2 * task.pairs, Counter(symbols[2 * task.pairs :: 2])
    assert len(symbols) == first + 2 * asked * task.times and len(again) == asked and set(again.values()) == {task.times}
    assert [answer.place for answer in answers] == list(range(first + 1, len(symbols), 2))
    for place, distance, _ in answers:
        key = symbols[place - 1]
        assert symbols[:first].count(key) == 1 and (task.times > 1 or symbols[: place - 1].count(key) == 1)
        assert symbols[symbols.index(key) + 1] == symbols[place] and symbols.index(key) + 1 == place - distance
    assert set(symbols[::2]) <= set(string.ascii_lowercase + string.digits) and set(symbols[1::2]) <= set(string.ascii_uppercase)


@given(copies(), seeds)
def test_what_is_copied_is_the_string_without_its_blanks_in_order(task: Copying, seed: int) -> None:
    symbols, answers = task.draw(Random(seed))
    before, _, after = "".join(symbols).partition(":")
    assert before.replace(".", "") == after and before.count(".") == task.blanks
    assert task.least <= len(after) <= task.length
    assert [answer.place for answer in answers] == list(range(len(before) + 1, len(symbols)))
    places = [answer.place - answer.distance for answer in answers]
    assert places == sorted(set(places)) and all(symbols[one] == symbols[answer.place] for one, answer in zip(places, answers))


@given(words, seeds)
def test_every_dyck_word_is_balanced_and_no_deeper_than_its_depth(task: Dyck, seed: int) -> None:
    symbols, answers = task.draw(Random(seed))
    assert len(symbols) == task.length
    # By cancelling what is adjacent and matches, which needs no stack: the depth is the number of rounds it takes at most.
    word, deepest, depth = "".join(symbols), 0, 0
    for symbol in symbols:
        depth += 1 if symbol in "([{<" else -1
        deepest = max(deepest, depth)
    while (shorter := word.replace("()", "").replace("[]", "").replace("{}", "").replace("<>", "")) != word:
        word = shorter
    assert word == "" and deepest <= task.depth
    assert [answer.place for answer in answers] == [place for place, symbol in enumerate(symbols) if symbol in ")]}>"]
    for place, distance, options in answers:
        inside = symbols[place - distance + 1 : place]
        assert "([{<".index(symbols[place - distance]) == ")]}>".index(symbols[place])
        assert Counter(symbol in "([{<" for symbol in inside) in (Counter(), Counter({True: len(inside) // 2, False: len(inside) // 2}))
        assert options == tuple(")]}>"[: task.kinds])


@given(tasks, seeds)
def test_every_symbol_is_one_byte_of_the_alphabet(task: Task, seed: int) -> None:
    instance = task.draw(Random(seed))
    assert set(instance.symbols) <= set(task.alphabet) and len(set(task.alphabet)) == len(task.alphabet)
    assert len(instance.text().encode()) == len(instance.symbols) and instance.text().isprintable()


@pytest.mark.parametrize("separator", ["", " ", ", "])
def test_a_context_and_its_answer_and_the_rest_are_the_text(separator: str) -> None:
    instance = Instance(("a", "b", "c"), ())
    assert instance.text(separator) == f"{separator}a{separator}b{separator}c"
    for place in range(3):
        context = instance.before(place, separator)
        assert instance.text(separator).startswith(context + instance.symbols[place])


@settings(max_examples=30, deadline=None)
@given(tasks, seeds, seeds)
def test_no_instance_is_both_trained_on_and_asked_whatever_the_seeds(task: Task, one: int, two: int) -> None:
    try:
        trained = {instance.text() for instance in instances(task, one, held_out=False, indices=range(20))}
        held_out = {instance.text() for instance in asked(task, two, 20)}
    except UserError:
        return
    assert not trained & held_out


def test_the_smallest_task_is_cut_in_two_and_one_without_a_side_says_so() -> None:
    task = Copying(length=1, symbols=10)
    every = {f"{symbol}:{symbol}" for symbol in string.ascii_letters[:10]}
    sides = [{instance.text() for instance in instances(task, 0, held_out=side, indices=range(300))} for side in (False, True)]
    assert sides[0] | sides[1] == every and not sides[0] & sides[1]
    with pytest.raises(UserError, match="too few different instances: none is left to hold out; make it longer"):
        asked(Mqar(pairs=1, keys=1, values=2), 0, 1)


def test_a_quarter_of_all_instances_is_held_out() -> None:
    random = Random(0)
    drawn = [is_held_out(Mqar().draw(random)) for _ in range(2000)]
    assert stats.binomtest(sum(drawn), len(drawn), HELD_OUT).pvalue > 0.001


@pytest.mark.parametrize("task", [Induction(), Mqar(), Copying(blanks=3), Dyck()], ids=lambda task: type(task).__name__)
def test_a_seed_and_a_number_make_the_same_instance_alone_and_among_others(task: Task) -> None:
    assert asked(task, 3, 8) == asked(task, 3, 8) and asked(task, 3, 4) == asked(task, 3, 8)[:4]
    assert list(instances(task, 3, held_out=True, indices=range(5, 6))) == asked(task, 3, 6)[5:]
    assert asked(task, 4, 8) != asked(task, 3, 8)


@pytest.mark.parametrize(
    ("task", "parts"),
    [
        (Induction(length=8, symbols=16), 16),
        (Mqar(pairs=4, values=8), 8),
        (Copying(length=6, symbols=10), 10),
        (Dyck(length=16, kinds=3), 3),
    ],
    ids=str,
)
def test_the_answers_are_uniform_so_that_guessing_gets_chance_right(task: Task, parts: int) -> None:
    found = Counter(instance.symbols[instance.answers[0].place] for instance in asked(task, 0, 1000))
    assert len(found) == parts and task.chance == 1 / parts
    assert stats.chisquare(list(found.values())).pvalue > 0.001


def test_who_knows_what_is_left_but_not_its_order_gets_the_share_that_the_docstrings_say() -> None:
    def harmonic(least: int, most: int) -> float:
        return math.fsum(1 / left for left in range(least, most + 1))

    random, recall, induction = Random(0), [], []
    for symbols, answers in asked(Mqar(pairs=8), 0, 1000):
        left = list(symbols[1:16:2])
        for place, *_ in answers:
            recall.append(random.choice(left) == symbols[place])
            left.remove(symbols[place])
    for symbols, answers in asked(Induction(length=16, shortest=16), 0, 1000):
        induction += [random.choice(sorted(set(symbols[:16]) - set(symbols[16:place]))) == symbols[place] for place, *_ in answers]
    # Values recur, so that a guess of the wrong pair may be right: hence not below.
    assert harmonic(1, 8) / 8 - 0.01 < sum(recall) / len(recall) < 0.34 + 1 / 26 + 0.01
    assert sum(induction) / len(induction) == pytest.approx(harmonic(1, 15) / 15, abs=0.01)
    assert round(harmonic(1, 15) / 15, 2) == 0.22 and round(harmonic(1, 8) / 8, 2) == 0.34 and round(harmonic(1, 16) / 16, 2) == 0.21


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_a_longer_task_has_every_instance_of_the_longer_length(factor: int) -> None:
    random = Random(0)
    for task, length in (
        (Induction(length=8), 16),
        (Mqar(pairs=6, queries=3), 18),
        (Copying(length=5, blanks=2), 13),
        (Dyck(length=12), 12),
    ):
        expected = factor * length - (factor - 1 if isinstance(task, Copying) else 0)
        assert {len(task.longer(factor).draw(random).symbols) for _ in range(20)} == {expected}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Induction(length=30), "length 30 needs as many different symbols, and there are 26; raise `symbols`"),
        (lambda: Induction(length=8, shortest=9), "shortest 9 is more than length 8; lower it"),
        (lambda: Induction(length=8, pieces=4), "pieces 4 leaves no two symbols together in a run of 4"),
        (lambda: Mqar(pairs=27), "pairs 27 needs as many different keys, and there are 26; raise `keys`"),
        (lambda: Mqar(pairs=4, queries=5), "queries 5 is more than pairs 4; lower it"),
        (lambda: Copying(length=3, shortest=4), "shortest 4 is more than length 3; lower it"),
        (lambda: Dyck(length=7), "length 7 is odd, and every bracket that opens is closed; make it even"),
        (lambda: Mqar(pairs=16).longer(2), "pairs 32 needs as many different keys"),
    ],
)
def test_a_task_that_cannot_be_says_why(make: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make()  # type: ignore[operator]
