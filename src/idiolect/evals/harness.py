"""An evaluation from people in a store to predictions of every arm.

    sharers, where an arm wants pieces → stage 1 (once per retrieval) → stage 2 for every target, and for sharers with their
    gates (once per retrieval) → every arm answers every query

Adapters stay in the store as soon as they are done, so that a run that was cut off goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from idiolect.data.retrieval import query_examples
from idiolect.engine.answers import Question, answer
from idiolect.engine.local import Engine
from idiolect.errors import ConfigError, EmptyHistory
from idiolect.evals.arms import (
    ARMS,
    OF_PIECES,
    TaskVariant,
    derangement,
    piece_variants,
    task_adapters,
    user_adapters,
)
from idiolect.evals.assembling import Kitchen, Made
from idiolect.evals.floors import floor_scores, majority
from idiolect.evals.metrics import check_golds
from idiolect.evals.plan import OnStage, Plan, Step, settings_of, silent
from idiolect.evals.pooling import Shared, Workshop, pool_settings
from idiolect.evals.results import ArmOutcome, Evaluation, OwnedQuery, mean_losses
from idiolect.model.bank import Bank
from idiolect.model.base import Base
from idiolect.pieces.scoring import example_losses
from idiolect.pieces.select import Sharers
from idiolect.store.store import Store
from idiolect.train.stages import by_any, newest, of_task, stage_one, stage_two, train_pooled, with_task_adapter
from idiolect.train.trainer import Progress
from idiolect.types import Person, digest_of

_TOGETHER = 64
"""True answers that are scored in one stack of adapters."""


@dataclass
class _Run:
    """Everything that is made once and used by several arms."""

    base: Base
    store: Store
    plan: Plan
    on_stage: OnStage
    workshop: Workshop
    sharers: Sharers | None = None
    shared: dict[TaskVariant, Shared] = field(default_factory=dict)
    kitchens: dict[TaskVariant, Kitchen] = field(default_factory=dict)
    about_pieces: dict[str, Any] = field(default_factory=dict)
    people: list[Person] = field(default_factory=list)
    bases: dict[TaskVariant, Base] = field(default_factory=dict)
    own: dict[TaskVariant, dict[str, str]] = field(default_factory=dict)
    pooled: dict[TaskVariant, str] = field(default_factory=dict)
    stage_seconds: dict[str, float] = field(default_factory=dict)


def evaluate(
    base: Base,
    store: Store,
    plan: Plan,
    *,
    on_stage: OnStage = silent,
    about: Mapping[str, Any] | None = None,
    workshop: Workshop | None = None,
) -> Evaluation:
    """Train what the arms need and let each answer every target's queries.

    Args:
        base: the bare base.
        store: holds targets and base people; what is trained goes into it.
        about: `command`, `versions` and `hardware` for the report.
        workshop: of an earlier evaluation on this store, for what it has made already.

    Raises:
        EmptyHistory: a target without items, no target has a query, or nobody has items enough to share.
        ConfigError: a stranger's adapter with fewer than two people.
    """
    began = time.monotonic()
    run = _Run(base, store, plan, on_stage, workshop or Workshop(base, store))
    run.people = [store.person(user) for user in plan.targets]
    queries = tuple(OwnedQuery(p.id, q.id, q.gold) for p in run.people for q in p.queries if q.gold is not None)
    if not queries:
        raise EmptyHistory("no target has a query with a known answer; give data with queries, e.g. users.jsonl of LaMP's keys")
    # An unreadable answer found after an hour of training would be an hour lost.
    check_golds(plan.task.kind, [query.gold for query in queries], plan.task.labels)
    if "stranger" in plan.arms and len(plan.targets) < 2:
        raise ConfigError("the arm 'stranger' needs at least two people; add --targets or leave the arm out")
    if piece_variants(plan.arms):
        _choose_sharers(run)
    for variant in task_adapters(plan.arms):
        _stage_one(run, variant)
    for variant in piece_variants(plan.arms):
        _share(run, variant)
    for variant, whose in user_adapters(plan.arms):
        _stage_two(run, variant, whose)
    outcomes = {name: outcome for name in plan.arms if (outcome := _outcome(run, name)) is not None}
    return _evaluation(run, queries, outcomes, time.monotonic() - began, about or {})


def prepared(base: Base, store: Store, plan: Plan, *, on_stage: OnStage = silent) -> tuple[Base, Sharers]:
    """The base with the plain prompt's task adapter, and the sharers, who have no part in it."""
    run = _Run(base, store, plan, on_stage, Workshop(base, store))
    sharers = _choose_sharers(run)
    _stage_one(run, "k0")
    return run.bases["k0"], sharers


