"""Withdrawing pieces, and with them everything that was made of them. Runs in the transaction that it is given."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

from idiolect.store import exports, heads, pieces
from idiolect.store.histories import chunked
from idiolect.store.records import Affected, Revocation
from idiolect.store.tables import adapters, doomed, lineage, people
from idiolect.store.tables import pieces as piece_table
from idiolect.types import AdapterManifest

_IDS_PER_QUERY = 500


def revoke(connection: Connection, ids: Iterable[int]) -> Revocation:
    """Delete these pieces, every adapter that cites one, what was made of those in turn, and pieces cut from them.

    Files of adapters are doomed, not yet removed. A head that is deleted uncovers the one below it, and none that stays
    cites a piece that went: it would have been deleted too.
    """
    gone, reached = _closure(connection, set(ids))
    affected = [_affected(connection, row) for row in reached]
    digests = [one.digest for one in affected]
    _unpublish(connection, [row.id for row in reached], digests)
    stale = exports.outdate(connection, digests, gone)
    pieces.remove(connection, gone)
    return Revocation(tuple(sorted(gone)), tuple(affected), tuple(stale))


def _closure(connection: Connection, ids: set[int]) -> tuple[set[int], list[Row[Any]]]:
    """(pieces, adapters by person and age) that these pieces are in, however many steps away."""
    gone, reached = set(ids), {}
    parents: list[tuple[str, str]] = [("piece", str(piece)) for piece in sorted(ids)]
    while parents:
        fresh = {row.id: row for row in _children(connection, parents) if row.id not in reached}
        reached |= fresh
        cut = _cut_from(connection, fresh) - gone
        gone |= cut
        parents = [("piece", str(piece)) for piece in sorted(cut)]
        parents += [(kind, row.digest) for row in fresh.values() for kind in ("adapter", "task_adapter")]
    return gone, sorted(reached.values(), key=lambda row: (row.user_id or "", row.id))


def _children(connection: Connection, parents: Iterable[tuple[str, str]]) -> list[Row[Any]]:
    """Adapters that were made directly from one of these (kind, parent)."""
    by_kind: dict[str, list[str]] = {}
    for kind, parent in parents:
        by_kind.setdefault(kind, []).append(parent)
    a = adapters.c
    columns = (a.id, a.digest, a.kind, a.person, people.c.user_id, a.task, a.base, a.variant, a.manifest)
    query = select(*columns).join(lineage, lineage.c.child == a.id).outerjoin(people, a.person == people.c.id)
    found: list[Row[Any]] = []
    for kind, names in by_kind.items():
        for chunk in chunked(names, _IDS_PER_QUERY):
            found += connection.execute(query.where(lineage.c.kind == kind, lineage.c.parent.in_(chunk)))
    return found


def _cut_from(connection: Connection, keys: Iterable[int]) -> set[int]:
    """Ids of the pieces that were cut from these adapters."""
    found: set[int] = set()
    for chunk in chunked(keys, _IDS_PER_QUERY):
        found.update(connection.execute(select(piece_table.c.piece).where(piece_table.c.adapter.in_(chunk))).scalars())
    return found


def _affected(connection: Connection, row: Row[Any]) -> Affected:
    place = (row.task, row.base, row.variant)
    stack = heads.task_key(*place) if row.person is None else heads.user_key(row.person, *place)
    manifest = AdapterManifest.from_dict(json.loads(row.manifest))
    was_head = heads.head(connection, stack) == row.digest
    return Affected(row.user_id, row.digest, manifest.kind, *place, was_head, manifest)


def _unpublish(connection: Connection, keys: Iterable[int], digests: Iterable[str]) -> None:
    """Delete rows, and with them heads and lineage; the files have to go as soon as that is certain."""
    for chunk in chunked(keys, _IDS_PER_QUERY):
        connection.execute(delete(adapters).where(adapters.c.id.in_(chunk)))
    for chunk in chunked(digests, _IDS_PER_QUERY):
        connection.execute(insert(doomed), [{"digest": digest} for digest in chunk])
