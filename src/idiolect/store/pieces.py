"""Pools and the pieces in them, as rows. Every function runs in the transaction that it is given.

A piece is known by 63 random bits. Its owner stands in a column of its own that nothing here gives out but to the owner, so
a piece that leaves the store says neither whose it is nor which others come from the same person.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, func, insert, select, update

from idiolect.errors import CorruptBlob, InputError, PieceNotFound
from idiolect.store.histories import check_id, chunked
from idiolect.store.records import PieceRow, PiecesImported, PoolRow, StoredPiece
from idiolect.store.runs import utc
from idiolect.store.tables import adapters, pieces, pools, withdrawn
from idiolect.types import canonical_json, digest_of

_ID_BITS = 63  # a signed number of eight bytes, and not negative
_IDS_PER_QUERY = 500
_BODIES_PER_INSERT = 50  # a body has up to a few hundred kilobytes


def pool_digest(key: Mapping[str, Any]) -> str:
    """The name of the pool with this key: SHA-256 of its canonical JSON."""
    return digest_of(dict(key))


def pool_row(connection: Connection, key: Mapping[str, Any]) -> int:
    """Row of the pool with this key, which is added where it is new."""
    digest = pool_digest(key)
    found = connection.execute(select(pools.c.id).where(pools.c.digest == digest)).scalar_one_or_none()
    if found is not None:
        return found
    values = {"digest": digest, "key": canonical_json(dict(key))}
    return connection.execute(insert(pools).values(values).returning(pools.c.id)).scalar_one()


def drop_empty_pools(connection: Connection) -> None:
    """A pool without pieces is no pool."""
    connection.execute(delete(pools).where(~select(pieces.c.id).where(pieces.c.pool == pools.c.id).exists()))


# ------------------------------------------------------------------------------------------------------------ reading


def pool_rows(connection: Connection) -> list[PoolRow]:
    """Pools, the oldest first."""
    c = pieces.c
    counts = (func.count(c.id), func.count(c.person.distinct()), func.count(c.origin.distinct()), func.sum(func.length(c.body)))
    query = select(pools.c.digest, pools.c.key, *counts).join(pieces, c.pool == pools.c.id)
    found = connection.execute(query.group_by(pools.c.id).order_by(pools.c.id))
    return [
        PoolRow(digest, json.loads(key), n, n_people, n_origins, int(size))
        for digest, key, n, n_people, n_origins, size in found
    ]


def contents(connection: Connection, pool: str, module: str | None) -> list[StoredPiece]:
    """A pool's pieces by id, all or those of one module. Raises CorruptBlob."""
    wanted = [pools.c.digest == pool] if module is None else [pools.c.digest == pool, pieces.c.module == module]
    query = _stored().join(pools, pieces.c.pool == pools.c.id).where(*wanted)
    return [_sound(row) for row in connection.execute(query.order_by(pieces.c.piece))]


def version(connection: Connection, pool: str) -> str:
    """SHA-256 over ids and digests of a pool's pieces; reads no bodies."""
    query = select(pieces.c.piece, pieces.c.digest).join(pools, pieces.c.pool == pools.c.id).where(pools.c.digest == pool)
    state = hashlib.sha256()
    for piece, digest in connection.execute(query.order_by(pieces.c.piece)):
        state.update(f"{piece} {digest}\n".encode())
    return state.hexdigest()


def read(connection: Connection, ids: Iterable[int]) -> dict[int, StoredPiece]:
    """These pieces, in the order given.

    Raises:
        PieceNotFound: naming the first that is not there.
        CorruptBlob: if a body is not what was shared.
    """
    order = list(dict.fromkeys(ids))
    found: dict[int, StoredPiece] = {}
    for chunk in chunked(filter(_is_id, order), _IDS_PER_QUERY):
        found.update((row.piece, _sound(row)) for row in connection.execute(_stored().where(pieces.c.piece.in_(chunk))))
    if missing := [piece for piece in order if piece not in found]:
        raise absent(missing[0])
    return {piece: found[piece] for piece in order}


def _stored() -> Any:
    return select(pieces.c.piece, pieces.c.module, pieces.c.body, pieces.c.digest)


