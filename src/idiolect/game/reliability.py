"""How reliable judges are, by their votes alone (Dawid and Skene 1979, two classes)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_VOTES = 2000
"""Votes from which it is worth computing."""
MIN_OF_JUDGE, UNRELIABLE = 50, 0.6
"""A judge with so many votes whose balanced accuracy is below this is shown to moderators."""
_SMOOTHING = 1.0
_MAX_STEPS, _TOLERANCE = 200, 1e-8


@dataclass(frozen=True)
class Reliabilities:
    """What the model makes of votes.

    Attributes:
        p_true: per item, that it holds.
        sensitivity, specificity: per judge, of saying yes to what holds, and no to what does not.
        prior: share of items that hold.
    """

    p_true: np.ndarray
    sensitivity: np.ndarray
    specificity: np.ndarray
    prior: float


def dawid_skene(items: Sequence[int], judges: Sequence[int], said_yes: Sequence[bool]) -> Reliabilities:
    """Judges' reliabilities and items' truth, by expectation maximisation.

    It starts from the share of yes per item; each judge has one imaginary right and wrong vote of each kind.

    Args:
        items, judges: of each vote, counted from 0 without gaps; at least one vote.
    """
    i, j, yes = np.asarray(items), np.asarray(judges), np.asarray(said_yes, dtype=float)
    n_items = int(i.max()) + 1
    p = (np.bincount(i, yes, n_items) + 0.5) / (np.bincount(i, minlength=n_items) + 1.0)
    fitted = _fitted(i, j, yes, p)
    for _ in range(_MAX_STEPS):
        before = p
        p = _expected(i, j, yes, fitted)
        fitted = _fitted(i, j, yes, p)
        if float(np.abs(p - before).max()) < _TOLERANCE:
            break
    return fitted


def _fitted(i: np.ndarray, j: np.ndarray, yes: np.ndarray, p: np.ndarray) -> Reliabilities:
    """The judges that make the votes likeliest, given how likely each item is to hold."""
    n = int(j.max()) + 1
    holds = p[i]
    sensitivity = (np.bincount(j, holds * yes, n) + _SMOOTHING) / (np.bincount(j, holds, n) + 2 * _SMOOTHING)
    specificity = (np.bincount(j, (1 - holds) * (1 - yes), n) + _SMOOTHING) / (np.bincount(j, 1 - holds, n) + 2 * _SMOOTHING)
    return Reliabilities(p, sensitivity, specificity, float((p.sum() + 1) / (len(p) + 2)))


def _expected(i: np.ndarray, j: np.ndarray, yes: np.ndarray, known: Reliabilities) -> np.ndarray:
    """How likely each item is to hold, given the judges."""
    if_true = np.where(yes == 1, known.sensitivity[j], 1 - known.sensitivity[j])
    if_false = np.where(yes == 1, 1 - known.specificity[j], known.specificity[j])
    prior = math.log(known.prior / (1 - known.prior))
    logit = prior + np.bincount(i, np.log(if_true / if_false), len(known.p_true))
    return 0.5 * (1 + np.tanh(logit / 2))


@dataclass(frozen=True)
class Judge:
    """A player by all their votes: how often they say yes to what holds, and no to what does not."""

    player: int
    n_votes: int
    sensitivity: float
    specificity: float

    @property
    def balanced(self) -> float:
        """0.5 is a coin."""
        return (self.sensitivity + self.specificity) / 2


def unreliable(votes: Sequence[tuple[int, int, str, str]]) -> list[Judge]:
    """Judges with enough votes that look like chance, the least reliable first.

    Args:
        votes: (player, base word, answer, yes or no); at least one.
    """
    players = {player: place for place, player in enumerate(sorted({player for player, *_ in votes}))}
    pairs = {pair: place for place, pair in enumerate(sorted({(prompt, key) for _, prompt, key, _ in votes}))}
    judges = [players[player] for player, *_ in votes]
    known = dawid_skene([pairs[prompt, key] for _, prompt, key, _ in votes], judges, [said == "yes" for *_, said in votes])
    counts = np.bincount(judges)
    rated = [
        Judge(player, int(counts[place]), float(known.sensitivity[place]), float(known.specificity[place]))
        for player, place in players.items()
    ]
    poor = [judge for judge in rated if judge.n_votes >= MIN_OF_JUDGE and judge.balanced < UNRELIABLE]
    return sorted(poor, key=lambda judge: (judge.balanced, judge.player))
