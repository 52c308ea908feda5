"""One short method per use-case: the only place where store, base, training, engine and evaluation meet.

    with Idiolect.open("my-store") as house:
        house.import_history("reviews.jsonl")
        house.train_task("LaMP-3", "population.jsonl")
        house.train(["ana"], "LaMP-3")
        print(house.generate("ana", "A quiet film about …", task="LaMP-3").text)

The command line and the server call nothing else. torch is loaded by the first method that needs the base.
"""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idiolect.data.readers import merged, read_people
from idiolect.data.tasks import Task, get_task
from idiolect.errors import EmptyHistory, InputError, PersonNotFound
from idiolect.evaluating import Evaluating
from idiolect.forget.answers import take_out
from idiolect.game import recounting
from idiolect.house import Stage, TrainingOptions, checked, further_items, need_torch
from idiolect.store.adapters import PLAIN
from idiolect.store.records import AdapterRow, Deletion
from idiolect.types import Completion, Person, Query

if TYPE_CHECKING:
    from torch import Tensor

    from idiolect.engine.local import Engine
    from idiolect.engine.sampling import Sampling
    from idiolect.forget.desk import Forgetting
    from idiolect.forget.forgetting import Forgotten
    from idiolect.forget.planning import OnStep, Options
    from idiolect.model.adapter import Layout
    from idiolect.model.base import Base
    from idiolect.pieces.desk import Pieces
    from idiolect.train.stages import OnProgress, Recipe, StageReport
    from idiolect.unlearn.desk import Unlearn


