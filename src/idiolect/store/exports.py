"""What was written to places outside the store, as rows. Every function runs in the transaction that it is given.

The store cannot take back a folder or a file that it gave away; it can say which ones hold what has been withdrawn since.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from idiolect.store.histories import chunked
from idiolect.store.records import ExportKind, ExportRow
from idiolect.store.runs import utc
from idiolect.store.tables import export_pieces, exports

_IDS_PER_QUERY = 500


def note(connection: Connection, kind: ExportKind, digest: str, place: str, pieces: Iterable[int], *, stale: bool) -> ExportRow:
    """Record an export; whatever was at its place before has been overwritten, and is forgotten."""
    connection.execute(delete(exports).where(exports.c.place == place))
    row = ExportRow(kind, digest, place, utc(now := time.time()), stale)
    values = {"kind": kind, "digest": digest, "place": place, "created": now, "stale": int(stale)}
    key = connection.execute(insert(exports).values(values).returning(exports.c.id)).scalar_one()
    for chunk in chunked(sorted(set(pieces)), _IDS_PER_QUERY):
        connection.execute(insert(export_pieces), [{"export": key, "piece": piece} for piece in chunk])
    return row


def listed(connection: Connection, *where: ColumnElement[bool]) -> list[ExportRow]:
    """Exports, newest first."""
    c = exports.c
    query = select(c.kind, c.digest, c.place, c.created, c.stale).where(*where).order_by(c.id.desc())
    return [
        ExportRow(kind, digest, place, utc(created), bool(stale))
        for kind, digest, place, created, stale in connection.execute(query)
    ]


def outdate(connection: Connection, digests: Sequence[str], pieces: Iterable[int]) -> list[ExportRow]:
    """Mark what holds these adapters or pieces as stale; all of it, newest first."""
    keys: set[int] = set()
    for chunk in chunked(digests, _IDS_PER_QUERY):
        found = select(exports.c.id).where(exports.c.kind == "adapter", exports.c.digest.in_(chunk))
        keys.update(connection.execute(found).scalars())
    for chunk in chunked(sorted(pieces), _IDS_PER_QUERY):
        holds = export_pieces.c.piece.in_(chunk)
        keys.update(connection.execute(select(export_pieces.c.export).where(holds)).scalars())
        connection.execute(delete(export_pieces).where(holds))
    rows: list[ExportRow] = []
    for chunk in chunked(sorted(keys, reverse=True), _IDS_PER_QUERY):
        connection.execute(update(exports).where(exports.c.id.in_(chunk)).values(stale=1))
        rows += listed(connection, exports.c.id.in_(chunk))
    return rows


def forget(connection: Connection, digests: Sequence[str]) -> list[ExportRow]:
    """Delete what is known of the exports of these adapters; what it was, marked as stale."""
    rows: list[ExportRow] = []
    for chunk in chunked(digests, _IDS_PER_QUERY):
        theirs: Any = (exports.c.kind == "adapter") & exports.c.digest.in_(chunk)
        connection.execute(update(exports).where(theirs).values(stale=1))
        rows += listed(connection, theirs)
        connection.execute(delete(exports).where(theirs))
    return rows