def _sound(row: Row[Any]) -> StoredPiece:
    if digest_of(bytes(row.body)) != row.digest:
        raise CorruptBlob(f"piece {row.piece} is damaged in the database; withdraw it, or share it again")
    return StoredPiece(row.piece, row.module, bytes(row.body))


def of_person(connection: Connection, person: int) -> list[PieceRow]:
    """What a person shares, by pool and module."""
    c = pieces.c
    query = select(c.piece, pools.c.digest, c.module, adapters.c.digest, c.created).join(pools, c.pool == pools.c.id)
    query = query.outerjoin(adapters, c.adapter == adapters.c.id).where(c.person == person)
    found = connection.execute(query.order_by(pools.c.id, c.module, c.piece))
    return [PieceRow(piece, pool, module, adapter, utc(created)) for piece, pool, module, adapter, created in found]


def require(connection: Connection, ids: Iterable[str]) -> None:
    """Raises PieceNotFound unless all of these (ids in decimal) are in pools."""
    numbers = {text: int(text) if text.isascii() and text.isdecimal() else -1 for text in ids}
    here = present(connection, numbers.values())
    for text, number in sorted(numbers.items()):
        if number not in here or text != str(number):
            raise absent(text)


def absent(piece: int | str) -> PieceNotFound:
    """What to raise for a piece that is not there."""
    return PieceNotFound(
        f"piece {str(piece)[:64]} is in no pool of this store, or was withdrawn; assemble again what was to be made of it: "
        "idiolect pieces assemble"
    )


def present(connection: Connection, ids: Iterable[int], table: Table = pieces) -> set[int]:
    """Those of the ids that this table has."""
    found: set[int] = set()
    for chunk in chunked(filter(_is_id, ids), _IDS_PER_QUERY):
        found.update(connection.execute(select(table.c.piece).where(table.c.piece.in_(chunk))).scalars())
    return found


def matching(
    connection: Connection,
    ids: Iterable[int] | None = None,
    *,
    person: int | None = None,
    pool: str | None = None,
    origin: str | None = None,
) -> set[int]:
    """Ids of the pieces for which all of these hold; None means any."""
    c = pieces.c
    conditions: tuple[tuple[ColumnElement[Any], Any], ...] = ((c.person, person), (pools.c.digest, pool), (c.origin, origin))
    query = select(c.piece).join(pools, c.pool == pools.c.id)
    query = query.where(*(column == value for column, value in conditions if value is not None))
    if ids is None:
        return set(connection.execute(query).scalars())
    found: set[int] = set()
    for chunk in chunked(filter(_is_id, ids), _IDS_PER_QUERY):
        found.update(connection.execute(query.where(c.piece.in_(chunk))).scalars())
    return found


def _is_id(piece: int) -> bool:
    return 0 <= piece < 2**_ID_BITS


# ------------------------------------------------------------------------------------------------------------ writing


def sort_out(
    connection: Connection, pool: str, person: int, given: Sequence[tuple[str, bytes]]
) -> tuple[list[int | None], set[int]]:
    """(for each piece given, the id under which the person shares it already; ids of what else they share in this pool)."""
    c = pieces.c
    query = select(c.piece, c.module, c.digest).join(pools, c.pool == pools.c.id)
    here: dict[tuple[str, str], list[int]] = {}
    for piece, module, digest in connection.execute(query.where(c.person == person, pools.c.digest == pool)):
        here.setdefault((module, digest), []).append(piece)
    kept = [same.pop() if (same := here.get((module, digest_of(body)))) else None for module, body in given]
    return kept, {piece for rest in here.values() for piece in rest}


