"""The two stages of OPPU, from people in a store to adapters in it.

    stage 1   base people → examples ─ train one adapter ─▶ task adapter (nobody's)
    stage 2   each person → examples ─ train all together ─▶ one user adapter each, on the base with the task adapter merged in

Both end in the store: an adapter is published the moment it is finished, and is found again instead of trained again by a
second identical run. Source: Tan et al. 2024 (OPPU), arXiv:2402.04401, §3.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from idiolect.config import TrainConfig
from idiolect.data.prompts import render_many, reserve_for
from idiolect.data.retrieval import history_examples, query_examples
from idiolect.data.tasks import Task
from idiolect.errors import ConfigError, EmptyHistory, IdiolectError, PersonNotFound, TaskAdapterNotFound
from idiolect.model.base import Base
from idiolect.model.files import layout_of, read_record, to_record
from idiolect.store.adapters import variant_of
from idiolect.store.records import Parent
from idiolect.store.store import Store
from idiolect.train.schedule import total_steps
from idiolect.train.trainer import Finished, Job, Progress, train
from idiolect.types import AdapterKind, AdapterManifest, Example, Item, Person, Rendered, Retriever, digest_of

_NO_EFFECT = frozenset({"slots", "token_budget"})
"""Settings that change how fast an adapter is made, and not what it becomes."""


@dataclass(frozen=True)
class Recipe:
    """What to train, in either stage.

    Attributes:
        retriever, k: earlier items put into each prompt, in training and in answering alike.
        max_history: the newest items of a person that are trained on; None: all.
    """

    task: Task
    config: TrainConfig
    retriever: Retriever = "none"
    k: int = 0
    max_history: int | None = None

    def __post_init__(self) -> None:
        if (self.retriever == "none") != (self.k == 0):
            raise ConfigError(
                f"retriever {self.retriever!r} with k = {self.k}: give both a retriever and a k of at least 1, or neither"
            )
        if self.max_history is not None and self.max_history < 1:
            raise ConfigError(f"max history is {self.max_history}; it must be at least 1")

    def max_tokens(self, base: Base) -> int:
        """Bound of prompt and answer together on this base."""
        return min(self.config.max_tokens, base.context)

    def render(self, base: Base, examples: Iterable[Example], dropped: list[str] | None = None) -> list[Rendered]:
        """The examples as tokens, answers included."""
        reserve = reserve_for(self.task, base.tokenizer)
        return list(render_many(examples, base.tokenizer, self.max_tokens(base), reserve=reserve, dropped=dropped))


@dataclass
class StageReport:
    """What a run of stage 2 did.

    Attributes:
        made: digest of each person's adapter that was trained.
        kept: digest of each that was already there.
        problems: one line for each person who could not be trained.
    """

    made: dict[str, str] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    n_too_long: int = 0
    tokens: int = 0
    seconds: float = 0.0

    @property
    def adapters(self) -> dict[str, str]:
        """Every person's adapter, made now or before."""
        return self.kept | self.made


OnProgress = Callable[[Progress], None]


def manifest_of(
    base: Base,
    recipe: Recipe,
    kind: AdapterKind,
    content: Any,
    user_id: str | None = None,
    item_ids: Sequence[str] = (),
) -> AdapterManifest:
    """The manifest of an adapter to be: equal manifests make equal adapters."""
    config = recipe.config
    settings = {k: v for k, v in config.model_dump(mode="json").items() if k not in _NO_EFFECT}
    if config.steps is None:  # so that what came to be before there was such a setting is still found
        del settings["steps"]
    if kind != "user":  # nobody's adapter begins as nobody's either way
        del settings["start"]
    # What the prompts were cut to matters, not what was asked for: the base's context may be shorter.
    settings |= {"max_tokens": recipe.max_tokens(base), "dtype": str(base.dtype).removeprefix("torch.")}
    settings["tokenizer"] = base.tokenizer.digest  # with another one, the same items are another training
    if kind == "user":
        settings["max_history"] = recipe.max_history
    return AdapterManifest(
        kind=kind,
        task=recipe.task.name,
        base=base.fingerprint,
        base_name=base.name,
        rank=config.rank,
        alpha=config.alpha,
        targets=config.targets,
        user_id=user_id,
        task_adapter=base.task_adapter,
        retriever=recipe.retriever,
        k=recipe.k,
        item_ids=tuple(item_ids),
        history=digest_of(content),
        seed=config.seed,
        settings=settings,
    )


