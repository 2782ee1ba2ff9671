"""A planted item is found through every change of case, punctuation and spacing, and nothing else is."""

from __future__ import annotations

import json
import random
import re
import string
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.plugins.filters.decontaminate import Decontaminate, folded
from llmkit.plugins.filters.learned_components import DecontaminateParams

ITEM = (
    "Natalia sold clips to 48 of her friends in April, and then she sold half as many clips in May. How many clips did Natalia sell "
    "altogether in April and May? She sold 48 / 2 = 24 clips in May, which makes 72."
)
PROSE = (
    "The harbour was quiet when the first boats came in. Nobody had slept, and the nets were almost empty, but the talk on the quay "
    "was of the weather and of nothing else. "
)


def ready(tmp_path: Path, references: Iterable[Document], **params: Any) -> Decontaminate:
    made = Decontaminate(DecontaminateParams(**params))
    made.learn(tmp_path, references)
    made.load(tmp_path)
    return made


def items(*texts: str, source: str = "gsm8k") -> list[Document]:
    return [Document(str(index), text, source) for index, text in enumerate(texts)]


def fate(made: Decontaminate, text: str) -> Document | Drop:
    return made.apply(Document("page", text))


CHANGES = {
    "none": lambda text: text,
    "upper case": str.upper,
    "title case": str.title,
    "no punctuation": lambda text: text.translate(str.maketrans("", "", string.punctuation)),
    "other punctuation": lambda text: text.replace(",", " -").replace("?", "!!").replace(".", "; "),
    "a line a word": lambda text: "\n".join(text.split()),
    "wide spaces": lambda text: text.replace(" ", " \t\u00a0\u2003 "),
    "no spaces": lambda text: text.replace(" ", ""),
    "a space a letter": " ".join,
    "words run together": lambda text: text.replace("her friends", "herfriends").replace("half as", "half-as"),
    "markup": lambda text: text.replace(" ", "** **"),
    "accents": lambda text: text.replace("a", "\u00e1"),
    "combining accents": lambda text: text.replace("e", "e\u0301"),
    "full width": lambda text: "".join(chr(ord(sign) + 0xFEE0) if "!" <= sign <= "~" else sign for sign in text),
    "soft hyphens": lambda text: text.replace("li", "l\u00adi"),
    "underscores": lambda text: text.replace(" ", "_"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_planted_item_is_found_and_named(tmp_path: Path, change: str) -> None:
    made = ready(tmp_path, items("What else is there to ask of a harbour, if not which boats came in first and why?", ITEM))
    found = fate(made, f"{PROSE * 3}\n{CHANGES[change](ITEM)}\n{PROSE}")  # type: ignore[operator]
    assert found == Drop("gsm8k:1", 1.0, 0.0)


def test_text_without_an_item_stays_as_it_is(tmp_path: Path) -> None:
    made = ready(tmp_path, items(ITEM))
    document = Document("page", PROSE * 10)
    assert made.apply(document) is document


def test_thirteen_words_are_found_and_twelve_are_not(tmp_path: Path) -> None:
    made = ready(tmp_path, items(ITEM))
    words = ITEM.split()
    thirteen, twelve = (fate(made, f"{PROSE} {' '.join(words[4 : 4 + length])} {PROSE}") for length in (13, 12))
    assert isinstance(thirteen, Drop) and thirteen.reason == "gsm8k:0" and 0 < (thirteen.value or 0) < 0.1
    assert isinstance(twelve, Document)


def brute(item: str, text: str, n: int, shortest: int) -> float:
    """The share by its definition, of letters a to z, digits and spaces."""
    words = item.split()
    runs = set()
    for start in range(len(words)):
        stop = next((end for end in range(start + n, len(words) + 1) if len("".join(words[start:end])) >= shortest), None)
        if stop is not None:
            runs.add("".join(words[start:stop]))
    if not runs and len("".join(words)) >= shortest:
        runs = {"".join(words)}
    return sum(run in text.replace(" ", "") for run in runs) / len(runs) if runs else 0.0


WORDS = st.lists(st.sampled_from(["a", "bc", "def", "g1h2", "ijklm"]), max_size=60).map(" ".join)


@given(item=WORDS, before=WORDS, after=WORDS, cut=st.tuples(st.integers(0, 60), st.integers(0, 60)), n=st.integers(2, 6))
@settings(max_examples=150, deadline=None)
def test_the_share_is_what_its_definition_says(
    tmp_path_factory: pytest.TempPathFactory, item: str, before: str, after: str, cut: tuple[int, int], n: int
) -> None:
    made = ready(tmp_path_factory.mktemp("learned"), items(item), n=n, shortest=10)
    text = " ".join([before, *item.split()[min(cut) : max(cut)], after])
    assert made.measure(Document("page", text))["share"] == pytest.approx(brute(item, text, n, 10))


def test_most_allows_a_part_of_an_item(tmp_path: Path) -> None:
    made = ready(tmp_path, items(ITEM), most=0.5)
    words = ITEM.split()
    assert isinstance(fate(made, " ".join(words[: len(words) // 2])), Document)
    assert isinstance(fate(made, " ".join(words[:-2])), Drop)


def test_a_held_out_document_may_share_a_run_and_an_item_may_not(tmp_path: Path) -> None:
    rng = random.Random(1)
    held_out = " ".join("".join(rng.choices(string.ascii_lowercase, k=5)) for _ in range(200))
    made = ready(tmp_path, [Document("a.jsonl#7", held_out, "holdout"), *items(ITEM)])
    words = held_out.split()
    few, many = (f"{PROSE} {' '.join(words[20 : 20 + length])} {PROSE}" for length in (20, 40))
    assert made.measure(Document("page", few)) == {"share": 0.0, "held_out_share": pytest.approx(8 / 188)}
    assert isinstance(fate(made, few), Document)
    assert fate(made, many.upper()) == Drop("holdout:a.jsonl#7", pytest.approx(28 / 188), 0.1)
    assert fate(made, f"{many} {' '.join(ITEM.split()[:13])}") == Drop("holdout:a.jsonl#7", pytest.approx(28 / 188), 0.1)
    assert isinstance(fate(made, f"{few} {' '.join(ITEM.split()[:13])}"), Drop)


def test_of_several_items_the_one_that_is_there_most_is_named(tmp_path: Path) -> None:
    other = "Weng earns 12 dollars an hour for babysitting, and yesterday she just did 50 minutes of it. How much did she earn?"
    made = ready(tmp_path, [*items(ITEM), Document("test/7", other, "acme.math")])
    found = fate(made, f"{' '.join(ITEM.split()[:20])} {PROSE} {other}")
    assert isinstance(found, Drop) and found.reason == "acme.math:test/7"


def test_of_two_items_that_are_all_there_the_longer_is_named(tmp_path: Path) -> None:
    made = ready(tmp_path, items(ITEM[: len(ITEM) // 2], ITEM, ITEM[len(ITEM) // 2 :]))
    assert fate(made, f"{PROSE} {ITEM}") == Drop("gsm8k:1", 1.0, 0.0)


def test_a_short_item_is_looked_for_whole_and_a_very_short_one_not_at_all(tmp_path: Path) -> None:
    made = Decontaminate(DecontaminateParams())
    figures = made.learn(tmp_path, items("Who wrote Don Quixote? Cervantes", "Who? Me", "!!! ..."))
    made.load(tmp_path)
    assert (figures["items"], figures["runs"], figures["too_short"]) == (1, 1, 2)
    assert isinstance(fate(made, "They asked: who wrote “Don Quixote”? Cervantes did."), Drop)
    assert isinstance(fate(made, "Who wrote Don Quixote? Who? Me!"), Document)


def test_a_run_of_tiny_words_grows_until_it_says_something(tmp_path: Path) -> None:
    digits = " ".join(str(number % 10) for number in range(30))
    made = ready(tmp_path, items(digits))
    assert isinstance(fate(made, " ".join(digits.split()[:19])), Document)
    assert isinstance(fate(made, " ".join(digits.split()[:20])), Drop)


def test_what_every_item_says_is_the_questionnaires(tmp_path: Path) -> None:
    frame = "The following are multiple choice questions with answers; please choose the one best answer to the question that follows here:"
    rng = random.Random(0)
    unlike = [" ".join("".join(rng.choices(string.ascii_lowercase, k=6)) for _ in range(20)) for _ in range(12)]
    made = Decontaminate(DecontaminateParams())
    figures = made.learn(tmp_path, items(*(f"{frame} {text}" for text in unlike)))
    made.load(tmp_path)
    assert figures["common_runs"] == 12 * (len(frame.split()) - 12)
    assert isinstance(fate(made, f"{frame} {PROSE}"), Document)
    assert fate(made, f"{PROSE} {unlike[3]}") == Drop("gsm8k:3", pytest.approx(8 / 20), 0.0)


def test_an_item_that_is_there_twice_is_one_item(tmp_path: Path) -> None:
    made = Decontaminate(DecontaminateParams())
    figures = made.learn(tmp_path, items(*[ITEM, ITEM.upper()] * 9))
    assert (figures["items"], figures["repeated"], figures["common_runs"]) == (1, 17, 0)


def test_writing_without_spaces_is_compared_by_its_characters(tmp_path: Path) -> None:
    chinese = "小明有四十八个夹子他在五月卖掉了其中的一半请问他一共还剩下多少个夹子呢答案是二十四个"
    thai = "นาตาเลียขายกิ๊บให้เพื่อนสี่สิบแปดคนในเดือนเมษายนและขายได้ครึ่งหนึ่งในเดือนพฤษภาคมเธอขายได้ทั้งหมดกี่อัน"
    made = ready(tmp_path, items(chinese, thai))
    assert fate(made, f"前言。{chinese[:20]}。{chinese[20:]}。") == Drop("gsm8k:0", 1.0, 0.0)
    assert isinstance(fate(made, f"{thai[:90]}"), Drop)
    assert isinstance(fate(made, chinese[:12]), Document)


def test_a_cut_takes_the_run_with_its_margin_and_leaves_the_rest(tmp_path: Path) -> None:
    made = ready(tmp_path, items(ITEM), policy="cut", margin=20)
    before, after = "Été comme hiver, " * 8, " und so weiter, ganz wie vorher" * 5
    found = fate(made, before + ITEM.upper() + after)
    assert isinstance(found, Document)
    # The item ends with a full stop, which is no part of the run.
    assert found.text == f"{before[:-20].strip()}\n\n{after[19:].strip()}"
    assert found.meta["decontaminated"] == "gsm8k:0"


def test_a_document_that_is_an_item_is_cut_to_nothing(tmp_path: Path) -> None:
    found = fate(ready(tmp_path, items(ITEM), policy="cut"), f"  {ITEM}  ")
    assert isinstance(found, Document) and found.text == ""


@given(pieces=st.lists(st.sampled_from([ITEM, PROSE, "naïve ", "x", "ﬁ\u0301 ½ "]), max_size=6), margin=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_after_a_cut_no_run_of_an_item_is_left(tmp_path_factory: pytest.TempPathFactory, pieces: list[str], margin: int) -> None:
    made = ready(tmp_path_factory.mktemp("learned"), items(ITEM), policy="cut", margin=margin)
    found = fate(made, " ".join(pieces))
    assert isinstance(found, Document)
    assert made.measure(found)["share"] == 0
    if ITEM not in pieces:
        assert found.text == " ".join(pieces)


@given(text=st.text(max_size=40))
def test_folding_leaves_small_letters_and_digits_of_each_character_by_itself(text: str) -> None:
    result = folded(text)
    assert result == b"".join(map(folded, text))
    decoded = result.decode()
    assert all(character.isalnum() for character in decoded)
    plain = text.encode("ascii", "ignore").decode()
    assert folded(plain).decode() == re.sub(r"[^a-z0-9]", "", plain.lower())
    assert folded(unicodedata.normalize("NFD", text)) == folded(unicodedata.normalize("NFC", text))


def test_documents_in_a_batch_are_searched_apart(tmp_path: Path) -> None:
    made = ready(tmp_path, items(ITEM))
    half = len(ITEM.split()) // 2
    parts = [" ".join(ITEM.split()[:12]), " ".join(ITEM.split()[12:half]), "", ITEM]
    fates = made.apply_batch([Document(str(index), text) for index, text in enumerate(parts)])
    assert [isinstance(found, Drop) for found in fates] == [False, False, False, True]


SHARED = Path(__file__).parents[3] / "../shared/data"


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_questions_of_gsm8k_are_found_in_a_book_and_the_book_has_none_by_itself(tmp_path: Path) -> None:
    import gzip

    with gzip.open(SHARED / "gsm8k/test.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][:200]
    made = ready(tmp_path, [Document(f"test/{index}", f"{row['question']} {row['answer']}", "gsm8k") for index, row in enumerate(rows)])
    book = (SHARED / "the-verdict/the-verdict.txt").read_text(encoding="utf-8")
    assert isinstance(fate(made, book), Document)
    planted = [fate(made, f"{book[:3000]}{row['question'].lower().replace(', ', ' ')}{book[3000:6000]}") for row in rows]
    assert [found.reason for found in planted if isinstance(found, Drop)] == [f"gsm8k:test/{index}" for index in range(200)]
