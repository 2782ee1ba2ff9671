"""The quality classifier: its features by counting, its fit and its figures by scikit-learn, its use by real labels."""

from __future__ import annotations

import gzip
import json
import math
import random
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.sparse import csr_matrix

from llmkit import catalog, load_spec
from llmkit.core.errors import UserError
from llmkit.core.interfaces.filter import Drop
from llmkit.core.interfaces.source import Document
from llmkit.core.kinds import Kind
from llmkit.core.problems import SpecError
from llmkit.plugins.filters.classifier import Classifier, Fit, auc, judged, learn
from llmkit.plugins.filters.hashed_ngrams import HashedNgrams
from llmkit.plugins.filters.quality import Quality
from llmkit.testing.example_parameters import validated

SHARED = Path(__file__).parents[3] / "../shared/data"
LABELS = np.arange(120) < 50


def prose(rng: random.Random, wanted: bool) -> str:
    """Text of two kinds that mostly differ in one word in ten."""
    common = ["the", "of", "a", "river", "stone", "green", "walks", "seven", "under", "bread"]
    own = ["therefore", "theorem", "because"] if wanted else ["click", "buy", "subscribe"]
    return " ".join(rng.choice(own) if rng.random() < 0.1 else rng.choice(common) for _ in range(rng.randint(10, 40)))


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(0)
    return [prose(rng, bool(wanted) if rng.random() < 0.9 else not wanted) for wanted in LABELS]


def lines(path: Path, rows: list[dict[str, Any]]) -> dict[str, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"type": "jsonl", "paths": [str(path)]}


def quality(**params: Any) -> Quality:
    component = catalog().find(Kind.filter, "quality")
    made: Quality = component.resolve()(validated(component, params, catalog()))
    return made


