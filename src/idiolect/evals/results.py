"""The results of one evaluation: what was asked and answered, and the summary that `results.json` holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from idiolect.errors import InputError
from idiolect.evals.arms import NONPERS, OPPU, comparisons
from idiolect.evals.metrics import Kind, Scores, averaged, primary_metric, query_key, score
from idiolect.evals.stats import Comparison, compare, mean_interval, per_person, per_person_mean


@dataclass(frozen=True, slots=True)
class OwnedQuery:
    """A query with its owner and true answer; `id` need only be unique within the person."""

    user_id: str
    id: str
    gold: str

    @property
    def key(self) -> str:
        """The name that scores and predictions are kept under."""
        return query_key(self.user_id, self.id)


@dataclass(frozen=True, slots=True)
class ArmOutcome:
    """What one arm did.

    Attributes:
        predictions: answer text by query key (`OwnedQuery.key`).
        seconds: wall-clock time of what this arm needed: training its adapters, and answering.
        bytes_per_person: what is kept for each person because of this arm, mean over people; 0 where nothing is.
        losses: what the true answer cost the model, nats per token, by query key; empty where that was not asked.
        repeats: the same arm's answers with other seeds, where it hangs on a lot; figures are means over all of them.
    """

    predictions: Mapping[str, str]
    seconds: float = 0.0
    bytes_per_person: float = 0.0
    repeats: tuple[Mapping[str, str], ...] = ()
    losses: Mapping[str, float] = field(default_factory=dict)

    @property
    def runs(self) -> tuple[Mapping[str, str], ...]:
        """Answers of every seed."""
        return (self.predictions, *self.repeats)


def mean_losses(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean over seeds, by query key."""
    return {key: sum(run[key] for run in runs) / len(runs) for key in runs[0]}


@dataclass(frozen=True)
class Evaluation:
    """One run: queries, the arms that answered them, and what is needed to do it again.

    Attributes:
        labels: the label set, for kind "label".
        seconds: wall-clock time of the whole run.
        arms: by name, in any order; free names are allowed.
        floors: trivial baselines in the metric's units, e.g. `floors.floor_scores(…)`; plain JSON values.
    """

    task: str
    kind: Kind
    base: str
    seed: int
    seconds: float
    queries: tuple[OwnedQuery, ...]
    arms: Mapping[str, ArmOutcome]
    labels: tuple[str, ...] = ()
    command: str = ""
    versions: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    floors: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.arms:
            raise InputError("there is no arm to report; run at least one")
        if repeated := len(self.queries) - len(self.golds):
            raise InputError(f"{repeated} queries have an id that the same person's other query has; make ids unique")

    @cached_property
    def golds(self) -> dict[str, str]:
        """Gold by query key."""
        return {query.key: query.gold for query in self.queries}

    @cached_property
    def owner(self) -> dict[str, str]:
        """User id by query key."""
        return {query.key: query.user_id for query in self.queries}

    @cached_property
    def runs(self) -> dict[str, list[Scores]]:
        """Scores of every seed by arm."""
        return {name: [score(self.kind, self.golds, run, self.labels) for run in arm.runs] for name, arm in self.arms.items()}

    @cached_property
    def scores(self) -> dict[str, Scores]:
        """Scores by arm, the mean over its seeds."""
        return {name: averaged(runs) for name, runs in self.runs.items()}

    @cached_property
    def people(self) -> dict[str, dict[str, float]]:
        """Primary metric of each person by arm."""
        return {name: per_person(scores.per_query, self.owner) for name, scores in self.scores.items()}

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """95 % interval over people of the per-person mean, by arm."""
        return {name: mean_interval(values, self.seed) for name, values in self.people.items()}

    def compare(self, name: str, other: str) -> Comparison:
        """Arm against arm on the primary metric."""
        _, higher_is_better = primary_metric(self.kind)
        a, b = self.scores[name].per_query, self.scores[other].per_query
        return compare(a, b, self.owner, higher_is_better, self.seed)

    def compare_losses(self, name: str, other: str) -> Comparison | None:
        """Arm against arm on what the true answers cost; None where it is not known of both. Lower is better."""
        a, b = self.arms[name].losses, self.arms[other].losses
        both = [key for key in self.owner if key in a and key in b]
        if not both:
            return None
        mine, theirs = ({key: arm[key] for key in both} for arm in (a, b))
        owner = {key: self.owner[key] for key in both}
        return compare(mine, theirs, owner, higher_is_better=False, seed=self.seed)

    def person_gains(self) -> dict[str, float]:
        """OPPU minus non-personalised for each person, in the metric's units; empty unless both were run."""
        if not {OPPU, NONPERS} <= self.arms.keys():
            return {}
        return {user: value - self.people[NONPERS][user] for user, value in self.people[OPPU].items()}