# ---------------------------------------------------------------------------------------------------------- stage 1


def stage_one(
    base: Base,
    store: Store,
    recipe: Recipe,
    people: Iterable[Person],
    base_items: Iterable[tuple[str, Item]] = (),
    *,
    max_examples: int | None = None,
    on_progress: OnProgress | None = None,
) -> str:
    """Train the task adapter from base people's histories and queries; its digest in the store.

    Args:
        people: base people only. Never somebody who is to get, or to be tested with, an adapter of their own.
        base_items: (author, item) of further people, of whom nothing else is known.
        max_examples: a seeded sample of this many, so that a large population does not cost more than it teaches.

    Raises:
        EmptyHistory: nothing to train on.
        TaskFieldError: an item lacks a field of the task.
    """
    if base.task_adapter is not None:
        raise ConfigError("stage 1 starts from the bare base; this one has a task adapter merged in already")
    sources = [*people, *_authors(base_items)]
    examples = _sample(_stage_one_examples(sources, recipe), max_examples, recipe.config.seed)
    dropped: list[str] = []
    rendered = recipe.render(base, examples, dropped)
    if not rendered:
        raise EmptyHistory(f"no base person has an item for {recipe.task.name}; stage 1 needs people other than the targets")
    manifest = manifest_of(base, recipe, "task", [[list(r.ids), r.n_prompt] for r in rendered])
    found = store.find(manifest)
    if found is not None:
        store.set_head(found)
        return found
    # Everybody by name, whether in the store or not: who is in a task adapter must not get an adapter on top of it, and
    # whoever is imported and deleted later must be found.
    parents = [Parent("person", user) for user in dict.fromkeys(person.id for person in sources) if user]
    digests: list[str] = []

    def publish(done: Finished) -> None:
        _check_finite(done)
        layout = base.layout(recipe.config.rank, recipe.config.alpha, recipe.config.targets)
        record = to_record(layout, done.row, base.origin)
        stats = {**_stats(done), "max_examples": max_examples or 0}  # 0: no bound
        digests.append(store.publish(manifest, record, stats=stats, parents=parents))

    train(base, [Job("", rendered)], recipe.config, publish, on_progress)
    return digests[0]


def _stage_one_examples(people: Iterable[Person], recipe: Recipe) -> list[Example]:
    options: dict[str, Any] = {"retriever": recipe.retriever, "k": recipe.k, "seed": recipe.config.seed}
    found: list[Example] = []
    for person in people:
        found += history_examples(person, recipe.task, **options)
        found += [e for e in query_examples(person, recipe.task, **options) if e.target is not None]
    return found


def _authors(items: Iterable[tuple[str, Item]]) -> list[Person]:
    """One person for each author, their items in order of date; an item without an author is somebody of its own."""
    by_author: dict[str, list[Item]] = {}
    nameless = []
    for author, item in items:
        if author.strip():
            by_author.setdefault(author, []).append(item)
        else:
            nameless.append(Person("", (item,)))
    return nameless + [
        Person(author, tuple(sorted(mine, key=lambda item: item.date or ""))) for author, mine in by_author.items()
    ]


def by_any(byline: str, people: Iterable[str]) -> bool:
    """Whether a byline names one of these people, alone or with others ("Ana Ruiz and Bo Li"). Better one item too few."""
    return any(person in byline for person in people)


def _sample(examples: list[Example], n: int | None, seed: int) -> list[Example]:
    if n is None or len(examples) <= n:
        return examples
    return random.Random(seed).sample(examples, n)


def with_task_adapter(base: Base, store: Store, digest: str) -> Base:
    """The base with a stored task adapter merged in.

    Raises:
        BaseMismatch: it was made for another base or tokenizer.
    """
    manifest = store.manifest(digest)
    base.accept(manifest, digest)
    if manifest.kind != "task":
        whose = "a person's" if manifest.kind == "user" else "an evaluation's"
        raise ConfigError(f"adapter {digest[:12]} is {whose}, not a task's; it cannot be merged under others")
    record = read_record(store.record(digest))
    base.accept_origin(record.origin, digest)
    return base.with_task(digest, layout_of(record.layout, base.model.sites()), record.row)


