"""A relation classifier: pairs of words → probabilities of what joins them.

    tier 1   floor     seeds, lexicon, letters          logistic regression
    tier 2   encoder   the frozen base's states         one hidden layer of 100
             both      the two side by side             the same
    tier 4   adapter   LoRA on the base, the answer a label (adapter.py)

(Tier 3, a large masked model fine-tuned, is not here: it needs weights that no package brings.) In the shared labels a pair and
its mirror are read together, so that p(hypo | a, b) = p(hyper | b, a) always.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from idiolect.errors import InputError
from idiolect.game.normalise import RELATIONS, Relation
from idiolect.relations import head as heads
from idiolect.relations.head import Floats, Head
from idiolect.relations.links import LABELS, MIRROR, Label, Link, both_ways
from idiolect.relations.readers import word_key

Words = Sequence[tuple[str, str]]
Features = Callable[[Words], NDArray[np.float32]]

Arm = Literal["floor", "encoder", "both", "adapter"]
ARMS: tuple[Arm, ...] = ("floor", "encoder", "both", "adapter")
TIERS = {"floor": "1, floor", "encoder": "2, encoder", "both": "2, encoder and floor", "adapter": "4, LoRA on the base"}

SHARED: tuple[str, ...] = LABELS
_TURNED = np.array([LABELS.index(MIRROR[label]) for label in LABELS])


@dataclass(frozen=True)
class Verdict:
    """What a pair was taken for: the likeliest label, how likely it is, and all of them."""

    label: Label
    p: float
    probabilities: dict[str, float]


class RelationModel(ABC):
    """Anything that gives probabilities for pairs. Words in key form."""

    labels: tuple[str, ...]

    @abstractmethod
    def probabilities(self, pairs: Words) -> Floats:
        """(N, L): a row for each (base, answer), a column for each label."""

    def score(self, relation: Relation, base: str, answer: str) -> float:
        """How likely the answer stands in this relation to the base word.

        Raises:
            InputError: an unknown relation, a blank word, or a model of a benchmark's own labels.
        """
        if relation not in RELATIONS:
            raise InputError(f"relation {relation!r} is not known; choose one of: {', '.join(RELATIONS)}")
        return self.classify(base, answer).probabilities[relation]

    def classify(self, base: str, answer: str) -> Verdict:
        """What joins the two words: syn, ant, hypo, mero or none; hyper or holo where hypo or mero holds the other way round.

        Raises:
            InputError: a blank word, or a model of a benchmark's own labels.
        """
        if self.labels != SHARED:
            raise InputError("this model knows a benchmark's own labels only; train one: idiolect relations train")
        words = word_key(base), word_key(answer)
        if not all(words):
            raise InputError("a word is blank; give a base word and an answer")
        (row,) = self.probabilities([words]).tolist()
        best = max(range(len(row)), key=row.__getitem__)
        return Verdict(cast(Label, self.labels[best]), row[best], dict(zip(self.labels, row, strict=True)))


def mirrored_mean(probabilities: Callable[[Words], Floats], pairs: Words) -> Floats:
    """The mean of a pair as it stands and of its mirror with the labels turned, (N, L) in the shared labels."""
    turned = probabilities([(answer, base) for base, answer in pairs])[:, _TURNED]
    return (probabilities(pairs) + turned) / 2


@dataclass(frozen=True)
class HeadModel(RelationModel):
    """Tiers 1 and 2: features and a head."""

    arm: Arm
    labels: tuple[str, ...]
    features: Features
    head: Head

    def probabilities(self, pairs: Words) -> Floats:
        if not pairs:
            return np.zeros((0, len(self.labels)))
        said = lambda words: self.head.probabilities(self.features(words))  # noqa: E731
        return mirrored_mean(said, pairs) if self.labels == SHARED else said(pairs)


def fit_head(
    arm: Arm, features: Features, train: Sequence[Link], val: Sequence[Link], labels: Sequence[str], seed: int
) -> HeadModel:
    """Train tier 1 or 2 on links, and set its temperature on others.

    Args:
        labels: SHARED, for which links are mirrored too, or a benchmark's own.

    Raises:
        EmptyHistory: links of fewer than two labels.
    """
    rows = prepared(train, labels)
    x = features([pair for pair, _, _ in rows])
    known = list(labels)
    kind = "linear" if arm == "floor" else "mlp"
    made = heads.fit(kind, x, [known.index(label) for _, label, _ in rows], len(known), [w for _, _, w in rows], seed)
    held = prepared(val, labels)
    if held:
        made = made.calibrated(features([pair for pair, _, _ in held]), [known.index(label) for _, label, _ in held])
    return HeadModel(arm, tuple(labels), features, made)


def prepared(links: Sequence[Link], labels: Sequence[str]) -> list[tuple[tuple[str, str], str, float]]:
    """(words, label, weight) of what is trained on: both ways in the shared labels, as written in a benchmark's own."""
    if tuple(labels) == SHARED:
        return [(link.words, link.label, link.weight) for link in both_ways(links)]
    return [(link.written, link.native, link.weight) for link in links]


def joined(parts: Sequence[Features]) -> Features:
    """Several kinds of features side by side."""
    return parts[0] if len(parts) == 1 else lambda pairs: np.concatenate([part(pairs) for part in parts], axis=1)
