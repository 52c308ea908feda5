"""What was written to places outside the store, as rows. Every function runs in the transaction that it is given.

The store cannot take back a folder or a file that it gave away; it can say which ones hold what has been withdrawn since.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from idiolect.store.histories import chunked
from idiolect.store.records import ExportKind, ExportRow
from idiolect.store.runs import utc
from idiolect.store.tables import evaluations, export_pieces, exports, people

_IDS_PER_QUERY = 500


def note(connection: Connection, kind: ExportKind, digest: str, person: int | None, place: str, pieces: Iterable[int]) -> int:
    """Record an export beside what else is known of its place; its key."""
    values = {"kind": kind, "digest": digest, "person": person, "place": place, "created": time.time()}
    key = connection.execute(insert(exports).values(values).returning(exports.c.id)).scalar_one()
    for chunk in chunked(sorted(set(pieces)), _IDS_PER_QUERY):
        connection.execute(insert(export_pieces), [{"export": key, "piece": piece} for piece in chunk])
    return key


def written(connection: Connection, key: int) -> ExportRow | None:
    """Forget what was at an export's place before it; the export, None if its person was deleted meanwhile."""
    found = listed(connection, exports.c.id == key)
    for row in found:
        connection.execute(delete(exports).where(exports.c.place == row.place, exports.c.id != key))
    return found[0] if found else None


def drop(connection: Connection, key: int) -> None:
    """Forget one export."""
    connection.execute(delete(exports).where(exports.c.id == key))


def listed(connection: Connection, *where: ColumnElement[bool]) -> list[ExportRow]:
    """Exports, newest first."""
    c = exports.c
    joined = select(c.kind, c.digest, people.c.user_id, c.place, c.created, c.stale).outerjoin(people, c.person == people.c.id)
    return [
        ExportRow(kind, digest, user_id, place, utc(created), bool(stale))
        for kind, digest, user_id, place, created, stale in connection.execute(joined.where(*where).order_by(c.id.desc()))
    ]


def holding(connection: Connection, digests: Sequence[str], pieces: Iterable[int]) -> set[int]:
    """Rows of the exports that hold these adapters or pieces."""
    keys: set[int] = set()
    for chunk in chunked(digests, _IDS_PER_QUERY):
        found = select(exports.c.id).where(exports.c.kind == "adapter", exports.c.digest.in_(chunk))
        keys.update(connection.execute(found).scalars())
    for chunk in chunked(sorted(pieces), _IDS_PER_QUERY):
        found = select(export_pieces.c.export).where(export_pieces.c.piece.in_(chunk))
        keys.update(connection.execute(found).scalars())
    return keys


def outdate(connection: Connection, digests: Sequence[str], pieces: Iterable[int]) -> list[ExportRow]:
    """Mark what holds these adapters or pieces as stale; all of it, newest first."""
    gone = sorted(pieces)
    keys = holding(connection, digests, gone)
    for chunk in chunked(gone, _IDS_PER_QUERY):
        connection.execute(delete(export_pieces).where(export_pieces.c.piece.in_(chunk)))
    rows: list[ExportRow] = []
    for chunk in chunked(sorted(keys, reverse=True), _IDS_PER_QUERY):
        connection.execute(update(exports).where(exports.c.id.in_(chunk)).values(stale=1))
        rows += listed(connection, exports.c.id.in_(chunk))
    return rows


def forget(connection: Connection, person: int) -> list[ExportRow]:
    """Delete what is known of the exports of a person's adapters; what it was, marked as stale."""
    theirs = exports.c.person == person
    connection.execute(update(exports).where(theirs).values(stale=1))
    rows = listed(connection, theirs)
    connection.execute(delete(exports).where(theirs))
    return rows


def note_answers(connection: Connection, place: str, people_of: Iterable[int]) -> list[int]:
    """Record that answers to these people's queries lie at a place; the new rows."""
    made = insert(evaluations).returning(evaluations.c.id)
    values = ({"place": place, "person": person, "created": time.time()} for person in people_of)
    return [connection.execute(made.values(row)).scalar_one() for row in values]


def keep_answers(connection: Connection, place: str, rows: Sequence[int]) -> None:
    """Forget what was at a place before these rows were."""
    if rows:
        connection.execute(delete(evaluations).where(evaluations.c.place == place, evaluations.c.id < min(rows)))
