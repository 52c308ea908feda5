"""A task adapter once more, without a person or an item: who else taught it, and where their histories are.

Lineage says who taught an adapter, and not what; so everybody else who taught it is taken, and all that they have now.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from idiolect.data.readers import merged, read_base_items, read_people
from idiolect.data.tasks import get_task
from idiolect.errors import InputError, NotFoundError
from idiolect.store.downstream import named_in
from idiolect.store.game.leaving import same_source
from idiolect.store.records import Affected
from idiolect.store.store import Store
from idiolect.types import Item, Person

_USUAL_EXAMPLES = 20_000
"""What stage 1 is given where nobody says otherwise; adapters of earlier versions do not say what they were given."""

_LEAVE = "leave it as it is with --leave-task-adapters"


@dataclass(frozen=True)
class Teaching:
    """What one task adapter is trained from again.

    Attributes:
        others: those who are to teach it again, bylines as they stood.
        max_examples: how many examples there are at most; None: no bound.
        data: a file or folder of people; None: they are in the store.
        in_use: the adapter that is used instead of this one, and is to be so again; None: this one is in use.
    """

    digest: str
    task: str
    user_id: str
    item_id: str | None
    others: frozenset[str]
    max_examples: int | None
    data: Path | None
    in_use: str | None = None

    @classmethod
    def of(cls, store: Store, adapter: Affected, user_id: str, item_id: str | None, data: Path | None) -> Teaching:
        """Before anything is deleted: lineage goes with the adapter."""
        taught = {parent.id for parent in store.parents(adapter.digest) if parent.kind == "person"}
        others = taught if item_id is not None else {name for name in taught if not named_in(user_id, name)}
        rows = (row for row in store.adapters(kind="task", task=adapter.task) if row.digest == adapter.digest)
        said = next((row.stats.get("max_examples") for row in rows), None)
        most = _USUAL_EXAMPLES if said is None else int(said) or None  # 0 is how no bound is recorded
        in_use = None
        if not adapter.was_head:
            with suppress(NotFoundError):
                in_use = store.task_head(adapter.task, adapter.base, adapter.variant)
        return cls(adapter.digest, adapter.task, user_id, item_id, frozenset(others), most, data, in_use)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"others": sorted(self.others), "data": None if self.data is None else str(self.data)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Teaching:
        """The same again."""
        data = value["data"]
        return cls(**{**value, "others": frozenset(value["others"]), "data": None if data is None else Path(data)})

    def check(self, store: Store) -> None:
        """Raises InputError, with what to do, unless it can be trained again; also what an unfit file raises."""
        name = f"task adapter {self.digest[:12]} ({self.task}), which user {self.user_id!r} taught,"
        if not self.others:
            raise InputError(f"{name} was taught by nobody else; {_LEAVE}, or let it go for good with --no-rebuild")
        if self.data is None:
            missing, where = store.absent(self.others), "not in the store"
        else:
            found = {person.id for person in self.people(store)} | {author.strip() for author, _ in self.items()}
            missing, where = sorted(self.others - found), f"not in {str(self.data)!r}"
            self._check_item(store)
        if missing:
            raise InputError(
                f"{name} cannot be made again: {len(missing)} of the {len(self.others)} who are to teach it again are {where}; "
                f"give what it was trained from with --data FILE, or {_LEAVE}"
            )

    def _check_item(self, store: Store) -> None:
        """The item of somebody who is not in the store must be in the data, or it is a slip."""
        if self.item_id is None or self.data is None or store.has_person(self.user_id):
            return
        people = (person for person in read_people(self.data, get_task(self.task)) if named_in(self.user_id, person.id))
        in_histories = any(item.id == self.item_id for person in people for item in person.history)
        if not in_histories and not any(self._is_gone(author, item) for author, item in self._further()):
            raise NotFoundError(
                f"user {self.user_id!r} has no item {self.item_id!r}, neither in the store nor in {str(self.data)!r}"
            )

    def people(self, store: Store) -> Iterator[Person]:
        """Everybody else who taught it, and the person without the item, where only that is forgotten."""
        task = get_task(self.task)
        stored = (store.person(user) for user in sorted(self.others))
        for person in stored if self.data is None else merged(read_people(self.data, task)):
            if person.id not in self.others:
                continue
            kept = tuple(item for item in person.history if not self._is_gone(person.id, item))
            for item in kept:
                task.check_item(item)
            yield replace(person, history=kept)

    def items(self) -> Iterator[tuple[str, Item]]:
        """Further items, which stand beside a folder's people, of those who taught it, and of nobody."""
        for author, item in self._further():
            known = not author.strip() or author.strip() in self.others
            if known and not self._is_gone(author, item):
                yield author, item

    def _further(self) -> Iterator[tuple[str, Item]]:
        return read_base_items(self.data) if self.data is not None and self.data.is_dir() else iter(())

    def _is_gone(self, author: str, item: Item) -> bool:
        return self.item_id is not None and item.id in same_source(self.item_id) and named_in(self.user_id, author)
