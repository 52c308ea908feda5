"""What the store answers with. Frozen values; no SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from idiolect.types import AdapterKind, AdapterManifest

ParentKind = Literal["item", "person", "task_adapter", "adapter", "base", "piece"]
ExportKind = Literal["adapter", "pool"]
ForgettingState = Literal["begun", "deleted", "rebuilt", "done"]


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
class Affected:
    """An adapter that was unpublished because of something that it was made from.

    Attributes:
        manifest: what it was, so that it can be made again from what is left.
        was_head: whether it was in use; what was in use before it, if anything, now is again.
        why: what it was made from, in a few words.
    """

    user_id: str | None
    digest: str
    kind: AdapterKind
    task: str
    base: str
    variant: str
    was_head: bool
    manifest: AdapterManifest
    why: str = ""


@dataclass(frozen=True, slots=True)
class ExportRow:
    """One adapter's folder or one pool's file, written to a place outside the store.

    Attributes:
        digest: the adapter's or the pool's; it may be gone since.
        user_id: whose adapter it is; None: nobody's, or a pool.
        stale: whether something in it was withdrawn.
    """

    kind: ExportKind
    digest: str
    user_id: str | None
    place: str
    created: datetime
    stale: bool


@dataclass(frozen=True, slots=True)
class Revocation:
    """What became of pieces that were withdrawn, and of everything made of them.

    Attributes:
        pieces: their ids, in ascending order; also of pieces cut from an adapter that had to go.
        affected: adapters that cited them (and adapters made from those), by person and then by age; all are unpublished.
        stale_exports: folders and files that hold them; the store cannot remove these.
        scrubbed: False where another process was reading: SQLite's write-ahead log then keeps old pages until it ends.
    """

    pieces: tuple[int, ...] = ()
    affected: tuple[Affected, ...] = ()
    stale_exports: tuple[ExportRow, ...] = ()
    scrubbed: bool = True


@dataclass(frozen=True, slots=True)
class Shared:
    """What sharing changed.

    Attributes:
        ids: the pieces', in the order given.
        revoked: what the person had shared in this pool before and shares no more; None if that is nothing.
    """

    ids: tuple[int, ...]
    revoked: Revocation | None = None


@dataclass(frozen=True, slots=True)
class PiecesImported:
    """What an import of pieces changed.

    Attributes:
        n_known: pieces that were there already.
        n_withdrawn: pieces that were left out, because their owner withdrew them from this store.
    """

    n_new: int
    n_known: int
    n_withdrawn: int = 0


@dataclass(frozen=True, slots=True)
class PoolRow:
    """One line of a list of pools.

    Attributes:
        key: what all its pieces have in common; the digest is of this.
        n_people: how many people of this store share in it.
        n_origins: from how many files pieces were imported.
        size_bytes: of all bodies together.
    """

    digest: str
    key: Mapping[str, Any]
    n_pieces: int
    n_people: int
    n_origins: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredPiece:
    """One piece as it is shared: nothing in it says whose it is."""

    id: int
    module: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PieceRow:
    """One piece as its owner sees it.

    Attributes:
        pool: the pool's digest.
        adapter: digest of the adapter that it was cut from; None if that is gone.
    """

    id: int
    pool: str
    module: str
    adapter: str | None
    created: datetime


@dataclass(frozen=True, slots=True)
class Deletion:
    """What was removed with a person.

    Attributes:
        n_adapters: the person's own.
        n_blobs: files, also those of other people's adapters that had to go.
        n_pieces: pieces withdrawn, see `Revocation`.
        affected: other people's adapters that cited them; all are unpublished.
        stale_exports: folders and files that hold the person's adapters or pieces. Those of the person's adapters, also of
            ones that had gone before, are named here for the last time.
        made_from: adapters of others that were made from this person's items too (task adapters), or are copies of one of
            this person's adapters, and still are.
        scrubbed: False where another process was reading: SQLite's write-ahead log then keeps old pages until it ends.
        evaluations: folders that hold answers to the person's queries; named here for the last time.
    """

    n_items: int
    n_queries: int
    n_adapters: int
    n_blobs: int
    made_from: tuple[str, ...] = ()
    scrubbed: bool = True
    n_pieces: int = 0
    affected: tuple[Affected, ...] = ()
    stale_exports: tuple[ExportRow, ...] = ()
    evaluations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GonePiece:
    """A piece that is downstream of what is forgotten. user_id: whose it is; None: it came in a file."""

    id: int
    pool: str
    user_id: str | None


@dataclass(frozen=True, slots=True)
class Downstream:
    """A person, or one item of theirs, and everything in the store that was made from it, however many steps away.

    Attributes:
        here: whether the person is in the store; else they are known only as somebody who taught a task adapter.
        adapters: by person and then by age.
        left: task adapters that stay although the person taught them, because the caller said so.
        exports: folders and files outside the store that hold some of it.
        evaluations: folders outside the store with answers to the person's queries.
        key: what the person's files are encrypted with; None: they are not.
    """

    user_id: str
    item_id: str | None
    here: bool
    n_items: int
    n_queries: int
    adapters: tuple[Affected, ...]
    left: tuple[Affected, ...]
    pieces: tuple[GonePiece, ...]
    exports: tuple[ExportRow, ...]
    evaluations: tuple[str, ...]
    key: str | None


@dataclass(frozen=True, slots=True)
class ForgettingRow:
    """A request to forget, as the store remembers it.

    Attributes:
        user_id, item_id, plan: only while it is not finished.
        receipt: SHA-256 of the receipt's file, once there is one.
    """

    request: str
    user_id: str | None
    item_id: str | None
    state: ForgettingState
    plan: Mapping[str, Any]
    receipt: str | None
    began: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True)
class Encrypted:
    """What encrypting a store did. damaged: digests of adapters whose file is not what was published."""

    n_sealed: int
    n_already: int
    damaged: tuple[str, ...] = ()


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
        id: an item's id, a person's id, a digest, a base's fingerprint, or a piece's id in decimal.
        user_id: whose item it is; item ids are unique within one person only.
    """

    kind: ParentKind
    id: str
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class AdapterRow:
    """One line of a list of adapters."""

    digest: str
    kind: AdapterKind
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
