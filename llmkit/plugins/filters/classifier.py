"""Logistic regression on hashed n-grams: fitted, calibrated and judged on examples that were held out, and saved without a pickle."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from llmkit.core.errors import UserError
from llmkit.plugins.filters.hashed_ngrams import HashedNgrams

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]

WEIGHTS = "classifier.safetensors"
REST = "classifier.json"


@dataclass(frozen=True)
class Classifier:
    """p = 1 / (1 + exp(-(slope (weights . x + bias) + offset))).

    weights    (2^bits,) of the logistic regression
    threshold  the probability from which on a text counts as wanted
    """

    weights: NDArray[np.float32]
    bias: float
    slope: float
    offset: float
    threshold: float

    def probability(self, features: HashedNgrams, text: str) -> float:
        """That a text is wanted."""
        return _logistic(self.slope * (features.product(text, self.weights) + self.bias) + self.offset)

    def save(self, directory: Path) -> None:
        """Write the weights and the few numbers beside them into an existing directory."""
        save_file({"weights": self.weights}, directory / WEIGHTS)
        rest = {name: value for name, value in asdict(self).items() if name != "weights"}
        (directory / REST).write_text(json.dumps(rest), encoding="utf-8")

    @classmethod
    def load(cls, directory: Path) -> Classifier:
        """What `save` wrote."""
        rest = json.loads((directory / REST).read_text(encoding="utf-8"))
        return cls(weights=load_file(directory / WEIGHTS)["weights"], **rest)


@dataclass(frozen=True)
class HeldOut:
    """How good it is on examples that it has not learned from, each held out once.

    accuracy           part of them that are on the right side of probability one half
    accuracy_stderr    sqrt(a (1 - a) / n)
    majority           the accuracy of who always says what is more frequent
    auc                how often a wanted example has a higher probability than an unwanted one
    auc_stderr         by Hanley and McNeil (Radiology 143, 1982)
    calibration_error  mean distance of probability and frequency, over ten bins of as many examples each
    kept_positive      part of the wanted ones at or above the threshold
    kept_negative      part of the unwanted ones at or above it
    """

    accuracy: float
    accuracy_stderr: float
    majority: float
    auc: float
    auc_stderr: float
    calibration_error: float
    threshold: float
    kept_positive: float
    kept_negative: float


class Fit(NamedTuple):
    """What is fixed before anything is learned: see the parameters of `quality`."""

    c: float
    folds: int
    seed: int
    threshold: float
    keep: float | None


def learn(features: HashedNgrams, texts: Sequence[str], labels: Labels, fit: Fit) -> tuple[Classifier, HeldOut]:
    """A classifier of all examples, and how good such a one is on those that it has not seen.

    The examples are cut into folds with as many of each label. A regression on all folds but one scores that one; Platt's
    calibration, fitted on the scores of the other folds, makes probabilities of them, and all figures are of these. What is kept is the
    regression on all examples with the calibration of all held-out scores.

    texts   (n,), no two alike, or the same text is learned from and held out
    labels  (n,) whether each is wanted
    """
    regression, folds = _scikit_learn(fit)
    values, buckets, starts = features.matrix(texts)
    from scipy.sparse import csr_matrix

    rows = csr_matrix((values, buckets, starts), shape=(len(texts), 2**features.bits))
    scores, probabilities = np.zeros(len(texts)), np.zeros(len(texts))
    parts = [part for _, part in folds.split(rows, labels)]
    for part in parts:
        rest = np.setdiff1d(np.arange(len(texts)), part)
        scores[part] = regression.fit(rows[rest], labels[rest]).decision_function(rows[part])
    for part in parts:
        rest = np.setdiff1d(np.arange(len(texts)), part)
        slope, offset = _platt(scores[rest], labels[rest])
        probabilities[part] = _logistics(slope * scores[part] + offset)
    threshold = fit.threshold if fit.keep is None else float(np.quantile(probabilities[~labels], 1 - fit.keep))
    regression.fit(rows, labels)
    slope, offset = _platt(scores, labels)
    weights = regression.coef_[0].astype(np.float32)
    return Classifier(weights, float(regression.intercept_[0]), slope, offset, threshold), judged(probabilities, labels, threshold)


def judged(probabilities: Floats, labels: Labels, threshold: float) -> HeldOut:
    """The figures of probabilities against labels."""
    n, wanted = len(labels), float(labels.mean())
    accuracy = float(np.mean((probabilities >= 0.5) == labels))
    area = auc(probabilities, labels)
    kept = probabilities >= threshold
    return HeldOut(
        accuracy=accuracy,
        accuracy_stderr=math.sqrt(accuracy * (1 - accuracy) / n),
        majority=max(wanted, 1 - wanted),
        auc=area,
        auc_stderr=_auc_stderr(area, int(labels.sum()), int((~labels).sum())),
        calibration_error=_calibration_error(probabilities, labels),
        threshold=threshold,
        kept_positive=float(kept[labels].mean()),
        kept_negative=float(kept[~labels].mean()),
    )


def auc(scores: Floats, labels: Labels) -> float:
    """The area under the ROC curve: the part of all pairs in which the wanted one has the higher score, ties counted half."""
    from scipy.stats import rankdata

    wanted, others = int(labels.sum()), int((~labels).sum())
    return float((rankdata(scores)[labels].sum() - wanted * (wanted + 1) / 2) / (wanted * others))


def _auc_stderr(area: float, wanted: int, others: int) -> float:
    both, either = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (wanted - 1) * (both - area**2) + (others - 1) * (either - area**2)
    return math.sqrt(max(variance, 0.0) / (wanted * others))


def _calibration_error(probabilities: Floats, labels: Labels) -> float:
    bins = np.array_split(np.argsort(probabilities, kind="stable"), 10)
    return float(sum(abs(probabilities[part].sum() - labels[part].sum()) for part in bins if len(part)) / len(labels))


def _platt(scores: Floats, labels: Labels) -> tuple[float, float]:
    """Slope and offset that make probabilities of scores, with Platt's targets (1999), which are finite where the sides do not overlap."""
    from sklearn.linear_model import LogisticRegression

    wanted, others = int(labels.sum()), int((~labels).sum())
    target = np.where(labels, (wanted + 1) / (wanted + 2), 1 / (others + 2))
    twice = np.concatenate([scores, scores])[:, None]
    sides = np.repeat([True, False], len(scores))
    fitted = LogisticRegression(C=1e6).fit(twice, sides, sample_weight=np.concatenate([target, 1 - target]))
    return float(fitted.coef_[0, 0]), float(fitted.intercept_[0])


def _scikit_learn(fit: Fit) -> tuple[Any, Any]:
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold
    except ImportError as error:
        raise UserError(
            f"filter quality learns with scikit-learn, which cannot be imported ({error}); pip install 'llmkit[data]'"
        ) from None
    regression = LogisticRegression(C=fit.c, solver="liblinear", max_iter=1000, random_state=fit.seed)
    return regression, StratifiedKFold(fit.folds, shuffle=True, random_state=fit.seed)


def _logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0


def _logistics(values: Floats) -> Floats:
    return np.array([_logistic(value) for value in values])
