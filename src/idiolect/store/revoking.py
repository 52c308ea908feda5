"""What was made of pieces and adapters, and taking it out. Runs in the transaction that it is given."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, insert, select

from idiolect.store import exports, heads, pieces
from idiolect.store.histories import chunked
from idiolect.store.records import Affected, ExportRow, Revocation
from idiolect.store.tables import adapters, doomed, lineage, people, pools
from idiolect.store.tables import pieces as piece_table
from idiolect.types import AdapterManifest

_IDS_PER_QUERY = 500


def revoke(connection: Connection, ids: Iterable[int]) -> Revocation:
    """Delete these pieces, every adapter that cites one, what was made of those in turn, and pieces cut from them.

    Files of adapters are doomed, not yet removed. A head that is deleted uncovers the one below it, and none that stays
    cites a piece that went: it would have been deleted too.
    """
    reach = reached(connection, ids)
    stale = take_out(connection, reach)
    return Revocation(tuple(sorted(reach.pieces)), reach.adapters, tuple(stale))


@dataclass(frozen=True)
class Reach:
    """Everything that something is in, however many steps away.

    Attributes:
        adapters: by person and then by age; keys: their rows.
    """

    pieces: frozenset[int]
    adapters: tuple[Affected, ...]
    keys: tuple[int, ...]


Seeds = Mapping[int, tuple[Row[Any], str]]
"""Adapters (see `adapter_rows`) by row, and why each of them is one."""


def reached(connection: Connection, ids: Iterable[int] = (), seeds: Seeds | None = None) -> Reach:
    """What was made of these pieces and of these adapters, they themselves included."""
    gone, found = set(ids), dict(seeds or {})
    fresh: Seeds = dict(found)
    parents = [("piece", str(piece)) for piece in sorted(gone)]
    while parents or fresh:
        cut = (_cut_from(connection, fresh) | _pooled_on(connection, [row for row, _ in fresh.values()])) - gone
        gone |= cut
        parents += [("piece", str(piece)) for piece in sorted(cut)]
        parents += [(kind, row.digest) for row, _ in fresh.values() for kind in ("adapter", "task_adapter")]
        fresh = {key: one for key, one in _children(connection, parents).items() if key not in found}
        found |= fresh
        parents = []
    ordered = sorted(found.values(), key=lambda one: (one[0].user_id or "", one[0].id))
    affected = tuple(_affected(connection, row, why) for row, why in ordered)
    return Reach(frozenset(gone), affected, tuple(row.id for row, _ in ordered))


def take_out(connection: Connection, reach: Reach) -> list[ExportRow]:
    """Delete rows of adapters and pieces; folders and files that still hold some of it. The adapters' files are doomed."""
    digests = [one.digest for one in reach.adapters]
    _unpublish(connection, reach.keys, digests)
    stale = exports.outdate(connection, digests, reach.pieces)
    pieces.remove(connection, reach.pieces)
    return stale


def adapter_rows(connection: Connection, *where: ColumnElement[bool]) -> dict[int, Row[Any]]:
    """Adapters for which all of this holds, by row."""
    return {row.id: row for row in connection.execute(_rows().where(*where))}


def _rows() -> Select[Any]:
    a = adapters.c
    columns = (a.id, a.digest, a.kind, a.person, people.c.user_id, a.task, a.base, a.variant, a.manifest)
    return select(*columns).outerjoin(people, a.person == people.c.id)


_WHY = {"piece": "cites a piece that goes", "adapter": "a copy of {}", "task_adapter": "on top of task adapter {}"}


def _children(connection: Connection, parents: Iterable[tuple[str, str]]) -> Seeds:
    """Adapters that were made directly from one of these (kind, parent)."""
    by_kind: dict[str, list[str]] = {}
    for kind, parent in parents:
        by_kind.setdefault(kind, []).append(parent)
    query = _rows().add_columns(lineage.c.parent).join(lineage, lineage.c.child == adapters.c.id)
    found: dict[int, tuple[Row[Any], str]] = {}
    for kind, names in by_kind.items():
        for chunk in chunked(names, _IDS_PER_QUERY):
            for row in connection.execute(query.where(lineage.c.kind == kind, lineage.c.parent.in_(chunk))):
                found.setdefault(row.id, (row, _WHY[kind].format(row.parent[:12])))
    return found


def _pooled_on(connection: Connection, rows: Iterable[Row[Any]]) -> set[int]:
    """Ids of the pieces in pools on these task adapters, also of those that came in files: they were trained on top of it."""
    under = {row.digest for row in rows if row.person is None}
    if not under:
        return set()
    known = connection.execute(select(pools.c.id, pools.c.key))
    keys = [key for key, text in known if json.loads(text).get("task_adapter") in under]
    found: set[int] = set()
    for chunk in chunked(keys, _IDS_PER_QUERY):
        found.update(connection.execute(select(piece_table.c.piece).where(piece_table.c.pool.in_(chunk))).scalars())
    return found


def _cut_from(connection: Connection, keys: Iterable[int]) -> set[int]:
    """Ids of the pieces that were cut from these adapters."""
    found: set[int] = set()
    for chunk in chunked(keys, _IDS_PER_QUERY):
        found.update(connection.execute(select(piece_table.c.piece).where(piece_table.c.adapter.in_(chunk))).scalars())
    return found


def _affected(connection: Connection, row: Row[Any], why: str) -> Affected:
    place = (row.task, row.base, row.variant)
    stack = heads.task_key(*place) if row.person is None else heads.user_key(row.person, *place)
    manifest = AdapterManifest.from_dict(json.loads(row.manifest))
    was_head = heads.head(connection, stack) == row.digest
    return Affected(row.user_id, row.digest, manifest.kind, *place, was_head, manifest, why)


def _unpublish(connection: Connection, keys: Iterable[int], digests: Iterable[str]) -> None:
    """Delete rows, and with them heads and lineage; the files have to go as soon as that is certain."""
    for chunk in chunked(keys, _IDS_PER_QUERY):
        connection.execute(delete(adapters).where(adapters.c.id.in_(chunk)))
    for chunk in chunked(digests, _IDS_PER_QUERY):
        connection.execute(insert(doomed), [{"digest": digest} for digest in chunk])
