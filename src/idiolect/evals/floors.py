"""What a table of counts can do: baselines from targets alone, which any model has to beat.

A person's targets are the answers of their history (labels, or ratings as text), oldest first.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from idiolect.errors import EmptyHistory, LabelError
from idiolect.evals.metrics import Kind, score

Histories = Mapping[str, Sequence[str]]
"""Targets of each person's history, oldest first, by user id."""


def own_majority(targets: Sequence[str]) -> str:
    """The person's most frequent label; of equally frequent ones, the one they used last.

    Raises:
        EmptyHistory: if there are no targets.
    """
    counts = Counter(_some(targets))
    most = max(counts.values())
    return next(label for label in reversed(targets) if counts[label] == most)


def own_mean(targets: Sequence[str]) -> str:
    """The person's mean rating with two decimals, e.g. "3.72": the best constant for squared error.

    Raises:
        EmptyHistory: if there are no targets.
        LabelError: if a target is not a number.
    """
    return f"{statistics.fmean(_numbers(targets)):.2f}"


def own_median(targets: Sequence[str]) -> str:
    """The person's median rating, e.g. "4.00" or "3.50": the best constant for absolute error. Raises as `own_mean`."""
    return f"{statistics.median(_numbers(targets)):.2f}"


def global_majority(histories: Iterable[Sequence[str]]) -> str:
    """The most frequent label over all items of all these people; of equally frequent ones, the first by alphabet."""
    counts = Counter(_some(_all(histories)))
    return min(counts, key=lambda label: (-counts[label], label))


def global_mean(histories: Iterable[Sequence[str]]) -> str:
    """The mean rating over all items of all these people."""
    return own_mean(_all(histories))


def global_median(histories: Iterable[Sequence[str]]) -> str:
    """The median rating over all items of all these people."""
    return own_median(_all(histories))


def majority(kind: Kind, targets: Sequence[str]) -> str | None:
    """The answer of the arm "majority" for this person: own majority label, own mean rating, None for free text."""
    own = {"label": own_majority, "rating": own_mean}.get(kind)
    return own(targets) if own else None


_OWN: Mapping[Kind, Mapping[str, Callable[[Sequence[str]], str]]] = {
    "label": {"own majority": own_majority},
    "rating": {"own mean": own_mean, "own median": own_median},
    "text": {},
    "list": {},
}
_GLOBAL: Mapping[Kind, Mapping[str, Callable[[Iterable[Sequence[str]]], str]]] = {
    "label": {"global majority": global_majority},
    "rating": {"global mean": global_mean, "global median": global_median},
    "text": {},
    "list": {},
}


def floor_answers(kind: Kind, histories: Histories) -> dict[str, dict[str, str]]:
    """Each floor's one answer for each person: {floor: {user id: answer}}; empty for text, which has no floor."""
    own = {name: {user: rule(targets) for user, targets in histories.items()} for name, rule in _OWN[kind].items()}
    shared = {name: dict.fromkeys(histories, rule(histories.values())) for name, rule in _GLOBAL[kind].items()}
    return own | shared


def floor_scores(
    kind: Kind, histories: Histories, golds: Mapping[str, str], owner: Mapping[str, str], labels: Sequence[str] = ()
) -> dict[str, dict[str, float]]:
    """Every metric of every floor: {floor: {metric: value}}.

    Args:
        golds, owner: gold and user id by query id; every owner must be in `histories`. Raises as `score`.
    """
    return {
        name: score(kind, golds, {query: answers[owner[query]] for query in golds}, labels).metrics
        for name, answers in floor_answers(kind, histories).items()
    }


def _all(histories: Iterable[Sequence[str]]) -> list[str]:
    return [target for targets in histories for target in targets]


def _some(targets: Sequence[str]) -> Sequence[str]:
    if not targets:
        raise EmptyHistory("a floor needs at least one past answer; leave out people without a history")
    return targets


def _numbers(targets: Sequence[str]) -> list[float]:
    try:
        return [float(target) for target in _some(targets)]
    except ValueError:
        raise LabelError("a past rating is not a number; mend the history's scores") from None