def headline(task: str, base: str, n_people: int, n_queries: int) -> str:
    """Task, base and sizes in one line."""
    people, queries = "person" if n_people == 1 else "people", "query" if n_queries == 1 else "queries"
    return f"{task} on {base}: {n_people:,} {people}, {n_queries:,} {queries}"


def summarize(evaluation: Evaluation) -> dict[str, Any]:
    """The content of `results.json`: plain JSON values, figures in the metric's own units.

    Raises:
        InputError, LabelError, MismatchError: where an arm cannot be scored; see `metrics.score`.
    """
    return {
        "task": evaluation.task,
        "base": evaluation.base,
        "n_people": len(set(evaluation.owner.values())),
        "n_queries": len(evaluation.queries),
        "seed": evaluation.seed,
        "seconds": evaluation.seconds,
        "arms": {name: _arm(evaluation, name, versus) for name, versus in comparisons(evaluation.arms).items()},
        "floors": dict(evaluation.floors),
        "settings": dict(evaluation.settings),
        "versions": dict(evaluation.versions),
        "hardware": dict(evaluation.hardware),
        "command": evaluation.command,
    }


def _arm(evaluation: Evaluation, name: str, versus: tuple[str, ...]) -> dict[str, Any]:
    outcome, scores, runs = evaluation.arms[name], evaluation.scores[name], evaluation.runs[name]
    primary = [run.metrics[primary_metric(evaluation.kind)[0]] for run in runs]
    spread = {"seeds": len(runs), "spread": [min(primary), max(primary)]} if len(runs) > 1 else {}
    return (
        spread
        | _answer_loss(evaluation, name, versus)
        | {
            "metrics": dict(scores.metrics),
            "per_person_mean": per_person_mean(scores.per_query, evaluation.owner),
            "vs": {other: _versus(evaluation.compare(name, other)) for other in versus},
            "seconds": outcome.seconds,
            "bytes_per_person": outcome.bytes_per_person,
            "invalid_share": scores.invalid_share,
        }
    )


def _answer_loss(evaluation: Evaluation, name: str, versus: tuple[str, ...]) -> dict[str, Any]:
    """What the true answers cost an arm, where that is known."""
    losses = evaluation.arms[name].losses
    if not losses:
        return {}
    compared = {other: found for other in versus if (found := evaluation.compare_losses(name, other)) is not None}
    mean = sum(losses.values()) / len(losses)
    return {"answer_loss": {"mean": mean, "n": len(losses), "vs": {other: _versus(c) for other, c in compared.items()}}}


def _versus(comparison: Comparison) -> dict[str, Any]:
    interval = None if comparison.ci_low is None else [comparison.ci_low, comparison.ci_high]
    return {"delta": comparison.delta, "p_query": comparison.p_query, "p_person": comparison.p_person, "ci": interval}


def prediction_records(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """The lines of `predictions.jsonl`: each arm's answer to each query, with its primary metric. They hold people's text."""
    for name, arm in evaluation.arms.items():
        for number, run in enumerate(arm.runs):
            for query in evaluation.queries:
                yield ({"run": number} if arm.repeats else {}) | {
                    "arm": name,
                    "user_id": query.user_id,
                    "id": query.id,
                    "prediction": run[query.key],
                    "gold": query.gold,
                    "score": evaluation.runs[name][number].per_query[query.key],
                }