class Idiolect(Evaluating):
    """A store and a base, and everything that can be done with them."""

    @cached_property
    def _engines(self) -> dict[str | None, Engine]:
        """One engine per task adapter: merging it, and people's rows in the bank, are paid for once."""
        return {}

    # -- history ---------------------------------------------------------------------------------------------------

    def delete_person(self, user: str) -> Deletion:
        """Forget a person: items, queries, adapters, and their rows in memory.

        Others' adapters in use that cited the person's pieces are gone too; `pieces.reassemble` makes them anew.
        """
        digests = [row.digest for row in self.store.adapters(user_id=user)]
        deletion = self.store.delete_person(user)
        unchanged = [place for place in deletion.evaluations if take_out(Path(place), user, None)]
        self.store.sweep(0)  # a killed run may have left a file of theirs that no row names; nobody publishes meanwhile
        if "://" not in self.store.place:  # an evaluation's gates: no file says whose they are, and all can be trained again
            shutil.rmtree(Path(self.store.place) / "gates", ignore_errors=True)
        self._forget([*digests, *(one.digest for one in deletion.affected)])
        self._refresh_pools()
        recounting.finish(self.store.game, time.time())
        return replace(deletion, evaluations=tuple(unchanged))

    @cached_property
    def forgetting(self) -> Forgetting:
        """Where a person, or one item of theirs, is forgotten exactly. Needs torch only to make things again."""
        from idiolect.forget.desk import Forgetting
        from idiolect.forget.planning import Means

        def drop(digests: Sequence[str]) -> None:
            self._forget(digests)
            self._refresh_pools()

        return Forgetting(Means(self.store, self._based, lambda affected: self.pieces.reassemble(affected), drop))

    def forget(
        self, user: str, item: str | None = None, options: Options | None = None, *, on_step: OnStep | None = None
    ) -> Forgotten:
        """Forget a person, or one item of theirs, with everything that was made from it (see `Forgetting.forget`)."""
        done = self.forgetting.forget(user, item, options, on_step=on_step)
        recounting.finish(self.store.game, time.time())
        return done

    # -- training --------------------------------------------------------------------------------------------------

    def train_task(
        self,
        task: str,
        data: str | Path | None = None,
        options: TrainingOptions | None = None,
        *,
        users: Sequence[str] = (),
        exclude: Iterable[str] = (),
        max_examples: int | None = 20_000,
        on_progress: OnProgress | None = None,
    ) -> str:
        """Stage 1: the task adapter, from base people only; its digest.

        Args:
            data: a file or folder of base people (and their base.jsonl). People who have an adapter of their own in the
                store, or whom `exclude` names, are left out.
            users: base people in the store, by id; used where there is no `data`.
        """
        need_torch()
        from idiolect.train.stages import by_any, stage_one

        recipe = self._fitted(self._recipe(task, options, "task"), options, "task")
        left_out = {*exclude, *(row.user_id for row in self.store.adapters(kind="user") if row.user_id)}
        people = self._base_people(recipe.task, data, users)
        kept = [person for person in people if person.id not in left_out]
        items = [pair for pair in further_items(data) if not by_any(pair[0], left_out)]
        with self._alone(), self._run("train-task", recipe):
            return stage_one(self.base, self.store, recipe, kept, items, max_examples=max_examples, on_progress=on_progress)

    def train(
        self,
        users: Sequence[str] | None,
        task: str,
        options: TrainingOptions | None = None,
        *,
        bare: bool = False,
        on_progress: OnProgress | None = None,
    ) -> StageReport:
        """Stage 2: an adapter for each of these people (None: everybody), trained together.

        Args:
            bare: train on the base itself, without a task adapter under it.

        Raises:
            TaskAdapterNotFound: stage 1 was not run, and `bare` was not asked for.
            PersonNotFound, EmptyHistory, TaskFieldError …: only one person was asked for, and cannot be trained.
        """
        need_torch()
        from idiolect.train.stages import stage_two, task_base

        recipe = self._recipe(task, options, "user")
        chosen = [p.id for p in self.people()] if users is None else list(dict.fromkeys(users))
        for user in chosen:
            self.store.require_person(user)
        if not chosen:
            raise EmptyHistory("there is nobody in the store; import a history first: idiolect history import FILE")
        for user in chosen if len(chosen) == 1 else ():
            self._check_trainable(user, recipe.task)
        base = self.base if bare else task_base(self.base, self.store, recipe)
        recipe = self._fitted(recipe, options, "user")
        self._refuse_base_people(base.task_adapter, chosen)
        with self._alone(), self._run("train", recipe) as run_id:
            return stage_two(base, self.store, recipe, chosen, run_id=run_id, on_progress=on_progress)

    # -- answering -------------------------------------------------------------------------------------------------

    def generate(
        self,
        user: str | None,
        text: str,
        *,
        task: str,
        variant: str = PLAIN,
        plain: bool = False,
        free: bool = False,
        sampling: Sampling | None = None,
        max_new_tokens: int | None = None,
    ) -> Completion:
        """Answer one text of a task as a person would.

        Args:
            user: whose adapter answers; None: nobody's.
            text: the content asked about (an article, a review …), or a whole LaMP input.
            variant: which of the person's adapters, e.g. "k0" or "bm25-k1".
            plain: the same prompt without the person's adapter, for comparison.
            free: decode a label token by token instead of scoring the label set.
        """
        need_torch()
        from idiolect.engine.answers import Question, answer
        from idiolect.engine.sampling import GREEDY

        chosen = get_task(task)
        digest = self.store.head(user, task=chosen.name, base=self.base.fingerprint, variant=variant) if user else None
        engine, settings = self._engine(chosen, digest, variant)
        example = self._example(chosen, user, text, digest)
        question = Question("query", example, None if plain else digest)
        max_tokens = min(int(settings.get("max_tokens", self.base.context)), self.base.context)
        done = answer(
            engine, chosen, [question], max_tokens, free=free, sampling=sampling or GREEDY, max_new_tokens=max_new_tokens
        )
        return done["query"]

    # -- adapters --------------------------------------------------------------------------------------------------

    def adapters(self, user: str | None = None, task: str | None = None) -> list[AdapterRow]:
        """Adapters in the store, newest first."""
        return self.store.adapters(user_id=user, task=get_task(task).name if task else None)

    def rollback(self, user: str, task: str, variant: str = PLAIN) -> str:
        """Go back to the person's adapter before the one in use; its digest."""
        return self.store.rollback(user, get_task(task).name, self.base.fingerprint, variant)

    def export(self, digest: str, folder: str | Path, *, alone: bool = False) -> Path:
        """Write an adapter as a PEFT folder that loads on the raw base.

        A user adapter was trained on the base with its task adapter merged in; PEFT knows only the raw base. So the two are
        written as one adapter (ranks add up), unless `alone` asks for the user's part only.

        Raises:
            AdapterNotFound: there is no such adapter, or it was withdrawn meanwhile; nothing is then written.
            BaseMismatch, FileFormatError: it is another base's, or the folder is there or cannot be written.
        """
        need_torch()
        from idiolect.model.algebra import concat
        from idiolect.model.files import write_peft

        digest = self.store.resolve(digest)
        manifest = self.store.manifest(digest)
        sites = self.base.model.sites()
        parts = [digest] if alone or manifest.task_adapter is None else [manifest.task_adapter, digest]
        loaded = []
        for part in parts:
            if self.store.manifest(part).base != self.base.fingerprint:
                self.base.accept(manifest, digest)
            loaded.append((*self._plain(part), 1.0))
        layout, row = concat(sites, loaded) if len(loaded) > 1 else loaded[0][:2]
        extra = {**manifest.to_dict(), "digest": digest, "includes_task_adapter": len(loaded) > 1}
        cited = [int(parent.id) for parent in self.store.parents(digest) if parent.kind == "piece"]
        place, name = Path(folder), str(self._base_name)
        self.store.export(digest, str(place.absolute()), "adapter", cited, lambda: write_peft(place, layout, row, name, extra))
        return place

    def _plain(self, digest: str) -> tuple[Layout, Tensor]:
        """A stored adapter as numbers, (layout, row (P,)); one that was assembled is put together from its pieces."""
        from idiolect.model.files import from_record, layout_of
        from idiolect.model.pieces import read_assembled

        sites, source = self.base.model.sites(), self.store.record(digest)
        if self.store.manifest(digest).kind == "assembled":
            self._refresh_pools()
            assembled, _ = read_assembled(source, sites)
            return self.pieces.pool(assembled.key).adapter(assembled.entries, assembled.combine)
        record, row = from_record(source)
        return layout_of(record, sites), row

    def import_adapter(self, user: str, folder: str | Path, *, task: str, bare: bool = False) -> str:
        """Take a PEFT folder in as a new version of a person's adapter, and put it into use; its digest.

        Args:
            folder: adapter_config.json and adapter_model.safetensors; with the idiolect.json of an export, that says what
                it goes on top of, and what prompts it was trained on.
            bare: put it on the base itself, not on the task adapter in use.

        Raises:
            PersonNotFound: there is no such person.
            FileFormatError, TargetMismatch, ShapeError, BaseMismatch, InputError: it is not for this base, person or task.
            TaskAdapterNotFound: there is no task adapter to put it on, and `bare` was not asked for.
        """
        need_torch()
        from idiolect.train import imports

        chosen = get_task(task)
        if not self.store.has_person(user):
            raise PersonNotFound(
                f"there is no person {user!r} in the store; import their history first: "
                f"idiolect history import FILE --user {shlex.quote(user)}"
            )
        found = imports.read_folder(Path(folder), self.base)
        found.check(self.base, user, chosen)
        under = found.binding(self.base, self.store, chosen, bare)
        self._refuse_base_people(under, [user])
        return imports.publish(found, self.base, self.store, user, chosen, under)

    # -- pieces of adapters ----------------------------------------------------------------------------------------

    @cached_property
    def pieces(self) -> Pieces:
        """Where people share pieces of their adapters, and newcomers get theirs assembled from them."""
        need_torch()
        from idiolect.pieces.desk import Pieces

        return Pieces(self.store, self._based, self._forget, self._forget_pool)

    # -- unlearning ------------------------------------------------------------------------------------------------

    @cached_property
    def unlearning(self) -> Unlearn:
        """Where knowledge is unlearned that lives in the base, a task adapter or somebody's adapter. Approximate."""
        need_torch()
        from idiolect.unlearn.desk import Unlearn

        return Unlearn(self.store, self._based, self._plain)

    # -- what the rooms above are given ----------------------------------------------------------------------------

    def _based(self, task_adapter: str | None) -> Base:
        """The base with a task adapter merged in, or the bare one."""
        return self.base if task_adapter is None else self._engine_on(task_adapter).base

    def _forget(self, digests: Iterable[str]) -> None:
        """Drop adapters that are no more from memory."""
        for digest in digests:
            self._engines.pop(digest, None)  # of a task adapter, with all that stood on it
            for engine in self._engines.values():
                engine.bank.drop(digest)

    def _forget_pool(self, pool: str) -> None:
        """Drop what was assembled from a pool from memory."""
        for engine in self._engines.values():
            engine.bank.drop_pool(pool)

    def _refresh_pools(self) -> None:
        """Drop pools that have changed, and what was assembled from them, from memory."""
        if "pieces" in self.__dict__:
            self.pieces.refresh()

    # -- parts of the above ----------------------------------------------------------------------------------------

    def _recipe(self, task: str, options: TrainingOptions | None, stage: Stage) -> Recipe:
        need_torch()
        from idiolect.train.stages import Recipe

        options = options or TrainingOptions()
        return Recipe(get_task(task), options.config(stage), options.retriever, options.k, options.max_history)

    def _fitted(self, recipe: Recipe, options: TrainingOptions | None, stage: Stage) -> Recipe:
        """The recipe with target modules that this base has."""
        return replace(recipe, config=recipe.config.but(targets=self.modules(stage, options)))

    @contextmanager
    def _run(self, kind: str, recipe: Recipe) -> Iterator[str]:
        """Note in the store that a run began, and how it ended."""
        settings = recipe.config.model_dump(mode="json") | {
            "task": recipe.task.name,
            "retriever": recipe.retriever,
            "k": recipe.k,
        }
        run_id, status = self.store.begin_run(kind, settings), "failed"
        try:
            yield run_id
            status = "done"
        except KeyboardInterrupt:
            status = "stopped"
            raise
        finally:
            self.store.end_run(run_id, status, {})

    def _base_people(self, task: Task, data: str | Path | None, users: Sequence[str]) -> Iterable[Person]:
        if data is not None:
            # LaMP's time split repeats a person's items with each question; in stage 1 they count once.
            return merged(checked(read_people(Path(data), task), task))
        if not users:
            raise InputError(
                "stage 1 needs base people: give --data FILE, or name people in the store who are nobody's targets"
            )
        return (self.store.person(user) for user in users)

    def _refuse_base_people(self, task_adapter: str | None, users: Sequence[str]) -> None:
        """A person who taught the task adapter is no person to measure, or to keep apart from others, on top of it."""
        if task_adapter is None:
            return
        taught = {parent.id for parent in self.store.parents(task_adapter) if parent.kind == "person"}
        if both := [user for user in users if user in taught]:
            raise InputError(
                f"{len(both)} of these people (the first: {both[0]!r}) are base people of the task adapter "
                f"{task_adapter[:12]}; leave them out, or train a task adapter without them (--exclude)"
            )

    def _check_trainable(self, user: str, task: Task) -> None:
        history = self.store.history(user)
        items = task.own(history)
        if not items:
            of = f" of {task.name}" if history else ""
            raise EmptyHistory(
                f"user {user!r} has no items{of}; import a history first: idiolect history import FILE --user {user}"
            )
        for item in items:
            task.check_item(item)

    def _engine(self, task: Task, digest: str | None, variant: str) -> tuple[Engine, dict[str, Any]]:
        """An engine on the base that an adapter was made on; without one, on the newest task adapter there is."""
        from idiolect.errors import TaskAdapterNotFound

        if digest is not None:
            manifest = self.store.manifest(digest)
            under, settings = manifest.task_adapter, dict(manifest.settings)
        else:
            try:
                under = self.store.task_head(task.name, self.base.fingerprint, variant)
            except TaskAdapterNotFound:
                under = None
            settings = dict(self.store.manifest(under).settings) if under else {}
        engine = self._engine_on(under)
        if digest is not None:
            manifest = self.store.manifest(digest)
            engine.base.accept(manifest, digest)
            if manifest.kind == "assembled":
                self._refresh_pools()
        return engine, settings

    def _engine_on(self, task_adapter: str | None) -> Engine:
        """The engine on a task adapter, or on the bare base, with a bank of its own."""
        from idiolect.engine.local import Engine
        from idiolect.model.bank import Bank
        from idiolect.train.stages import with_task_adapter

        if task_adapter not in self._engines:
            base = with_task_adapter(self.base, self.store, task_adapter) if task_adapter else self.base
            bank = Bank.on(base, self.store.record, pools=lambda key: self.pieces.pool(key))
            self._engines[task_adapter] = Engine(base, bank)
        return self._engines[task_adapter]

    def _example(self, task: Task, user: str | None, text: str, digest: str | None) -> Any:
        """The prompt of a text: the same that the adapter was trained on, retrieved items and all."""
        from idiolect.data.retrieval import query_examples

        query = Query("query", text)
        try:
            task.example_from_query(query)  # a whole LaMP input, in whatever words
        except InputError:
            query = Query("query", task.query_input(text))
        if user is None or digest is None:
            return task.example_from_query(query)
        manifest = self.store.manifest(digest)
        person = Person(user, self.store.history(user), (query,))
        return next(iter(query_examples(person, task, retriever=manifest.retriever, k=manifest.k, seed=manifest.seed)))
