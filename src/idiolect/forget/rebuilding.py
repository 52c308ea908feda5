"""An adapter once more: from its manifest to the recipe that made it, and from the recipe to the store.

A manifest holds every setting that an adapter depends on, so the same recipe on what is left of the history makes exactly what
would have come to be had the rest never been there. People are trained one at a time: nothing of one run is in another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import Tensor

from idiolect.config import TrainConfig
from idiolect.data.tasks import get_task
from idiolect.errors import EmptyHistory
from idiolect.forget.teaching import Teaching
from idiolect.model.base import Base
from idiolect.model.files import read_record
from idiolect.pieces.newcomers import by_order
from idiolect.store.records import Affected
from idiolect.store.store import Store
from idiolect.train.stages import OnProgress, Recipe, history_manifest, render_history, stage_one, stage_two
from idiolect.train.trainer import Job, train
from idiolect.types import AdapterManifest

Based = Callable[[str | None], Base]
"""The base with a task adapter merged in, by its digest; None: the bare base."""

_OURS = ("rank", "alpha", "targets")


def recipe_again(manifest: AdapterManifest) -> Recipe:
    """How an adapter was trained."""
    said = manifest.settings
    values = {name: said[name] for name in TrainConfig.model_fields if name in said}
    if manifest.kind == "user":  # before there was such a setting, everybody began with numbers of their own
        values.setdefault("start", "own")
    config = TrainConfig.build(**{**values, "targets": tuple(manifest.targets), "seed": manifest.seed})
    return Recipe(get_task(manifest.task), config, manifest.retriever, manifest.k, said.get("max_history"))


def why_not(base: Base, manifest: AdapterManifest) -> str | None:
    """Why an adapter cannot be made again on this base, with what to do; None: it can."""
    said = manifest.settings
    if manifest.base != base.fingerprint:
        return f"made on base {manifest.base_name}, and not made again here: open the store with --base {manifest.base_name}"
    if said.get("tokenizer", base.tokenizer.digest) != base.tokenizer.digest:
        return "made with another tokenizer or chat template, and not made again here: put those files back"
    if (dtype := said.get("dtype", base_dtype(base))) != base_dtype(base):
        return f"made in {dtype}, and not made again here: open the store with --dtype {dtype}"
    if "imported" in said:
        return "imported, so nobody knows how it was trained: import one that was made without it"
    if manifest.kind in ("user", "task") and "epochs" not in said:
        return "made in a way that its manifest does not tell, and not made again: train it anew"
    return None


def base_dtype(base: Base) -> str:
    """As manifests spell it."""
    return str(base.dtype).removeprefix("torch.")


def task_again(base: Base, store: Store, old: Affected, teaching: Teaching, on_progress: OnProgress | None = None) -> str:
    """Train a task adapter without whoever is forgotten, and put it into use; its digest.

    Raises:
        EmptyHistory: nothing is left to train on.
    """
    recipe = recipe_again(old.manifest)
    people, items = teaching.people(store), teaching.items()
    return stage_one(base, store, recipe, people, items, max_examples=teaching.max_examples, on_progress=on_progress)


def user_again(base: Base, store: Store, old: Affected, on_progress: OnProgress | None = None) -> str:
    """Train a person's adapter from what is left of their history; its digest.

    Args:
        base: with the task adapter merged in that is to be under it.

    Raises:
        IdiolectError: it cannot be trained.
    """
    assert old.user_id is not None
    report = stage_two(base, store, recipe_again(old.manifest), [old.user_id], on_progress=on_progress)
    if problem := report.problems.get(old.user_id):
        raise EmptyHistory(problem)
    return report.adapters[old.user_id]


def grouped(affected: Iterable[Affected]) -> list[list[Affected]]:
    """Assembled adapters that one order makes together; a person comes once in each group."""
    groups: list[list[Affected]] = []
    given = list(affected)
    for _, users in by_order(given):
        wanted = set(users)
        mine = [one for one in given if one.user_id in wanted and not any(one in group for group in groups)]
        first = {one.user_id: one for one in reversed(mine)}
        groups.append(list(first.values()))
    return groups


@dataclass(frozen=True)
class Compared:
    """An adapter, trained once more beside the stored one. difference: the greatest of any number; 0: equal bit by bit."""

    digest: str
    same_manifest: bool
    difference: float

    @property
    def equal(self) -> bool:
        """Whether nothing tells them apart."""
        return self.same_manifest and self.difference == 0


def compare(base: Base, store: Store, digest: str) -> Compared:
    """Train a user adapter once more from the history as it is, publish nothing, and compare.

    Raises:
        NotFoundError, EmptyHistory: the person or the adapter is not there any more.
        IdiolectError: it cannot be trained.
    """
    manifest = store.manifest(digest)
    recipe = recipe_again(manifest)
    assert manifest.user_id is not None
    person = store.person(manifest.user_id)
    same = history_manifest(base, recipe, person) == manifest
    rows: list[Tensor] = []
    train(base, [Job(person.id, render_history(base, recipe, person))], recipe.config, lambda done: rows.append(done.row))
    stored = read_record(store.record(digest)).row
    fits = rows[0].shape == stored.shape
    difference = float((rows[0].float() - stored.float()).abs().max()) if fits else float("inf")
    return Compared(digest, same, difference)