@given(text=st.text("ab c-é", max_size=60), characters=st.integers(0, 4), words=st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_the_vector_is_the_root_of_the_counts_of_all_ngrams_at_length_one(text: str, characters: int, words: int) -> None:
    data = text.encode()
    counts = Counter(data[start : start + n] for n in range(1, characters + 1) for start in range(len(data) - n + 1))
    cut = data.replace(b"-", b" ").split()
    counts += Counter(b" ".join(cut[start : start + n]) + b"/word" for n in range(1, words + 1) for start in range(len(cut) - n + 1))
    _, values = HashedNgrams(characters, words, 24, 1000).vector(text)
    expected = sorted(math.sqrt(count / counts.total()) for count in counts.values())
    assert sorted(values.tolist()) == pytest.approx(expected, abs=1e-6)


@given(text=st.text(max_size=200), bits=st.integers(8, 20))
@settings(max_examples=60, deadline=None)
def test_the_product_is_that_of_the_vector(text: str, bits: int) -> None:
    features = HashedNgrams(4, 2, bits, 150)
    weights = np.random.default_rng(0).normal(size=2**bits).astype(np.float32)
    values, buckets, starts = features.matrix([text])
    expected = (csr_matrix((values, buckets, starts), shape=(1, 2**bits)) @ weights)[0]
    assert features.product(text, weights) == pytest.approx(expected, abs=1e-5)


def test_only_the_first_characters_are_read() -> None:
    features = HashedNgrams(3, 1, 16, 10)
    assert features.buckets("0123456789, and so on").tolist() == features.buckets("0123456789").tolist()


def test_the_classifier_is_scikit_learns_regression_with_scikit_learns_calibration(texts: list[str]) -> None:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold

    features = HashedNgrams(4, 2, 18, 1000)
    classifier, _ = learn(features, texts, LABELS, Fit(10.0, 5, 3, 0.5, None))
    values, buckets, starts = features.matrix(texts)
    rows = csr_matrix((values, buckets, starts), shape=(len(texts), 2**18))
    regression = LogisticRegression(C=10.0, solver="liblinear", max_iter=1000, random_state=3)
    folds = StratifiedKFold(5, shuffle=True, random_state=3)
    theirs = CalibratedClassifierCV(regression, method="sigmoid", cv=folds, ensemble=False).fit(rows, LABELS).predict_proba(rows)[:, 1]
    ours = [classifier.probability(features, text) for text in texts]
    assert ours == pytest.approx(theirs.tolist(), abs=1e-3)


def test_the_figures_are_those_of_examples_that_were_held_out(texts: list[str]) -> None:
    """Random labels are learned by heart, and say nothing about an example that was not learned from."""
    chance = np.random.default_rng(0).permutation(LABELS)
    features = HashedNgrams(4, 2, 18, 1000)
    classifier, figures = learn(features, texts, chance, Fit(100.0, 5, 0, 0.5, None))
    assert abs(figures.auc - 0.5) < 3 * figures.auc_stderr
    assert figures.accuracy < figures.majority + 3 * figures.accuracy_stderr
    _, honest = learn(features, texts, LABELS, Fit(10.0, 5, 0, 0.5, None))
    assert honest.auc > 0.75 and honest.accuracy > honest.majority
    assert classifier.weights.dtype == np.float32


def test_the_figures_agree_with_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, roc_auc_score

    rng = np.random.default_rng(0)
    labels = rng.random(500) < 0.3
    probabilities = np.round(np.clip(0.3 + 0.4 * labels + rng.normal(scale=0.3, size=500), 0, 1), 2)
    figures = judged(probabilities, labels, 0.6)
    assert figures.auc == pytest.approx(roc_auc_score(labels, probabilities))
    assert figures.accuracy == pytest.approx(accuracy_score(labels, probabilities >= 0.5))
    assert figures.kept_positive == pytest.approx((probabilities[labels] >= 0.6).mean())
    assert figures.kept_negative == pytest.approx((probabilities[~labels] >= 0.6).mean())
    assert figures.majority == pytest.approx(max(labels.mean(), 1 - labels.mean()))


def test_the_standard_error_of_the_auc_is_how_much_it_varies() -> None:
    rng = np.random.default_rng(0)
    found = []
    for _ in range(300):
        labels = np.arange(150) < 60
        scores = rng.exponential(np.where(labels, 3.0, 1.0))
        found.append(asdict(judged(scores / scores.max(), labels, 0.5)))
    spread = np.std([one["auc"] for one in found])
    # Hanley and McNeil's formula is exact for scores of exponential distribution.
    assert np.mean([one["auc_stderr"] for one in found]) == pytest.approx(spread, rel=0.12)


def test_a_calibrated_probability_has_a_small_calibration_error_and_a_boast_a_large_one() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(20_000)
    labels = rng.random(20_000) < probabilities
    assert judged(probabilities, labels, 0.5).calibration_error < 0.02
    assert judged(np.round(probabilities), labels, 0.5).calibration_error == pytest.approx(0.25, abs=0.02)


@given(scores=st.lists(st.integers(0, 5), min_size=2, max_size=30), wanted=st.integers(1, 29))
def test_the_auc_is_the_part_of_pairs_in_the_right_order(scores: list[int], wanted: int) -> None:
    wanted = min(wanted, len(scores) - 1)
    labels = np.arange(len(scores)) < wanted
    pairs = [(one > two) + 0.5 * (one == two) for one in scores[:wanted] for two in scores[wanted:]]
    assert auc(np.array(scores, float), labels) == pytest.approx(np.mean(pairs))


def test_a_saved_classifier_is_the_same_and_no_pickle(tmp_path: Path, texts: list[str]) -> None:
    features = HashedNgrams(3, 1, 12, 1000)
    classifier, _ = learn(features, texts, LABELS, Fit(10.0, 5, 0, 0.5, None))
    classifier.save(tmp_path)
    again = Classifier.load(tmp_path)
    assert [again.probability(features, text) for text in texts] == [classifier.probability(features, text) for text in texts]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["classifier.json", "classifier.safetensors"]


def test_two_sources_are_learned_from_and_documents_kept_by_it(tmp_path: Path, texts: list[str]) -> None:
    sides = {
        side: lines(tmp_path / f"{side}.jsonl", [{"text": text} for text, label in zip(texts, LABELS) if label == wanted])
        for side, wanted in (("positive", True), ("negative", False))
    }
    made = quality(**sides, threshold=0.4)
    figures = made.learn(tmp_path, ())
    made.load(tmp_path)
    assert (figures["positive"], figures["negative"], figures["threshold"]) == (50, 70, 0.4)
    good, bad = Document("good", "because the theorem therefore"), Document("bad", "click the river buy bread subscribe")
    assert made.apply(good) is good
    drop = made.apply(bad)
    assert isinstance(drop, Drop) and (drop.reason, drop.limit) == ("threshold", 0.4) and drop.value == made.measure(bad)["quality"]
    assert made.limits()[0].least == 0.4


def test_labels_in_one_file_tell_the_sides_apart(tmp_path: Path, texts: list[str]) -> None:
    rows = [{"text": text, "label": int(label), "split": "a"} for text, label in zip(texts, LABELS)]
    rows += [{"text": f"left out {index}", "label": 1, "split": "b"} for index in range(9)]
    rows += [{"text": "no label"}, rows[0], {"text": " "}]
    source = {**lines(tmp_path / "both.jsonl", rows), "meta": ["label", "split"]}
    made = quality(positive=source, negative=source, positive_where={"label": 1, "split": "a"}, negative_where={"label": "0"})
    figures = made.learn(tmp_path, ())
    assert (figures["positive"], figures["negative"], figures["repeated"]) == (50, 70, 1)


def test_a_text_on_both_sides_is_wanted(tmp_path: Path, texts: list[str]) -> None:
    wanted = lines(tmp_path / "wanted.jsonl", [{"text": text} for text in texts[:50]])
    background = lines(tmp_path / "background.jsonl", [{"text": text} for text in texts])
    figures = quality(positive=wanted, negative=background).learn(tmp_path, ())
    assert (figures["positive"], figures["negative"], figures["repeated"]) == (50, 70, 50)


def test_keep_sets_the_threshold_where_so_much_of_the_background_stays(tmp_path: Path, texts: list[str]) -> None:
    wanted = lines(tmp_path / "wanted.jsonl", [{"text": text} for text in texts[:50]])
    background = lines(tmp_path / "background.jsonl", [{"text": text} for text in texts[50:]])
    made = quality(positive=wanted, negative=background, keep=0.1)
    figures = made.learn(tmp_path, ())
    made.load(tmp_path)
    assert figures["kept_negative"] == pytest.approx(0.1, abs=1 / 70)
    assert made.limits()[0].parameter == "keep" and made.limits()[0].least == figures["threshold"] != 0.5


def test_only_the_first_examples_are_taken(tmp_path: Path, texts: list[str]) -> None:
    both = lines(tmp_path / "both.jsonl", [{"text": text} for text in texts])
    other = lines(tmp_path / "other.jsonl", [{"text": f"{text} other"} for text in texts])
    figures = quality(positive=both, negative=other, examples=30).learn(tmp_path, ())
    assert (figures["positive"], figures["negative"]) == (30, 30)


def test_too_few_examples_are_refused_with_the_side_and_the_number(tmp_path: Path, texts: list[str]) -> None:
    few = {**lines(tmp_path / "few.jsonl", [{"text": text, "label": 1} for text in texts[:3]] * 4), "meta": ["label"]}
    many = lines(tmp_path / "many.jsonl", [{"text": text} for text in texts])
    with pytest.raises(UserError, match=r"positive \(jsonl\) has 3 different documents, and 5 folds need one each"):
        quality(positive=few, negative=many).learn(tmp_path, ())
    with pytest.raises(UserError, match=r"negative \(jsonl\) has 0 different documents with \{'label': 2\}"):
        quality(positive=many, negative=few, negative_where={"label": 2}).learn(tmp_path, ())


def test_pages_need_an_extractor_and_are_learned_from_with_one(tmp_path: Path, texts: list[str]) -> None:
    pages = tmp_path / "pages"
    pages.mkdir()
    for index, text in enumerate(texts[:20]):
        (pages / f"{index}.html").write_text(f"<html><body><article><p>{text * 5}</p></article></body></html>", encoding="utf-8")
    params = {
        "positive": {"type": "html", "paths": [str(pages / "*.html")]},
        "negative": lines(tmp_path / "other.jsonl", [{"text": text} for text in texts]),
    }
    with pytest.raises(UserError, match="say which `extractor`"):
        quality(**params).learn(tmp_path, ())
    assert quality(**params, extractor="resiliparse").learn(tmp_path, ())["positive"] == 20


def test_without_scikit_learn_learning_is_refused_with_what_installs_it(
    tmp_path: Path, texts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sklearn.linear_model", "sklearn.model_selection"):
        monkeypatch.setitem(sys.modules, name, None)
    sides = {side: lines(tmp_path / f"{side}.jsonl", [{"text": f"{side} {text}"} for text in texts]) for side in ("positive", "negative")}
    with pytest.raises(UserError, match=r"filter quality learns with scikit-learn.*pip install 'llmkit\[data\]'"):
        quality(**sides).learn(tmp_path, ())


def test_the_fingerprint_changes_with_the_examples(tmp_path: Path, texts: list[str]) -> None:
    sides = {side: lines(tmp_path / f"{side}.jsonl", [{"text": text} for text in texts]) for side in ("positive", "negative")}
    before = quality(**sides).fingerprint()
    lines(tmp_path / "negative.jsonl", [{"text": text} for text in texts[1:]])
    assert before != quality(**sides).fingerprint()


def test_nothing_to_look_at_is_refused() -> None:
    source = {"type": "synthetic", "task": "copying"}
    with pytest.raises((ValidationError, UserError), match="characters and words are both 0"):
        quality(positive=source, negative=source, characters=0, words=0)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data")
def test_real_labels_are_told_apart_far_better_than_by_length() -> None:
    with gzip.open(SHARED / "dclm-quality/agreement_data.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts, labels = [row["text"] for row in rows], np.array([row["label"] == 1 for row in rows])
    _, figures = learn(HashedNgrams(4, 2, 18, 50_000), texts, labels, Fit(10.0, 5, 0, 0.5, None))
    by_length = auc(np.array([len(text) for text in texts], float), labels)
    assert figures.auc - 3 * figures.auc_stderr > by_length > 0.8
    assert figures.accuracy > 0.85


def test_a_penalty_without_end_is_refused_before_anything_is_learned() -> None:
    sources = {"positive": {"type": "synthetic", "task": "copying"}, "negative": {"type": "synthetic", "task": "dyck"}}
    spec = {"name": "x", "model": {"d_model": 8, "n_layers": 1, "max_seq_len": 8}}
    with pytest.raises(SpecError, match=r"data\.filters\.good\.c\b"):
        load_spec({**spec, "data": {"source": "pydoc", "filters": {"good": {"type": "quality", "c": math.inf, **sources}}}})


def test_an_entry_of_an_example_takes_eight_bytes() -> None:
    buckets, values = HashedNgrams(4, 2, 18, 1000).vector("some text, and more of the text")
    assert (buckets.dtype.itemsize, values.dtype.itemsize) == (4, 4)