def kitchen(base: Base, store: Store, plan: Plan, *, on_stage: OnStage = silent, workshop: Workshop | None = None) -> Kitchen:
    """Where the plan's arms of pieces on the plain prompt are made: its pool, and the targets as newcomers. Answers nothing."""
    run = _Run(base, store, plan, on_stage, workshop or Workshop(base, store))
    run.people = [store.person(user) for user in plan.targets]
    _choose_sharers(run)
    _stage_one(run, "k0")
    _share(run, "k0")
    return run.kitchens["k0"]


# ---------------------------------------------------------------------------------------------------------- training


def _choose_sharers(run: _Run) -> Sharers:
    plan, selection = run.plan, run.plan.pieces.selection
    with _stage(run, "sharers", len(run.store.people()) - len(plan.targets)) as step:
        run.sharers = run.workshop.choose(plan.task, plan.targets, selection, lambda done: step(done, "", None))
    return run.sharers


def _apart(run: _Run) -> set[str]:
    """Whom stage 1 must not see."""
    return {*run.plan.targets, *(run.sharers.ids if run.sharers else ()), *run.plan.pieces.apart}


def _stage_one(run: _Run, variant: TaskVariant) -> None:
    plan = run.plan
    recipe = plan.recipe(variant, plan.stage_1)
    apart = _apart(run)
    how = plan.stage_1.model_dump(mode="json")
    key = digest_of([variant, recipe.k, plan.task_examples, sorted(apart), how])
    if key in run.workshop.bases:
        run.bases[variant] = run.workshop.bases[key]
        return
    others = run.store.iter_people([s.id for s in run.store.people() if s.id not in apart])
    with _stage(run, f"stage 1 · {variant}", 1) as step:
        digest = stage_one(
            run.base,
            run.store,
            recipe,
            others,
            [pair for pair in plan.base_items if not by_any(pair[0], apart)],
            max_examples=plan.task_examples,
            on_progress=_shown(step),
        )
    run.bases[variant] = run.workshop.bases[key] = with_task_adapter(run.base, run.store, digest)


def _share(run: _Run, variant: TaskVariant) -> None:
    """Sharers' adapters and gates, and the pool of their pieces."""
    plan, base = run.plan, run.bases[variant]
    assert run.sharers is not None
    recipe, ids = plan.recipe(variant, plan.stage_2), run.sharers.ids
    with _stage(run, f"sharers · {variant}", len(ids)) as step:
        # Gates go through the same people once more; the bar shows whichever of the two is at work.
        shown = _shown(step)
        shared = run.workshop.pool(base, recipe, plan.pieces, ids, on_progress=shown, on_gates=shown)
    run.shared[variant] = shared
    run.kitchens[variant] = Kitchen(run.workshop, base, recipe, plan.pieces, shared, run.people, plan.stage_2)
    run.about_pieces[variant] = pool_settings(shared, run.sharers, plan.pieces)


def _stage_two(run: _Run, variant: TaskVariant, whose: str) -> None:
    plan, base = run.plan, run.bases[variant]
    recipe = plan.recipe(variant, plan.stage_2)
    if whose == "pooled":
        with _stage(run, f"stage 2 · {variant} · pooled", 1) as step:
            run.pooled[variant] = train_pooled(base, run.store, recipe, plan.targets, on_progress=_shown(step))
        return
    with _stage(run, f"stage 2 · {variant}", len(plan.targets)) as step:
        report = stage_two(base, run.store, recipe, plan.targets, on_progress=_shown(step))
        step(len(report.adapters), f"{len(report.kept)} were there already" if report.kept else "", None)
    if report.problems:
        user, problem = next(iter(report.problems.items()))
        raise EmptyHistory(
            f"{len(report.problems)} of {len(plan.targets)} targets cannot be trained; the first, {user!r}: {problem}"
        )
    run.own[variant] = report.adapters