def task_base(base: Base, store: Store, recipe: Recipe) -> Base:
    """The base with this recipe's task adapter merged in.

    Raises:
        TaskAdapterNotFound: stage 1 was not run for this task, base and retrieval.
    """
    manifest = manifest_of(base, recipe, "task", None)
    try:
        digest = store.task_head(recipe.task.name, base.fingerprint, variant_of(manifest))
    except TaskAdapterNotFound:
        raise TaskAdapterNotFound(
            f"there is no task adapter for {recipe.task.name} on {base.name!r} with {variant_of(manifest)}; make one: "
            f"idiolect train --stage task --task {recipe.task.name} --data FILE, or train on the bare base with --bare"
        ) from None
    return with_task_adapter(base, store, digest)


# ---------------------------------------------------------------------------------------------------------- stage 2


def stage_two(
    base: Base,
    store: Store,
    recipe: Recipe,
    users: Iterable[str],
    *,
    run_id: str | None = None,
    on_progress: OnProgress | None = None,
) -> StageReport:
    """Train one adapter for each of these people, all together. Finished ones are in the store at once.

    A person whose adapter is there already is not trained again; one who cannot be trained is reported, and does not stop
    the others.
    """
    report = StageReport()
    manifests: dict[str, AdapterManifest] = {}
    layout = base.layout(recipe.config.rank, recipe.config.alpha, recipe.config.targets)
    users = list(users)
    ahead = _Ahead.of(store, recipe, users) if on_progress is not None else _Ahead({})

    def publish(done: Finished) -> None:
        manifest = manifests.pop(done.person)
        try:
            _check_finite(done)
            record = to_record(layout, done.row, base.origin)
            digest = store.publish(manifest, record, run_id=run_id, stats=_stats(done))
        except (PersonNotFound, ConfigError) as error:  # deleted meanwhile, or diverged: the others go on
            report.problems[done.person] = str(error)
            return
        report.made[done.person] = digest
        report.tokens += done.tokens
        report.seconds += done.seconds

    def progress(at: Progress) -> None:
        assert on_progress is not None
        on_progress(replace(at, done=len(report.adapters) + len(report.problems), steps_total=ahead.total))

    jobs = _jobs(base, store, recipe, users, report, manifests, ahead)
    train(base, jobs, recipe.config, publish, progress if on_progress is not None else None)
    return report


class _Ahead:
    """Optimiser steps of a run: by each person's number of items until it is their turn, exact from then on."""

    def __init__(self, steps: dict[str, int]) -> None:
        self._steps, self.total = steps, sum(steps.values())

    @classmethod
    def of(cls, store: Store, recipe: Recipe, users: Iterable[str]) -> _Ahead:
        sizes = {person.id: person.n_items for person in store.people()}
        most = recipe.max_history
        items = {user: n if most is None else min(n, most) for user in users if (n := sizes.get(user))}
        return cls({user: total_steps(n, recipe.config) for user, n in items.items()})

    def set(self, user: str, steps: int) -> None:
        """It is this person's turn, and they take this many; 0: their adapter is there, or cannot be."""
        self.total += steps - self._steps.get(user, 0)
        self._steps[user] = steps


def _check_finite(done: Finished) -> None:
    """An adapter that diverged is never published."""
    if not bool(done.row.isfinite().all()):
        whose = f"user {done.person!r}" if done.person else "the task adapter"
        raise ConfigError(f"training of {whose} diverged (numbers that are not finite); choose a smaller --lr or float32")


def _jobs(
    base: Base,
    store: Store,
    recipe: Recipe,
    users: Iterable[str],
    report: StageReport,
    manifests: dict[str, AdapterManifest],
    ahead: _Ahead,
) -> Iterator[Job]:
    """People to train, one at a time: those already done and those who cannot be are noted instead."""
    for user in users:
        try:
            whole = store.person(user)
            person = of_task(whole, recipe.task)
            if not person.history:
                raise no_items(user, recipe.task, whole.history)
            kept = newest(person, recipe.max_history)
            manifest = _user_manifest(base, recipe, person, kept)
            found = store.find(manifest)
            rendered = None if found else _render_person(base, recipe, person, kept, report)
        except IdiolectError as error:
            report.problems[user] = str(error)
            ahead.set(user, 0)
            continue
        ahead.set(user, total_steps(len(rendered), recipe.config) if rendered else 0)
        if found is not None:
            store.set_head(found)
            report.kept[user] = found
        elif rendered is not None:
            manifests[user] = manifest
            yield Job(user, rendered)


