"""One task of one player: an adapter trained on the earlier part of their history, held against others on the later part.

    population   what most people would have said, without the player and as of then
    before       the shared adapter, with the player's most relevant earlier items in the prompt
    after        the same with the player's own adapter

An adapter is offered if, over the held-out items, its mean score is above the population's, above that of `before`, and above
chance. Chance counts because NYM-2's population is often wrong by construction: of four candidates, three are others' frequent
ones. The interval of the difference is shown beside it and decides nothing: one player's items are few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from idiolect.data.nyms import event_item
from idiolect.data.retrieval import query_examples
from idiolect.data.tasks import FirstTask, Task
from idiolect.engine.answers import Question, answer
from idiolect.engine.local import Engine
from idiolect.errors import ConfigError
from idiolect.evals.metrics import METRICS, score
from idiolect.evals.stats import Comparison, compare
from idiolect.game.histories import Event, asked_input
from idiolect.model.bank import Bank
from idiolect.model.base import Base
from idiolect.model.files import to_record
from idiolect.store.store import Store
from idiolect.train.stages import Recipe, history_manifest, render_history
from idiolect.train.trainer import Finished, Job, train
from idiolect.types import Item, Person, Query

MIN_TRAIN, MIN_TEST = 20, 8
"""Items of one task, below which it is not trained, or not measured."""

Answers = dict[str, str]
"""By the id of the item."""


@dataclass(frozen=True)
class Measured:
    """How one task went.

    Attributes:
        scores: mean score of "population", "before" and, where an adapter was trained, "after"; `totals`: their sums.
        answers: of "before" and "after".
        chance: what guessing among the labels scores; 0 for lists.
        adapter: digest of the player's adapter; None where none was trained.
        over_population, over_before: of "after"; intervals over rounds.
    """

    task: str
    n_train: int
    n_test: int
    scores: Mapping[str, float]
    totals: Mapping[str, float]
    answers: Mapping[str, Answers]
    chance: float = 0.0
    adapter: str | None = None
    over_population: Comparison | None = None
    over_before: Comparison | None = None

    @property
    def offered(self) -> bool:
        if self.over_population is None or self.over_before is None:
            return False
        return self.over_population.delta > 0 and self.over_before.delta > 0 and self.scores["after"] > self.chance

    def document(self) -> dict[str, Any]:
        """As plain values."""
        gains = {"over_population": self.over_population, "over_before": self.over_before}
        return {
            "n_train": self.n_train,
            "n_test": self.n_test,
            "scores": {name: round(value, 4) for name, value in self.scores.items()},
            "chance": self.chance,
            **{name: None if gain is None else _gain(gain) for name, gain in gains.items()},
            "adapter": self.adapter,
            "offered": self.offered,
        }


def _gain(gain: Comparison) -> dict[str, Any]:
    numbers = {"delta": gain.delta, "low": gain.ci_low, "high": gain.ci_high, "p": gain.p_query}
    return {name: None if value is None else round(value, 4) for name, value in numbers.items()} | {"n": gain.n_queries}


def own_adapter(base: Base, store: Store, recipe: Recipe, person: Person) -> str:
    """Train a person's adapter on just these items, kept and not in use; its digest. One that is there is not trained again.

    Raises:
        EmptyHistory: no item is of the task, or none fits.
        ConfigError: training diverged.
    """
    manifest = history_manifest(base, recipe, person)
    found = store.find(manifest)
    if found is not None:
        return found
    made: list[str] = []

    def publish(done: Finished) -> None:
        if not bool(done.row.isfinite().all()):
            raise ConfigError(f"training of user {person.id!r} diverged; choose a smaller learning rate or float32")
        layout = base.layout(recipe.config.rank, recipe.config.alpha, recipe.config.targets)
        stats = {"loss": done.loss, "steps": done.steps, "tokens": done.tokens, "seconds": done.seconds}
        made.append(store.publish(manifest, to_record(layout, done.row, base.origin), head=False, stats=stats))

    train(base, [Job(person.id, render_history(base, recipe, person))], recipe.config, publish, None)
    return made[0]


def measure(
    base: Base,
    store: Store,
    recipe: Recipe,
    user: str,
    train_events: Sequence[Event],
    test_events: Sequence[Event],
    population: Answers,
    *,
    personal: bool,
) -> Measured | None:
    """Measure one task; None where there is too little to measure it by.

    Args:
        base: with the shared adapter merged in.
        train_events, test_events: of this task.
        population: what most people would have said, as events say it.
        personal: whether to train an adapter at all.
    """
    task = recipe.task
    if len(test_events) < MIN_TEST:
        return None
    tested = [event_item(event) for event in test_events]
    queries = tuple(Query(item.id, asked_input(item), task.answer_of(item)) for item in tested)
    person = Person(user, tuple(map(event_item, train_events)), queries)
    adapter = own_adapter(base, store, recipe, person) if personal and len(train_events) >= MIN_TRAIN else None
    given = {"before": _answers(base, store, recipe, person, None)}
    if adapter is not None:
        given["after"] = _answers(base, store, recipe, person, adapter)
    spelt = {item.id: _as_label(task, item, population[item.id]) for item in tested}
    return _held(task, len(train_events), tested, {"population": spelt, **given}, adapter)


def _answers(base: Base, store: Store, recipe: Recipe, person: Person, adapter: str | None) -> Answers:
    """What is answered to the person's queries, earlier items in the prompt, with this adapter or none."""
    how: dict[str, Any] = {"retriever": recipe.retriever, "k": recipe.k, "seed": recipe.config.seed}
    examples = query_examples(person, recipe.task, **how)
    questions = [Question(query.id, example, adapter) for query, example in zip(person.queries, examples, strict=True)]
    engine = Engine(base, Bank.on(base, store.record))
    return {key: done.text for key, done in answer(engine, recipe.task, questions, recipe.max_tokens(base)).items()}


def _as_label(task: Task, item: Item, said: str) -> str:
    """What most people say, as the task spells answers."""
    return task.labels[task.candidates(item).index(said)] if isinstance(task, FirstTask) else said


def _held(task: Task, n_train: int, tested: Sequence[Item], given: Mapping[str, Answers], adapter: str | None) -> Measured:
    golds = {item.id: task.answer_of(item) for item in tested}
    scored = {name: score(task.kind, golds, answers, task.labels) for name, answers in given.items()}
    each = {name: one.per_query for name, one in scored.items()}
    owner = {item.id: item.id.split("/")[0] for item in tested}  # items of one round are not independent
    primary = METRICS[task.kind][0]
    population, before = (compare(each["after"], each[name], owner) if adapter else None for name in ("population", "before"))
    return Measured(
        task.name,
        n_train,
        len(tested),
        {name: one.metrics[primary] for name, one in scored.items()},
        {name: sum(values.values()) for name, values in each.items()},
        {name: answers for name, answers in given.items() if name != "population"},
        1 / len(task.labels) if task.labels else 0.0,
        adapter,
        population,
        before,
    )
