"""A store and a base: how the two are opened, and what everything that is done with them needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from idiolect.config import TrainConfig, preset
from idiolect.data.readers import read_base_items, read_people
from idiolect.data.tasks import Task, get_task
from idiolect.errors import DependencyMissing
from idiolect.store.records import ImportReport, PersonSummary
from idiolect.store.store import Store
from idiolect.types import Item, Person, Retriever

if TYPE_CHECKING:
    from idiolect.model.base import Base

Stage = Literal["task", "user"]


@dataclass(frozen=True)
class TrainingOptions:
    """What `train` and `train_task` share.

    Attributes:
        preset: "default", "paper" or "release".
        overrides: single settings that differ from the preset (see config.TrainConfig).
        retriever, k: earlier items put into each prompt.
        max_history: newest items of each person that are trained on; None: all.
    """

    preset: str = "default"
    overrides: tuple[tuple[str, Any], ...] = ()
    retriever: Retriever = "none"
    k: int = 0
    max_history: int | None = None

    def config(self, stage: Stage) -> TrainConfig:
        return preset(self.preset, stage).but(**dict(self.overrides))


class House:
    """A store and a base."""

    def __init__(
        self, store: Store, base: str | Path = "idiolect-tiny", *, device: str | None = None, dtype: str | None = None
    ) -> None:
        self.store = store
        self._base_name, self._device, self._dtype = base, device, dtype

    @classmethod
    def open(
        cls,
        store: str | Path | None = None,
        base: str | Path = "idiolect-tiny",
        *,
        device: str | None = None,
        dtype: str | None = None,
    ) -> Self:
        """Open a store (a folder or a database URL; None: the user's own) for use with a base."""
        return cls(Store.open(store), base, device=device, dtype=dtype)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.store.close()

    @property
    def base_name(self) -> str:
        """What the base was asked for by; loads nothing."""
        return str(self._base_name)

    @cached_property
    def base(self) -> Base:
        """The frozen base, loaded on first use."""
        need_torch()
        from idiolect.model.base import load_base

        return load_base(self._base_name, device=self._device, dtype=self._dtype)

    def modules(self, stage: Stage, options: TrainingOptions | None = None) -> tuple[str, ...]:
        """Target modules of a stage on this base: those asked for; else the preset's, or what this base has in their place."""
        need_torch()
        from idiolect.model.adapter import modules_of

        options = options or TrainingOptions()
        targets = options.config(stage).targets
        return targets if "targets" in dict(options.overrides) else modules_of(self.base.model.sites(), targets)

    def import_history(self, path: str | Path, *, task: str | None = None, user: str | None = None) -> ImportReport:
        """Import people's items and queries from a file or folder: all of it, or nothing.

        Args:
            path: LaMP or OPPU JSON, users.jsonl(.gz), or plain JSONL of items.
            task: check every item for this task's fields.
            user: whose items they are, where the file does not say.
        """
        chosen = get_task(task) if task else None
        people = read_people(Path(path), chosen, user)
        return self.store.import_people(checked(people, chosen) if chosen else people)

    def people(self, limit: int | None = None, offset: int = 0) -> list[PersonSummary]:
        """Everybody in the store."""
        return self.store.people(limit, offset)

    def history(self, user: str) -> tuple[Item, ...]:
        """A person's items, oldest first."""
        return self.store.history(user)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the store for a long job, and first remove what a killed one left behind."""
        with self.store.lock():
            self.store.sweep()
            yield


def checked(people: Iterable[Person], task: Task) -> Iterator[Person]:
    """The same people, every item looked at before any is kept."""
    for person in people:
        for item in task.own(person.history):
            task.check_item(item)
        yield person


def further_items(data: str | Path | None) -> Iterator[tuple[str, Item]]:
    """The base items that stand beside a folder's people; a single file holds people only."""
    return read_base_items(Path(data)) if data is not None and Path(data).is_dir() else iter(())


def need_torch() -> None:
    """Say what to install, where torch is missing."""
    try:
        import torch  # noqa: F401
    except ImportError:
        raise DependencyMissing("this needs torch, which is not installed; install it: pip install 'idiolect[local]'") from None