def share(
    connection: Connection,
    key: Mapping[str, Any],
    person: int,
    adapter: int,
    given: Sequence[tuple[str, bytes]],
    kept: Sequence[int | None],
) -> tuple[int, ...]:
    """Insert those of the pieces that are not kept; ids of all of them."""
    drawn = iter(_drawn(connection, sum(piece is None for piece in kept)))
    ids = tuple(next(drawn) if piece is None else piece for piece in kept)
    new = [(piece, *what) for piece, what, old in zip(ids, given, kept, strict=True) if old is None]
    for chunk in chunked((piece for piece in kept if piece is not None), _IDS_PER_QUERY):
        connection.execute(update(pieces).where(pieces.c.piece.in_(chunk)).values(adapter=adapter))
    secrets.SystemRandom().shuffle(new)  # rows lie in the order of their writing, which is nobody's business
    _insert(connection, new, pool=pool_row(connection, key) if new else 0, person=person, origin=None, adapter=adapter)
    return ids


def _drawn(connection: Connection, n: int) -> list[int]:
    """New ids that no piece has or had. They depend on nothing."""
    drawn: set[int] = set()
    while len(drawn) < n:
        more = {secrets.randbits(_ID_BITS) for _ in range(n - len(drawn))}
        drawn |= more - present(connection, more) - present(connection, more, withdrawn)
    return list(drawn)


def bring_in(
    connection: Connection, key: Mapping[str, Any], origin: str, given: Sequence[tuple[int, str, bytes]]
) -> PiecesImported:
    """Insert pieces from elsewhere.

    Raises:
        InputError: if an id is none, or is there with other content; the caller's transaction then fails whole.
    """
    unique = _unique(given)
    known = _known(connection, unique, pool_digest(key))
    gone = present(connection, unique.keys() - known, withdrawn)
    new = [(piece, *what) for piece, what in unique.items() if piece not in known and piece not in gone]
    _insert(connection, new, pool=pool_row(connection, key) if new else 0, person=None, origin=origin, adapter=None)
    return PiecesImported(len(new), len(known), len(gone))


def _unique(given: Sequence[tuple[int, str, bytes]]) -> dict[int, tuple[str, bytes]]:
    unique: dict[int, tuple[str, bytes]] = {}
    for piece, *_ in given:
        if not _is_id(piece):
            raise InputError(f"{piece} is no piece's id (0 to 2^{_ID_BITS} - 1); nothing was imported; export the pool again")
    for piece, module, body in given:
        if unique.setdefault(piece, (module, body)) != (module, body):
            raise _other_content(piece)
    return unique


def _known(connection: Connection, given: Mapping[int, tuple[str, bytes]], pool: str) -> set[int]:
    """Those of the ids that are there. Raises InputError if one is there as something else."""
    c = pieces.c
    found: set[int] = set()
    for chunk in chunked(given, _IDS_PER_QUERY):
        query = select(c.piece, c.module, c.digest, pools.c.digest).join(pools, c.pool == pools.c.id)
        for piece, *stored in connection.execute(query.where(c.piece.in_(chunk)).order_by(c.piece)):
            module, body = given[piece]
            if stored != [module, digest_of(body), pool]:
                raise _other_content(piece)
            found.add(piece)
    return found


def _other_content(piece: int) -> InputError:
    return InputError(f"piece {piece} is there already, as something else; nothing was imported; get the file once more")


def _insert(
    connection: Connection,
    rows: Iterable[tuple[int, str, bytes]],
    *,
    pool: int,
    person: int | None,
    origin: str | None,
    adapter: int | None,
) -> None:
    same = {"pool": pool, "person": person, "origin": origin, "adapter": adapter, "created": time.time()}
    for chunk in chunked(rows, _BODIES_PER_INSERT):
        for _, module, _ in chunk:
            check_id(module, "a piece's module")
        values = [{"piece": piece, "module": module, "body": body, "digest": digest_of(body)} for piece, module, body in chunk]
        connection.execute(insert(pieces), [same | row for row in values])


def remove(connection: Connection, ids: Iterable[int]) -> None:
    """Delete pieces for good. Those of this store's people are remembered by id, so that no file brings them back."""
    c = pieces.c
    for chunk in chunked(sorted(ids), _IDS_PER_QUERY):
        owned = select(c.piece).where(c.piece.in_(chunk), c.person.is_not(None))
        connection.execute(insert(withdrawn).from_select(["piece"], owned))
        connection.execute(delete(pieces).where(c.piece.in_(chunk)))
    drop_empty_pools(connection)