def of_task(person: Person, task: Task) -> Person:
    """The person with those items only that are of this task; a history may hold items of several."""
    return replace(person, history=task.own(person.history))


def no_items(user: str, task: Task, others: Sequence[Item]) -> EmptyHistory:
    """Somebody cannot be trained on a task: no items at all, or only others'."""
    of = f" of {task.name}" if others else ""
    return EmptyHistory(f"user {user!r} has no items{of}; import a history first: idiolect history import")


def newest(person: Person, n: int | None) -> tuple[Item, ...]:
    """The newest n items, oldest first."""
    return person.history if n is None else person.history[-n:]


def _user_manifest(base: Base, recipe: Recipe, person: Person, kept: Sequence[Item]) -> AdapterManifest:
    # With retrieval, older items that are not trained on still stand in prompts, so they count as content.
    content = [[item.id, item.date, dict(item.fields)] for item in (person.history if recipe.k else kept)]
    return manifest_of(base, recipe, "user", content, person.id, [item.id for item in kept])


def _render_person(base: Base, recipe: Recipe, person: Person, kept: Sequence[Item], report: StageReport) -> list[Rendered]:
    dropped: list[str] = []
    rendered = rendered_items(base, recipe, person, kept, dropped)
    report.n_too_long += len(dropped)
    if not rendered:
        raise EmptyHistory(f"user {person.id!r}: no item fits into {recipe.max_tokens(base)} tokens; raise --max-tokens")
    return rendered


def rendered_items(
    base: Base, recipe: Recipe, person: Person, kept: Sequence[Item], dropped: list[str] | None = None
) -> list[Rendered]:
    """The newest items of a person as tokens, oldest first; with retrieval, older ones stand in their prompts."""
    if not kept:
        return []
    history = person if recipe.k else Person(person.id, tuple(kept))
    options: dict[str, Any] = {"retriever": recipe.retriever, "k": recipe.k, "seed": recipe.config.seed}
    examples = list(history_examples(history, recipe.task, **options))
    return recipe.render(base, examples[-len(kept) :], dropped)


def render_history(base: Base, recipe: Recipe, person: Person) -> list[Rendered]:
    """A person's newest items, oldest first, as prompts and answers: just what an adapter of theirs is trained on.

    Raises:
        EmptyHistory: there is none, or none fits.
        TaskFieldError, LabelError: an item is not of this task.
    """
    person = of_task(person, recipe.task)
    return _render_person(base, recipe, person, newest(person, recipe.max_history), StageReport())


def history_manifest(base: Base, recipe: Recipe, person: Person) -> AdapterManifest:
    """The manifest of an adapter trained on what `render_history` gives."""
    person = of_task(person, recipe.task)
    return _user_manifest(base, recipe, person, newest(person, recipe.max_history))


def _stats(done: Finished) -> Mapping[str, float]:
    return {"loss": done.loss, "steps": done.steps, "tokens": done.tokens, "seconds": done.seconds}


def train_pooled(
    base: Base, store: Store, recipe: Recipe, users: Sequence[str], *, on_progress: OnProgress | None = None
) -> str:
    """One adapter from all these people's histories together, as a control; its digest. It is nobody's and heads nothing."""
    report = StageReport()
    rendered: list[Rendered] = []
    for user in users:
        person = of_task(store.person(user), recipe.task)
        rendered += _render_person(base, recipe, person, newest(person, recipe.max_history), report)
    manifest = manifest_of(base, recipe, "pooled", [[list(r.ids), r.n_prompt] for r in rendered])
    found = store.find(manifest)
    if found is not None:
        return found
    digests: list[str] = []
    parents = [Parent("person", user) for user in users]

    def publish(done: Finished) -> None:
        layout = base.layout(recipe.config.rank, recipe.config.alpha, recipe.config.targets)
        record = to_record(layout, done.row, base.origin)
        digests.append(store.publish(manifest, record, head=False, stats=_stats(done), parents=parents))

    train(base, [Job("", rendered)], recipe.config, publish, on_progress)
    return digests[0]
