"""What to evaluate, and what every report says of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from idiolect.config import TrainConfig
from idiolect.data.tasks import Task
from idiolect.engine.sampling import GREEDY, Sampling
from idiolect.evals.arms import DEFAULT_ARMS, TaskVariant
from idiolect.evals.pooling import PiecePlan
from idiolect.model.base import Base
from idiolect.store.store import Store
from idiolect.train.stages import Recipe
from idiolect.types import Item, Retriever

Step = Callable[[int, str, float | None], None]
"""(how many are done, a remark, seconds to go where they are known)."""

OnStage = Callable[[str, int], Step]
"""(what begins, how many of it) → what to call with each step."""


def silent(title: str, total: int) -> Step:
    """No progress shown."""
    return lambda done, remark, left_s: None


@dataclass(frozen=True)
class Plan:
    """What to evaluate.

    Attributes:
        targets: ids of the people who get an adapter; everybody else in the store is a base person.
        stage_1, stage_2: settings of the two stages.
        k: items retrieved by the arms that retrieve.
        max_history: newest items of each target that are trained on.
        task_examples: examples that stage 1 is sampled to; None: all.
        free: decode label tasks token by token instead of scoring the label set.
        pieces: sharers and assembly, for the arms that are made of pieces.
    """

    task: Task
    targets: tuple[str, ...]
    stage_1: TrainConfig
    stage_2: TrainConfig
    arms: tuple[str, ...] = DEFAULT_ARMS
    k: int = 1
    max_history: int | None = None
    task_examples: int | None = None
    free: bool = False
    sampling: Sampling = GREEDY
    base_items: tuple[tuple[str, Item], ...] = ()
    pieces: PiecePlan = field(default_factory=PiecePlan)

    def recipe(self, variant: TaskVariant, config: TrainConfig) -> Recipe:
        """The recipe of one retrieval variant."""
        retrievers: dict[TaskVariant, Retriever] = {"k0": "none", "rag": "bm25", "random": "random"}
        k = 0 if variant == "k0" else self.k
        return Recipe(self.task, config, retrievers[variant], k, self.max_history)


def settings_of(base: Base, plan: Plan) -> dict[str, Any]:
    """What a report says of how an evaluation was run."""
    return {
        "base_fingerprint": base.fingerprint,
        "device": str(base.device),
        "dtype": str(base.dtype).removeprefix("torch."),
        "stage_1": plan.stage_1.model_dump(mode="json"),
        "stage_2": plan.stage_2.model_dump(mode="json"),
        "k": plan.k,
        "max_history": plan.max_history,
        "task_examples": plan.task_examples,
        "decoding": "free" if plan.free or not plan.task.labels else "scored labels",
    }


def said_of(base: Base, plan: Plan, about: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """The part of `results.json` that every report has."""
    return {
        "task": plan.task.name,
        "base": base.name,
        "n_people": len(plan.targets),
        "seed": plan.stage_2.seed,
        "seconds": round(seconds, 2),
        "settings": settings_of(base, plan),
        "versions": dict(about.get("versions", {})),
        "hardware": dict(about.get("hardware", {})),
        "command": about.get("command", ""),
    }


def choose_targets(store: Store, n: int) -> tuple[str, ...]:
    """The n people with the longest histories, ties by id, among those with a query."""
    with_queries = {summary.id for summary in store.people() if summary.n_queries}
    ranked: Sequence[str] = store.most_active(len(store.people()))
    return tuple(user for user in ranked if user in with_queries)[:n]
