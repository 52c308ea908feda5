"""From features to probabilities: standardise, then a linear layer or one hidden layer, then a temperature.

Trained by scikit-learn, kept and applied as plain arrays: nothing pickled, and no scikit-learn needed to answer.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from idiolect.errors import DependencyMissing, EmptyHistory, FileFormatError

Kind = Literal["linear", "mlp"]
Floats = NDArray[np.float64]
Arrays = Mapping[str, NDArray[np.float32]]

HIDDEN = 100
_ABSENT = -30.0
"""Logit of a label that training never saw."""


@dataclass(frozen=True)
class Head:
    """Weights (F, H), (H, L), or (F, L) alone; `mean` and `scale` of the features, (F,)."""

    mean: NDArray[np.float32]
    scale: NDArray[np.float32]
    weights: tuple[NDArray[np.float32], ...]
    biases: tuple[NDArray[np.float32], ...]
    temperature: float = 1.0

    def logits(self, features: NDArray[np.float32]) -> Floats:
        """(N, L), before the temperature."""
        x = (features - self.mean) / self.scale
        for i, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = (np.maximum(x, 0) if i else x) @ w + b
        return x.astype(np.float64)

    def probabilities(self, features: NDArray[np.float32]) -> Floats:
        """(N, L)."""
        return softmax(self.logits(features) / self.temperature)

    def calibrated(self, features: NDArray[np.float32], labels: Sequence[int]) -> Head:
        """The same with the temperature that makes these labels likeliest; unchanged where there are none."""
        return replace(self, temperature=temperature_of(self.logits(features), labels)) if len(labels) else self

    def arrays(self) -> Arrays:
        """By name, as a file keeps them."""
        layers = {f"weight.{i}": w for i, w in enumerate(self.weights)} | {f"bias.{i}": b for i, b in enumerate(self.biases)}
        return {"mean": self.mean, "scale": self.scale, **layers}

    @classmethod
    def of_arrays(cls, arrays: Arrays, temperature: float) -> Head:
        """The inverse of `arrays`.

        Raises:
            FileFormatError: an array is missing, or sizes disagree.
        """
        try:
            n = sum(name.startswith("weight.") for name in arrays)
            weights = tuple(arrays[f"weight.{i}"] for i in range(n))
            made = cls(arrays["mean"], arrays["scale"], weights, tuple(arrays[f"bias.{i}"] for i in range(n)), temperature)
            made.logits(np.zeros((1, len(made.mean)), dtype=np.float32))
        except (KeyError, ValueError):
            raise FileFormatError("the model's arrays are not whole or do not fit each other; train it again") from None
        return made


def softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def fit(
    kind: Kind, features: NDArray[np.float32], labels: Sequence[int], n_labels: int, weights: Sequence[float], seed: int
) -> Head:
    """Train a head.

    Args:
        labels: index of each row's label, (N,).
        weights: what each row counts, (N,).

    Raises:
        EmptyHistory: fewer than two labels occur.
        DependencyMissing: scikit-learn is not installed.
    """
    if len(set(labels)) < 2:
        raise EmptyHistory("a relation classifier needs pairs of at least two labels to learn from; give more data")
    mean = features.mean(0)
    scale = features.std(0)
    scale[scale < 1e-6] = 1.0  # a feature that is always the same
    found = _fitted(kind, (features - mean) / scale, np.asarray(labels), np.asarray(weights), seed)
    layers = list(zip(*_layers(found), strict=True))
    layers[-1] = _spread(*layers[-1], found.classes_.tolist(), n_labels)
    weights_of, biases_of = (tuple(part.astype(np.float32) for part in side) for side in zip(*layers, strict=True))
    return Head(mean, scale, weights_of, biases_of)


def _fitted(kind: Kind, x: NDArray[Any], y: NDArray[Any], weights: NDArray[Any], seed: int) -> Any:
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.neural_network import MLPClassifier
    except ImportError:
        raise DependencyMissing("this needs scikit-learn; install it: pip install 'idiolect[local]'") from None
    model: Any = LogisticRegression(C=0.1, max_iter=300, random_state=seed)
    if kind == "mlp":
        # Held-out rows stop it where there are enough to tell, of every label.
        stop = len(y) >= 500 and min(np.unique(y, return_counts=True)[1]) > 1
        model = MLPClassifier(
            (HIDDEN,), alpha=1.0, early_stopping=stop, n_iter_no_change=4, max_iter=40, random_state=seed,
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of rounds is a bound, and reaching it no fault
        return model.fit(x, y, sample_weight=weights)


def _layers(found: Any) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Weights and biases of what scikit-learn fitted."""
    if hasattr(found, "coefs_"):
        return list(found.coefs_), list(found.intercepts_)
    return [found.coef_.T], [found.intercept_]


def _spread(
    weight: NDArray[Any], bias: NDArray[Any], classes: Sequence[int], n_labels: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The last layer with a column for every label; two classes share one column, whose logit is the second's."""
    if weight.shape[1] == 1:
        weight, bias = np.concatenate([np.zeros_like(weight), weight], 1), np.concatenate([np.zeros_like(bias), bias])
    wide, biases = np.zeros((len(weight), n_labels)), np.full(n_labels, _ABSENT)
    wide[:, classes], biases[classes] = weight, bias
    return wide, biases


def temperature_of(logits: Floats, labels: Sequence[int]) -> float:
    """The temperature under which the labels are likeliest, between 0.05 and 20. Source: Guo et al. 2017, arXiv:1706.04599."""
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(logits))

    def cost(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        top = scaled.max(-1)
        return float((top + np.log(np.exp(scaled - top[:, None]).sum(-1)) - scaled[rows, np.asarray(labels)]).mean())

    found: Any = minimize_scalar(cost, bounds=(-3.0, 3.0), method="bounded")
    return float(np.exp(found.x))
