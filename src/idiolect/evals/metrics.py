"""LaMP's metrics: accuracy and macro-F1, MAE and RMSE, ROUGE-1 and ROUGE-L; and for lists of answers recall and Jaccard.

All queries are pooled (micro over people). The first metric of a kind is its primary one: the one that is kept per query,
and that arms are compared on.

Source: the evaluation code of LaMP (Salemi et al. 2023, arXiv:2304.11406), with three of its traps closed: golds are
checked first (an invalid gold would match every invalid prediction), numbers that are not finite count as invalid, and
ROUGE is the plain mean, not a bootstrap's middle value that changes with the order of a set.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np

from idiolect.errors import DependencyMissing, InputError, LabelError, MismatchError
from idiolect.types import canonical_json

Kind = Literal["label", "rating", "text", "list"]

LOWEST, HIGHEST = 1.0, 5.0
"""The ends of the rating scale."""

METRICS: Mapping[Kind, tuple[str, ...]] = {
    "label": ("accuracy", "f1"),
    "rating": ("mae", "rmse"),
    "text": ("rouge1", "rougeL"),
    "list": ("recall@5", "jaccard"),
}

RECALLED = 5
"""Answers of a list that are looked at for recall: its first ones."""

LOWER_IS_BETTER = frozenset({"mae", "rmse"})


@dataclass(frozen=True, slots=True)
class Scores:
    """What one arm's answers are worth.

    Attributes:
        metrics: every metric of the kind, primary first: shares in [0, 1]; for ratings, points of the scale.
        per_query: the primary metric of each query, in the order of sorted ids.
        invalid_share: share of answers that are no label, no number, or (text) blank.
        n: queries.
    """

    metrics: dict[str, float]
    per_query: dict[str, float]
    invalid_share: float
    n: int


def query_key(user_id: str, query_id: str) -> str:
    """One name for a query of a person: ids of queries need only be unique within a person (two people rate one film)."""
    return canonical_json([user_id, query_id])


def primary_metric(kind: Kind) -> tuple[str, bool]:
    """(name, whether higher is better) of the metric that arms of this kind of task are compared on."""
    name = METRICS[_known(kind)][0]
    return name, name not in LOWER_IS_BETTER


def score(kind: Kind, golds: Mapping[str, str], predictions: Mapping[str, str], labels: Sequence[str] = ()) -> Scores:
    """Every metric of `kind` over all queries.

    * label: both sides stripped, then an exact, case-sensitive match to `labels`. F1 is the macro mean over all of
      `labels`: an absent class counts 0, and an invalid answer only costs recall.
    * rating: stripped, then read as a number. An invalid or non-finite answer is replaced by the end of the scale that
      is farthest from the gold (above 3: 1.0, else 5.0). A finite number is NOT clipped to the scale, as in LaMP:
      "7" for a gold 5 is an error of 2, so that figures stay comparable; a model that answers off the scale pays for it.
    * list: both sides are split at commas; blanks, repetitions and case do not count. See `recall_at` and `jaccard`.
    * text: ROUGE-1 and ROUGE-L F-measure without stemming, one reference. The scorer sees only a-z and 0-9.

    Args:
        golds, predictions: text by query id; the ids must be the same set.
        labels: the task's label set, for kind "label"; unused otherwise.

    Raises:
        InputError: if there are no queries.
        LabelError: if a gold is not one of the labels, not on the scale, or blank.
        MismatchError: if golds and predictions are not of the same queries.
    """
    check_golds(kind, golds.values(), labels)
    _same_queries(golds, predictions)
    ids = sorted(golds)
    pairs = [(golds[i].strip(), predictions[i].strip()) for i in ids]
    metrics, values, n_invalid = _SCORERS[kind](pairs, [label.strip() for label in labels])
    return Scores(metrics, dict(zip(ids, values, strict=True)), n_invalid / len(ids), len(ids))


def averaged(runs: Sequence[Scores]) -> Scores:
    """The mean of several runs over the same queries."""
    if len(runs) == 1:
        return runs[0]
    metrics = {name: float(np.mean([run.metrics[name] for run in runs])) for name in runs[0].metrics}
    values = {key: float(np.mean([run.per_query[key] for run in runs])) for key in runs[0].per_query}
    return Scores(metrics, values, float(np.mean([run.invalid_share for run in runs])), runs[0].n)


def check_golds(kind: Kind, golds: Iterable[str], labels: Sequence[str] = ()) -> None:
    """Refuse golds that no answer could be right for: worth doing before training, not only after.

    Raises:
        InputError: if there are none.
        LabelError: if one is not a label, not a number on the scale, or blank.
    """
    gold_list = [gold.strip() for gold in golds]
    valid = _gold_test(_known(kind), labels)
    bad = [index for index, gold in enumerate(gold_list) if not valid(gold)]
    if not gold_list:
        raise InputError("there are no queries to score; give people who have queries with golds")
    if bad:
        wanted = {
            "label": "one of the task's labels",
            "rating": f"a number from {LOWEST:g} to {HIGHEST:g}",
            "text": "text",
            "list": "a list",
        }
        raise LabelError(
            f"{len(bad)} of {len(gold_list)} golds are not {wanted[kind]} (first: query number {bad[0] + 1}); mend the data"
        )


def _gold_test(kind: Kind, labels: Sequence[str]) -> Callable[[str], bool]:
    if kind == "rating":
        return lambda gold: (value := _number(gold)) is not None and LOWEST <= value <= HIGHEST
    if kind == "text":
        return bool
    if kind == "list":
        return lambda gold: bool(listed(gold))
    known = {label.strip() for label in labels}
    if len(known) != len(labels) or not known:
        raise LabelError(f"a label task needs a list of distinct labels, not {list(labels)!r}")
    return known.__contains__


def _same_queries(golds: Mapping[str, str], predictions: Mapping[str, str]) -> None:
    missing, extra = len(golds.keys() - predictions.keys()), len(predictions.keys() - golds.keys())
    if missing or extra:
        raise MismatchError(
            f"predictions and golds are not of the same queries: {missing} of {len(golds)} have no prediction, "
            f"{extra} predictions have no gold; score an arm only when it has answered every query"
        )


def _known(kind: Kind) -> Kind:
    if kind not in METRICS:
        raise InputError(f"kind {kind!r} is not known; choose one of: {', '.join(METRICS)}")
    return kind


_Pairs = Sequence[tuple[str, str]]
_Scored = tuple[dict[str, float], list[float], int]


def _score_labels(pairs: _Pairs, labels: Sequence[str]) -> _Scored:
    index = {label: i for i, label in enumerate(labels)}
    gold = np.array([index[g] for g, _ in pairs])
    found = np.array([index.get(p, -1) for _, p in pairs])
    hits = (gold == found).astype(float)
    metrics = {"accuracy": float(hits.mean()), "f1": macro_f1(gold, found, len(labels))}
    return metrics, hits.tolist(), int((found < 0).sum())


def macro_f1(gold: np.ndarray, found: np.ndarray, n_classes: int) -> float:
    """Mean over ALL classes of 2·tp / (golds + predictions); 0 for a class that occurs in neither.

    Args:
        gold: class of each query, (N,), int in [0, n_classes).
        found: predicted class, (N,), int; -1 for an invalid answer, which is a prediction of no class.
    """
    hits = np.bincount(gold[gold == found], minlength=n_classes)
    total = np.bincount(gold, minlength=n_classes) + np.bincount(found[found >= 0], minlength=n_classes)
    return float(np.mean(2 * hits / np.maximum(total, 1)))


def _score_ratings(pairs: _Pairs, _labels: Sequence[str]) -> _Scored:
    gold = np.array([float(g) for g, _ in pairs])
    read = [_number(p) for _, p in pairs]
    found = np.array([_farthest_end(g) if value is None else value for g, value in zip(gold, read, strict=True)])
    errors = np.abs(found - gold)
    metrics = {"mae": float(errors.mean()), "rmse": _root_mean_square(errors)}
    return metrics, errors.tolist(), sum(value is None for value in read)


def _farthest_end(gold: float) -> float:
    return LOWEST if gold > 3 else HIGHEST


def _root_mean_square(errors: np.ndarray) -> float:
    """Scaled by the largest error, since an answer of 1e200 is a finite number whose square is not."""
    largest = float(errors.max())
    return largest * float(np.sqrt(np.mean((errors / largest) ** 2))) if largest else 0.0


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _score_texts(pairs: _Pairs, _labels: Sequence[str]) -> _Scored:
    scorer = _rouge_scorer()
    rouges = [scorer.score(gold, answer) for gold, answer in pairs]
    values = {name: [float(rouge[name].fmeasure) for rouge in rouges] for name in METRICS["text"]}
    metrics = {name: float(np.mean(column)) for name, column in values.items()}
    return metrics, values["rouge1"], sum(not answer for _, answer in pairs)


@cache
def _rouge_scorer() -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer  # loads nltk: a second that label tasks need not pay
    except ImportError:
        raise DependencyMissing("ROUGE needs the rouge-score library: pip install 'idiolect[local]'") from None
    return RougeScorer(list(METRICS["text"]), use_stemmer=False)


def listed(text: str) -> tuple[str, ...]:
    """The answers of a list with commas between them, each once, in order: "Wheel, seat,, wheel" → (wheel, seat)."""
    return tuple(dict.fromkeys(one for part in text.split(",") if (one := " ".join(part.split()).casefold())))


def recall_at(k: int, gold: Sequence[str], found: Sequence[str]) -> float:
    """Share of the true answers that are among the first k found, of as many as could be: |G ∩ F[:k]| / min(k, |G|)."""
    return len(set(gold) & set(found[:k])) / min(k, len(set(gold)))


def jaccard(one: Iterable[str], other: Iterable[str]) -> float:
    """|A ∩ B| / |A ∪ B|; 1 for two empty sets."""
    a, b = set(one), set(other)
    return len(a & b) / len(a | b) if a | b else 1.0


def _score_lists(pairs: _Pairs, _labels: Sequence[str]) -> _Scored:
    read = [(listed(gold), listed(answer)) for gold, answer in pairs]
    recalls = [recall_at(RECALLED, gold, found) for gold, found in read]
    likeness = [jaccard(gold, found) for gold, found in read]
    metrics = {"recall@5": float(np.mean(recalls)), "jaccard": float(np.mean(likeness))}
    return metrics, recalls, sum(not found for _, found in read)


_SCORERS: Mapping[Kind, Callable[[_Pairs, Sequence[str]], _Scored]] = {
    "label": _score_labels,
    "rating": _score_ratings,
    "text": _score_texts,
    "list": _score_lists,
}
