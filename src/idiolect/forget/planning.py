"""What forgetting works with, how it is asked for, and what is to become of everything that it reaches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from idiolect.data.tasks import get_task
from idiolect.errors import ConfigError, NotFoundError
from idiolect.forget.closure import Action, Choice, Closure, closure_of
from idiolect.forget.teaching import Teaching
from idiolect.store.game.leaving import same_source
from idiolect.store.records import Affected, Downstream
from idiolect.store.store import Store

if TYPE_CHECKING:
    from idiolect.forget.rebuilding import Based
    from idiolect.pieces.newcomers import AssemblyReport

OnStep = Callable[[str, int, int], None]
"""(what is being done, how many are done, how many there are)."""


@dataclass(frozen=True)
class Means:
    """What forgetting works with.

    Attributes:
        based: the base with a task adapter merged in; called only where something is to be trained.
        reassemble: assembles people's adapters anew.
        drop: takes adapters out of memory.
        at: called with the name of each step that is done; tests cut runs off there.
    """

    store: Store
    based: Based
    reassemble: Callable[[Sequence[Affected]], list[AssemblyReport]]
    drop: Callable[[Sequence[str]], None] = lambda digests: None
    on_step: OnStep = lambda what, done, total: None
    at: Callable[[str], None] = lambda step: None


@dataclass(frozen=True)
class Options:
    """How to forget.

    Attributes:
        data: what task adapters were trained from, where that is not in the store.
        leave_task_adapters: leave those as they are that the person taught, with all that stands on them.
        rebuild: make again what was in use; without it, all of it only goes.
        receipt: where the receipt goes; None: `forget-REQUEST.json` in the working folder.
    """

    data: str | Path | None = None
    leave_task_adapters: bool = False
    rebuild: bool = True
    receipt: str | Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; paths in full, since the next process may stand elsewhere."""
        places = {"data": self.data, "receipt": self.receipt}
        full = {name: None if place is None else str(Path(place).expanduser().absolute()) for name, place in places.items()}
        return full | {"leave_task_adapters": self.leave_task_adapters, "rebuild": self.rebuild}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> Options:
        """The same again."""
        places = {name: None if value[name] is None else Path(value[name]) for name in ("data", "receipt")}
        return cls(**{**value, **places})


@dataclass(frozen=True)
class Planned:
    """What is to be done. teachings: what each task adapter is trained from again."""

    found: Downstream
    closure: Closure
    teachings: tuple[Teaching, ...]


def plan(means: Means, user_id: str, item_id: str | None, options: Options) -> Planned:
    """What a request reaches, and what becomes of it. Changes nothing.

    Raises:
        PersonNotFound, NotFoundError: there is no such person or item.
        InputError, MismatchError: a task adapter that is downstream cannot be made again; says what to do.
    """
    found = means.store.downstream(user_id, item_id)
    if item_id is not None and not found.here and (options.leave_task_adapters or options.data is None):
        raise NotFoundError(
            f"user {user_id!r} has no items in the store; the item can only be taken out of what they taught: give what that "
            "was trained from with --data FILE"
        )
    if options.leave_task_adapters:
        tasks = [one.digest for one in found.adapters if one.kind == "task"]
        found = means.store.downstream(user_id, item_id, tasks)
    return plan_for(means, found, options)


def plan_for(means: Means, found: Downstream, options: Options) -> Planned:
    """What becomes of everything that was found."""
    choice, teachings = _chosen(means, found, options) if options.rebuild else (Choice(notes=_not_asked(found)), ())
    return Planned(found, closure_of(found, choice, [str(folder) for folder in gates_of(means.store)]), teachings)


def _not_asked(found: Downstream) -> dict[str, str]:
    return {one.digest: "not made again, as asked" for one in found.adapters if one.was_head}


def _chosen(means: Means, found: Downstream, options: Options) -> tuple[Choice, tuple[Teaching, ...]]:
    """What is made again: what others or the person use, and what that stands on."""
    gone = found.user_id if found.item_id is None else None
    used = [one for one in found.adapters if one.was_head and one.user_id not in (None, gone)]
    under = {one.manifest.task_adapter for one in used}
    tasks = [one for one in found.adapters if one.kind == "task" and (one.was_head or one.digest in under)]
    if not used and not tasks:
        return Choice(), ()
    base = means.based(None)
    from idiolect.forget.rebuilding import why_not

    data = None if options.data is None else Path(options.data)
    teachings = tuple(Teaching.of(means.store, one, found.user_id, found.item_id, data) for one in tasks)
    for one, teaching in zip(tasks, teachings, strict=True):
        if reason := why_not(base, one.manifest):
            raise ConfigError(f"task adapter {one.digest[:12]}, which user {found.user_id!r} taught, was {reason}")
        teaching.check(means.store)
    actions: dict[str, Action] = {one.digest: "retrain" for one in tasks}
    notes: dict[str, str] = {}
    for one in used:
        reason = why_not(base, one.manifest) or _nothing_left(means.store, found, one)
        if reason:
            notes[one.digest] = reason
        else:
            actions[one.digest] = "retrain" if one.kind == "user" else "reassemble"
    return Choice(actions, notes), teachings


def _nothing_left(store: Store, found: Downstream, one: Affected) -> str | None:
    """Why there is nothing to make an adapter from; None: there is something."""
    gone = {other.digest for other in found.adapters}
    if one.kind == "assembled" and one.manifest.task_adapter in gone:
        return f"its pool goes whole, so let people share again, then: idiolect pieces assemble --all --task {one.task}"
    if found.item_id is None or one.user_id != found.user_id:
        return None
    gone_items = same_source(found.item_id)
    left = any(item.id not in gone_items for item in get_task(one.task).own(store.history(found.user_id)))
    return None if left else "nothing is left of the history"


def gates_of(store: Store) -> list[Path]:
    """Where evaluations keep gates, if there are any: no file says whose they are, and all can be trained again."""
    folder = Path(store.place) / "gates"
    return [folder] if "://" not in store.place and folder.is_dir() else []
