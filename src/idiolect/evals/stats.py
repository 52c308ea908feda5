"""Is one arm better than another? Paired tests per query and per person, and an interval that resamples people.

Queries of one person are not independent: an adapter that suits a person suits many of their queries at once. So the
test over queries answers "is this difference chance, for these very people?", the test over people and the interval answer
"would other people see it too?". Both are reported, always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from idiolect.errors import InputError, MismatchError

N_RESAMPLES = 9_999
_BATCH_NUMBERS = 2_000_000
"""Numbers drawn at a time, 16 MB: with 5,000 queries all resamples at once would take 400 MB."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Arm a against arm b on the same queries, in the metric's own units.

    Attributes:
        delta: mean over queries of a - b. Positive is better where higher is better, worse otherwise.
        p_query: two-sided p of the sign-flip test over queries.
        p_person: the same over people's mean differences, each person counting once.
        ci_low, ci_high: 95 % bootstrap interval of delta over people; None with fewer than two people.
        higher_is_better: the direction of the metric.
    """

    delta: float
    p_query: float
    p_person: float
    n_queries: int
    n_people: int
    ci_low: float | None
    ci_high: float | None
    higher_is_better: bool = True

    @property
    def better(self) -> bool:
        """Whether a's mean is the better one."""
        return self.delta > 0 if self.higher_is_better else self.delta < 0


def compare(
    a: Mapping[str, float],
    b: Mapping[str, float],
    owner: Mapping[str, str],
    higher_is_better: bool = True,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
) -> Comparison:
    """Compare two arms, query by query and person by person.

    Args:
        a, b: primary metric of each query by query id; the same ids.
        owner: person of each query id; may hold more ids.
        higher_is_better: the direction of the metric; changes `Comparison.better` only, since the tests are two-sided.
        seed: of the resamples; the same seed gives the same numbers.
        n_resamples: of the tests and of the bootstrap each. The smallest p is 2 / (n_resamples + 1).

    Raises:
        InputError: if there are no queries, or a score is not finite.
        MismatchError: if the arms answered different queries, or a query has no owner.
    """
    if a.keys() != b.keys():
        raise MismatchError(
            f"two arms answered different queries ({len(a.keys() ^ b.keys())} of them); compare arms of one run"
        )
    difference = np.array([a[i] - b[i] for i in sorted(a)])
    sums, counts = _by_person(dict(zip(sorted(a), difference.tolist(), strict=True)), owner)
    low, high = _interval(sums, counts, seed, n_resamples)
    return Comparison(
        delta=float(difference.mean()),
        p_query=sign_flip_p(difference, seed, n_resamples),
        p_person=sign_flip_p(sums / counts, seed, n_resamples),
        n_queries=len(difference),
        n_people=len(counts),
        ci_low=low,
        ci_high=high,
        higher_is_better=higher_is_better,
    )


def sign_flip_p(differences: np.ndarray, seed: int = 0, n_resamples: int = N_RESAMPLES) -> float:
    """Two-sided p of the paired randomisation test: under the null, each difference could as well have the other sign.

    Exact where all 2^n sign patterns are no more than `n_resamples`. Zero differences are left out first: a flipped zero
    is a zero, so p stays the same while label tasks, where most arms agree on most queries, get much cheaper.
    """
    from scipy.stats import permutation_test  # half a second that reading old results need not pay

    moved = differences[differences != 0]
    if moved.size < 2:  # none moved, or one: its two signs are equally far out
        return 1.0
    result = permutation_test(
        (moved,),
        np.sum,
        permutation_type="samples",
        vectorized=True,
        n_resamples=n_resamples,
        batch=max(1, _BATCH_NUMBERS // moved.size),
        axis=-1,
        rng=np.random.default_rng(seed),
    )
    return float(result.pvalue)


def per_person(scores: Mapping[str, float], owner: Mapping[str, str]) -> dict[str, float]:
    """Mean score of each person's queries, people sorted by id.

    Raises:
        InputError: if there are no queries, or a score is not finite.
        MismatchError: if a query has no owner.
    """
    sums, counts = _by_person(scores, owner)
    return dict(zip(_people(scores, owner), (sums / counts).tolist(), strict=True))


def per_person_mean(scores: Mapping[str, float], owner: Mapping[str, str]) -> float:
    """Mean over people of their means (macro over people), each person counting once however many queries they have."""
    return float(np.mean(list(per_person(scores, owner).values())))


def mean_interval(values: Mapping[str, float], seed: int = 0, n_resamples: int = N_RESAMPLES) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean over people of one value per person; None with fewer than two people."""
    sums = np.array([values[user_id] for user_id in sorted(values)], dtype=float)
    low, high = _interval(sums, np.ones_like(sums), seed, n_resamples)
    return None if low is None or high is None else (low, high)


def _people(scores: Mapping[str, float], owner: Mapping[str, str]) -> list[str]:
    return sorted({owner[i] for i in scores})


def _by_person(scores: Mapping[str, float], owner: Mapping[str, str]) -> tuple[np.ndarray, np.ndarray]:
    """(sums, counts) of the scores of each person, people sorted by id, each (P,)."""
    if not scores:
        raise InputError("there are no queries to compare; give people who have queries with golds")
    if missing := len(scores.keys() - owner.keys()):
        raise MismatchError(f"{missing} of {len(scores)} queries belong to nobody; name the owner of each")
    ids = sorted(scores)
    values = np.array([scores[i] for i in ids], dtype=float)
    if not np.isfinite(values).all():
        raise InputError(f"{int((~np.isfinite(values)).sum())} of {len(ids)} scores are not finite numbers")
    place = {user_id: row for row, user_id in enumerate(_people(scores, owner))}
    rows = np.array([place[owner[i]] for i in ids])
    return np.bincount(rows, weights=values), np.bincount(rows).astype(float)


def _interval(sums: np.ndarray, counts: np.ndarray, seed: int, n_resamples: int) -> tuple[float | None, float | None]:
    """95 % percentile interval of sum(sums) / sum(counts), people drawn with replacement together with all their queries."""
    if len(sums) < 2:
        return None, None
    means = [(draws @ sums) / (draws @ counts) for draws in _draws(len(sums), seed, n_resamples)]
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return float(low), float(high)


def _draws(n_people: int, seed: int, n_resamples: int) -> Iterator[np.ndarray]:
    """How often each person is drawn, (batch, P), until there are `n_resamples` rows."""
    rng = np.random.default_rng(seed)
    batch = max(1, _BATCH_NUMBERS // n_people)
    for start in range(0, n_resamples, batch):
        size = min(batch, n_resamples - start)
        yield rng.multinomial(n_people, np.full(n_people, 1 / n_people), size=size).astype(float)
