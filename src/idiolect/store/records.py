"""What the store answers with. Frozen values; no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

ParentKind = Literal["item", "person", "task_adapter", "adapter", "base", "piece"]


@dataclass(frozen=True, slots=True)
class Added:
    """What one person's import changed.

    Attributes:
        n_items: items that were new.
        n_duplicates: items that were there already, with the same content.
        n_queries: queries that were new.
        n_conflicts: items and queries whose id was there with other content; the first one was kept.
    """

    n_items: int
    n_duplicates: int
    n_queries: int
    n_conflicts: int = 0


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import of many people changed; the counts are those of `Added`.

    Attributes:
        n_people: people given, each counted once.
        n_new_people: people who were not in the store before.
    """

    n_people: int
    n_new_people: int
    n_items: int
    n_duplicates: int
    n_queries: int
    n_conflicts: int


@dataclass(frozen=True, slots=True)
class PersonSummary:
    """One line of a list of people; the dates are those of the first and the last dated item."""

    id: str
    n_items: int
    n_queries: int
    first_date: str | None
    last_date: str | None


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was removed with a person.

    Attributes:
        made_from: adapters of others (task adapters) that were made from this person's items too, and still are.
        scrubbed: False where another process was reading: SQLite's write-ahead log then keeps old pages until it ends.
    """

    n_items: int
    n_queries: int
    n_adapters: int
    n_blobs: int
    made_from: tuple[str, ...] = ()
    scrubbed: bool = True


@dataclass(frozen=True, slots=True)
class Swept:
    """What `sweep` removed."""

    n_orphans: int
    n_temporary: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Parent:
    """One thing that an adapter was made from.

    Attributes:
        id: an item's id, a person's id, a digest, or a base's fingerprint.
        user_id: whose item it is; item ids are unique within one person only.
    """

    kind: ParentKind
    id: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """One line of a list of adapters."""

    digest: str
    kind: Literal["user", "task"]
    user_id: str | None
    task: str
    base: str
    base_name: str
    variant: str
    rank: int
    size_bytes: int
    created: datetime
    is_head: bool
    run_id: str | None = None
    stats: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunRow:
    """One run; `status` is "running" until it is ended."""

    id: str
    kind: str
    status: str
    settings: Mapping[str, Any]
    summary: Mapping[str, Any]
    started: datetime
    ended: datetime | None
