"""What predictions are worth: F1 as published and by label, direction, and whether probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from idiolect.errors import InputError
from idiolect.relations.links import MIRROR, Link

Floats = NDArray[np.float64]

N_BINS = 15


def figures(golds: Sequence[str], probabilities: Floats, labels: Sequence[str], n_bins: int = N_BINS) -> dict[str, Any]:
    """Every figure of one set of predictions.

    * weighted_f1: mean of the labels' F1 by how often each is true, as scikit-learn and the published tables have it;
      accuracy beside it.
    * macro_f1: plain mean over the labels that are true somewhere; `macro_f1_real`: the same without "none".
    * ece: see `calibration_error`.

    Args:
        probabilities: (N, L), a row for each gold, a column for each label.

    Raises:
        InputError: nothing to score.
    """
    if not golds:
        raise InputError("there are no pairs to score; the split left none, or the files hold none")
    true = np.array([labels.index(gold) for gold in golds])
    said = probabilities.argmax(1)
    scores = f1_by_label(true, said, len(labels))
    counts = np.bincount(true, minlength=len(labels))
    present = [i for i in range(len(labels)) if counts[i]]
    real = [i for i in present if labels[i] != "none"]
    return {
        "n": len(golds),
        "accuracy": float((true == said).mean()),
        "weighted_f1": float((scores * counts).sum() / counts.sum()),
        "macro_f1": float(scores[present].mean()),
        "macro_f1_real": float(scores[real].mean()) if real else 0.0,
        "f1": {labels[i]: float(scores[i]) for i in present},
        "n_by_label": {labels[i]: int(counts[i]) for i in present},
        "ece": calibration_error(true, probabilities, n_bins),
    }


def f1_by_label(true: NDArray[np.int64], said: NDArray[np.int64], n_labels: int, weights: Floats | None = None) -> Floats:
    """F1 of every label, (L,); 0 where a label is neither true nor said.

    Args:
        weights: how often each prediction counts, (N,); None: once.
    """
    right = np.bincount(true, weights=(true == said) * (1.0 if weights is None else weights), minlength=n_labels)
    total = np.bincount(true, weights=weights, minlength=n_labels) + np.bincount(said, weights=weights, minlength=n_labels)
    return np.divide(2 * right, total, out=np.zeros(n_labels), where=total > 0)


def calibration_error(true: NDArray[np.int64], probabilities: Floats, n_bins: int = N_BINS) -> float:
    """Expected calibration error: mean distance of confidence and accuracy over bins of equal width, by how many fall in.

    Source: Guo et al. 2017, "On calibration of modern neural networks", arXiv:1706.04599, equation 3.
    """
    confidence, right = probabilities.max(1), probabilities.argmax(1) == true
    bins = np.minimum((confidence * n_bins).astype(int), n_bins - 1)
    gaps = np.bincount(bins, weights=right - confidence, minlength=n_bins)
    return float(np.abs(gaps).sum() / len(true))


def direction_accuracy(links: Sequence[Link], probabilities: Floats, labels: Sequence[str]) -> dict[str, Any]:
    """Of pairs that have a direction: how often the true one is likelier than the same relation the other way round.

    Whether the relation itself is recognised does not matter; chance is 0.5, and equal probabilities count half.
    """
    values = [
        np.sign(row[labels.index(link.label)] - row[labels.index(MIRROR[link.label])]) / 2 + 0.5
        for link, row in zip(links, probabilities, strict=True)
        if MIRROR[link.label] != link.label
    ]
    return {"n": len(values), "accuracy": float(np.mean(values)) if values else None}