@contextmanager
def _stage(run: _Run, title: str, total: int) -> Iterator[Step]:
    began = time.monotonic()
    yield run.on_stage(title, total)
    run.stage_seconds[title] = round(run.stage_seconds.get(title, 0.0) + time.monotonic() - began, 2)


def _shown(step: Step) -> Callable[[Progress], None]:
    return lambda p: step(p.done, f"{p.tokens_per_s:,.0f} tokens/s · loss {p.loss:.3f}", p.left_s)


# --------------------------------------------------------------------------------------------------------- answering


def _outcome(run: _Run, name: str) -> ArmOutcome | None:
    """What one arm answered; None where it has no answer to give (a majority of texts)."""
    arm = ARMS[name]
    if arm.task_adapter is None:
        return _majority(run)
    if arm.user_adapter in OF_PIECES:
        return _of_pieces(run, name, run.kitchens[arm.task_adapter].make(arm.user_adapter))
    keys = _adapters(run, name)
    bank = Bank.on(run.bases[arm.task_adapter], run.store.record)
    predictions, seconds = _answers(run, name, bank, keys)
    made = set(keys.values())
    seconds += _training_seconds(run, made)
    losses = _losses(run, arm.task_adapter, bank, keys)
    return ArmOutcome(predictions, seconds, _bytes_per_person(run, made), losses=losses)


def _of_pieces(run: _Run, name: str, made: Sequence[Made]) -> ArmOutcome:
    """An arm of pieces: the same with every seed; its time is one seed's."""
    answered = [_answers(run, name, each.bank, each.keys) for each in made]
    run.about_pieces |= {name: dict(made[0].about)} if made[0].about else {}
    seconds = sum(each.seconds + seconds for each, (_, seconds) in zip(made, answered, strict=True)) / len(made)
    first, *others = (predictions for predictions, _ in answered)
    variant = ARMS[name].task_adapter
    assert variant is not None
    losses = mean_losses([_losses(run, variant, each.bank, each.keys) for each in made])
    return ArmOutcome(first, seconds, made[0].bytes_per_person, tuple(others), losses)


def _answers(run: _Run, name: str, bank: Bank, keys: Mapping[str, str]) -> tuple[dict[str, str], float]:
    """(every target's answers by query key, seconds), each with the adapter of their key in the bank."""
    variant, plan = ARMS[name].task_adapter, run.plan
    assert variant is not None
    base, began = run.bases[variant], time.monotonic()
    questions = _questions(run, variant, keys)
    with _stage(run, f"answers · {name}", len(questions)) as step:
        asked = time.monotonic()
        completions = answer(
            Engine(base, bank),
            plan.task,
            questions,
            plan.recipe(variant, plan.stage_2).max_tokens(base),
            free=plan.free,
            sampling=plan.sampling,
            on_done=lambda done: step(done, "", (time.monotonic() - asked) * (len(questions) - done) / done),
        )
    return {key: c.text for key, c in completions.items()}, time.monotonic() - began


def _losses(run: _Run, variant: TaskVariant, bank: Bank, keys: Mapping[str, str]) -> dict[str, float]:
    """What each true answer costs the model that answers, nats per token, by query key.

    Where a base is small, this tells arms apart long before the answers do: greedy texts share hardly a word with the true
    ones, and a rating is the same median for everybody until a distribution has moved by half.
    """
    base, recipe = run.bases[variant], run.plan.recipe(variant, run.plan.stage_2)
    asked = [(q.key, q.adapter, tokens) for q in _questions(run, variant, keys) for tokens in recipe.render(base, [q.example])]
    # A stack is of one layout, or of one pool.
    kinds: dict[str, list[Any]] = {}
    for one in asked:
        kinds.setdefault(bank.layout_key(one[1]) if one[1] else "", []).append(one)
    found: dict[str, float] = {}
    for part in (some[i : i + _TOGETHER] for some in kinds.values() for i in range(0, len(some), _TOGETHER)):
        adapters = bank.stack([adapter for _, adapter, _ in part])
        losses = example_losses(base, adapters, [(row, tokens) for row, (_, _, tokens) in enumerate(part)])
        found |= {key: loss for (key, _, _), loss in zip(part, losses.tolist(), strict=True)}
    return found


