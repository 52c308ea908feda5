"""Membership inference on an unlearned model: can somebody tell that the forget set was once trained on?

Members are the forget set, others a holdout that no model has seen. Every score is higher where an answer looks trained on:

    loss         mean log p of the answer's tokens
    zlib         the same over the bytes that zlib needs for the answer
    min_k        mean of the lowest k of the tokens' log p
    min_k++      the same of (log p - mean) / deviation, both under the model's own distribution at that place
    reference    mean log p less the retrained reference's

    PrivLeak = 100 · (A - A_retrained) / A_retrained,   A = 1 - AUC

A is MUSE's AUC: it takes the forget set for what should look unseen, so A is 0 where every member is known for one. PrivLeak is
0 where the model tells no more than one that never saw the forget set; large and negative: under-unlearned (members still look
like members); large and positive: over-unlearned (members look stranger than anything unseen, which tells them just as well).

Sources: Yeom et al. 2018, arXiv:1709.01604; Carlini et al. 2021, arXiv:2012.07805 (zlib); Shi et al. 2024, arXiv:2310.16789
(Min-K%) and arXiv:2407.06460 (MUSE); Zhang et al. 2024, arXiv:2404.02936 (Min-K%++).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from idiolect.errors import ConfigError, InputError, MismatchError
from idiolect.pieces.privacy import attack, auc
from idiolect.unlearn.measuring import TokenScores

AttackName = Literal["loss", "zlib", "min_k", "min_k++", "reference"]
ATTACKS: tuple[AttackName, ...] = get_args(AttackName)

_FEW = 5
"""With fewer groups than this on a side, intervals resample pairs: so few groups give no interval."""
_FLAT = 1e-6
"""A distribution narrower than this is one token's: Min-K%++ divides by no less."""


@dataclass(frozen=True)
class Leak:
    """What one attack finds.

    Attributes:
        auc: of the forget set against the holdout; `low`, `high`: 95 % over groups of pairs.
        privleak: against the retrained reference; None where that one itself tells all members from others, and there is
            nothing to compare with. `privleak_low`, `privleak_high`: of the AUC's interval, the reference's AUC as it is.
    """

    auc: float
    low: float
    high: float
    privleak: float | None
    privleak_low: float | None
    privleak_high: float | None


def member_scores(
    scores: Sequence[TokenScores], answers: Sequence[str], reference: Sequence[TokenScores] | None, k: float
) -> dict[AttackName, np.ndarray]:
    """Every attack's score of every answer, (n,).

    Args:
        answers: the texts, for zlib.
        reference: the retrained reference's scores of the same answers.
        k: share of the tokens that Min-K% looks at.

    Raises:
        ConfigError: no reference.
        MismatchError: not the same answers.
    """
    if reference is None:
        raise ConfigError("membership inference needs a retrained reference's scores; there is no default for them")
    if not len(scores) == len(answers) == len(reference):
        raise MismatchError(
            f"{len(scores)} scores, {len(answers)} answers and {len(reference)} of the reference are not of the same pairs"
        )
    mean = np.array([s.log_p.mean() for s in scores])
    size = np.array([len(zlib.compress(text.encode("utf-8", "replace"))) for text in answers])
    whitened = [(s.log_p - s.mean) / np.maximum(s.deviation, _FLAT) for s in scores]
    return {
        "loss": mean,
        "zlib": mean / size,
        "min_k": np.array([lowest(s.log_p, k) for s in scores]),
        "min_k++": np.array([lowest(values, k) for values in whitened]),
        "reference": mean - np.array([s.log_p.mean() for s in reference]),
    }


def lowest(values: np.ndarray, k: float) -> float:
    """Mean of the lowest k of the values, at least one."""
    n = max(1, int(k * len(values)))
    return float(np.partition(values, n - 1)[:n].mean())


def privleak(auc_unlearned: float, auc_retrained: float | None) -> float | None:
    """100 · (A - A_retrained) / A_retrained with A = 1 - AUC, both AUCs of members against others.

    None where A_retrained is 0.

    Raises:
        ConfigError: no reference.
    """
    if auc_retrained is None:
        raise ConfigError("PrivLeak needs a retrained reference's AUC; train one without the forget set")
    return None if auc_retrained >= 1 else 100 * (auc_retrained - auc_unlearned) / (1 - auc_retrained)


def leaks(
    mine: Mapping[AttackName, np.ndarray],
    retrained: Mapping[AttackName, np.ndarray],
    member: np.ndarray,
    group: np.ndarray,
    seed: int = 0,
    n_resamples: int = 1000,
) -> dict[AttackName, Leak]:
    """Every attack on one model, beside the retrained reference.

    Args:
        member: (n,) bool; group: which pairs belong together, (n,).
    """
    units = _units(member, group)
    found: dict[AttackName, Leak] = {}
    for name in ATTACKS:
        seen = attack(mine[name], member, units, seed, n_resamples)
        reference = auc(retrained[name], member)
        # The higher the AUC, the lower PrivLeak.
        leak, low, high = (privleak(value, reference) for value in (seen.auc, seen.high, seen.low))
        found[name] = Leak(seen.auc, seen.low, seen.high, leak, low, high)
    return found


def check_reference(scores: Mapping[AttackName, np.ndarray], member: np.ndarray, name: AttackName) -> None:
    """Refuse sets that the retrained reference itself can tell apart, which no PrivLeak can be taken of.

    Raises:
        InputError: it tells every member from every other.
    """
    if auc(scores[name], member) >= 1:
        raise InputError(
            f"the retrained reference, which saw neither, tells the forget set from the holdout every time ({name}): PrivLeak "
            "has no meaning between sets that differ in kind; choose a holdout like the forget set"
        )


def _units(member: np.ndarray, group: np.ndarray) -> np.ndarray:
    """What is resampled: groups, or single pairs where a side has only a few groups. (n,) labels."""
    few = min(len(np.unique(group[kind])) for kind in (member, ~member)) < _FEW
    return np.arange(len(group)) if few else np.unique(group, return_inverse=True)[1]