def _majority(run: _Run) -> ArmOutcome | None:
    """The label a person gave most often, or their mean score: no model at all."""
    plan = run.plan
    if not plan.task.paired:
        return None  # its items hold no answers to count
    targets = _targets(run)
    predictions = {}
    for person in run.people:
        guess = majority(plan.task.kind, targets[person.id])
        if guess is None:
            return None
        predictions |= {OwnedQuery(person.id, q.id, q.gold).key: guess for q in person.queries if q.gold is not None}
    return ArmOutcome(predictions)


def _targets(run: _Run) -> dict[str, list[str]]:
    """The true answers in each target's (used) history, oldest first."""
    task, most = run.plan.task, run.plan.max_history
    return {p.id: [task.answer_of(item) for item in newest(of_task(p, task), most)] for p in run.people}


def _adapters(run: _Run, name: str) -> dict[str, str]:
    """Which adapter answers for each target in this arm; empty: none."""
    arm, targets = ARMS[name], run.plan.targets
    assert arm.task_adapter is not None
    if arm.user_adapter == "own":
        return run.own[arm.task_adapter]
    if arm.user_adapter == "stranger":
        own = run.own[arm.task_adapter]
        return {user: own[other] for user, other in derangement(targets, run.plan.stage_2.seed).items()}
    if arm.user_adapter == "pooled":
        return dict.fromkeys(targets, run.pooled[arm.task_adapter])
    return {}


def _questions(run: _Run, variant: TaskVariant, adapters: Mapping[str, str]) -> list[Question]:
    plan = run.plan
    recipe = plan.recipe(variant, plan.stage_2)
    questions = []
    for person in run.people:
        examples = query_examples(person, plan.task, retriever=recipe.retriever, k=recipe.k, seed=recipe.config.seed)
        for query, example in zip(person.queries, examples, strict=True):
            if query.gold is not None:
                questions.append(Question(OwnedQuery(person.id, query.id, query.gold).key, example, adapters.get(person.id)))
    return questions


def _training_seconds(run: _Run, digests: set[str]) -> float:
    """Seconds that these adapters took to train, by their own records: the same for a run that found them ready."""
    return sum(row.stats.get("seconds", 0.0) for row in run.store.adapters() if row.digest in digests)


def _bytes_per_person(run: _Run, digests: set[str]) -> float:
    sizes = [run.store.blob_path(digest).stat().st_size for digest in digests]
    return sum(sizes) / len(run.people)


# ------------------------------------------------------------------------------------------------------------ report


def _evaluation(
    run: _Run, queries: tuple[OwnedQuery, ...], outcomes: Mapping[str, ArmOutcome], seconds: float, about: Mapping[str, Any]
) -> Evaluation:
    plan = run.plan
    owner = {query.key: query.user_id for query in queries}
    golds = {query.key: query.gold for query in queries}
    counted = plan.task.paired and plan.task.kind not in ("text", "list")
    floors = floor_scores(plan.task.kind, _targets(run), golds, owner, plan.task.labels) if counted else {}
    return Evaluation(
        task=plan.task.name,
        kind=plan.task.kind,
        base=run.base.name,
        seed=plan.stage_2.seed,
        seconds=round(seconds, 2),
        queries=queries,
        arms=outcomes,
        labels=plan.task.labels if plan.task.kind == "label" else (),
        floors=floors,
        settings=_settings(run),
        command=about.get("command", ""),
        versions=about.get("versions", {}),
        hardware=about.get("hardware", {}),
    )


def _settings(run: _Run) -> dict[str, Any]:
    pieces = {"pieces": run.about_pieces} if run.about_pieces else {}
    return settings_of(run.base, run.plan) | {"stage_seconds": run.stage_seconds} | pieces
