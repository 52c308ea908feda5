"""What was made of a person, or of one of their items, as rows. Every function runs in the transaction that it is given.

    person   their adapters, what they taught, copies of either, and on from there
    item     adapters that were trained on it or may have had it in a prompt, what its owner taught, and on from there

Where lineage cannot tell, an adapter counts as made of the item: retrieval puts any item into any prompt, and of an imported
adapter nobody knows what it was trained on.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, delete, exists, func, select, update

from idiolect.errors import NotFoundError
from idiolect.store import adapters, encryption, exports, histories, pieces, revoking
from idiolect.store.game.erasing import erase_player, erase_source
from idiolect.store.game.leaving import same_source
from idiolect.store.histories import chunked
from idiolect.store.records import Downstream, ExportRow, GonePiece
from idiolect.store.revoking import Reach, Seeds
from idiolect.store.tables import adapters as adapter_table
from idiolect.store.tables import evaluations, items, lineage, people, pools, queries
from idiolect.store.tables import exports as export_table
from idiolect.store.tables import pieces as piece_table

_IDS_PER_QUERY = 500


def find(
    connection: Connection, user_id: str, key: int | None, item_id: str | None, leave: Collection[str]
) -> tuple[Downstream, Reach]:
    """Everything that would have to go, and the rows of it.

    Args:
        key: the person's row; None: they are not in the store.
        leave: digests of task adapters that stay, whoever taught them.

    Raises:
        NotFoundError: the person has no such item.
    """
    if item_id is not None and key is not None:
        _require_item(connection, key, user_id, item_id)
    taught = _taught(connection, user_id, key, item_id)
    seeds = {row: one for row, one in taught.items() if one[0].digest not in leave}
    if key is not None:
        seeds |= _own(connection, user_id, key, item_id)
    left = revoking.reached(connection, seeds={row: one for row, one in taught.items() if row not in seeds})
    reach = revoking.reached(connection, _own_pieces(connection, key, item_id), seeds)
    kept = {one.digest for one in left.adapters if one.digest in leave}
    found = Downstream(
        user_id=user_id,
        item_id=item_id,
        here=key is not None,
        n_items=_n_items(connection, key, item_id),
        n_queries=0 if item_id is not None else _count(connection, queries, key),
        adapters=reach.adapters,
        left=tuple(one for one in left.adapters if one.digest in kept),
        pieces=_described(connection, reach.pieces),
        exports=tuple(_exported(connection, key if item_id is None else None, reach)),
        evaluations=tuple(places(connection, key)),
        key=None if key is None else encryption.key_of(connection, key),
    )
    return found, reach


def _require_item(connection: Connection, key: int, user_id: str, item_id: str) -> None:
    found = select(items.c.seq).where(items.c.person == key, items.c.item_id == item_id)
    if not histories.storable(item_id) or connection.execute(found).scalar_one_or_none() is None:
        raise NotFoundError(f"user {user_id!r} has no item {item_id!r}; see which there are: idiolect history show {user_id}")


# -------------------------------------------------------------------------------------------------------------- seeds


def _own(connection: Connection, user_id: str, key: int, item_id: str | None) -> Seeds:
    """The person's own adapters that go first, and others that were made of their items."""
    c = adapter_table.c
    mine = revoking.adapter_rows(connection, c.person == key)
    if item_id is None:
        made = revoking.adapter_rows(connection, _has_parent(lineage.c.kind == "item", lineage.c.owner == user_id))
        return {row: (one, "made from their items") for row, one in made.items()} | {
            row: (one, "theirs") for row, one in mine.items()
        }
    holds = (lineage.c.kind == "item", lineage.c.owner == user_id)
    made = revoking.adapter_rows(connection, _has_parent(*holds, lineage.c.parent.in_(same_source(item_id))))
    sure = revoking.adapter_rows(connection, c.person == key, _has_parent(*holds))
    seeds = {row: (one, "made from the item") for row, one in made.items()}
    for row, one in mine.items():
        manifest = json.loads(one.manifest)
        if row in seeds:
            continue
        if manifest["k"]:
            seeds[row] = (one, "the item may stand in its prompts")
        elif row not in sure:
            seeds[row] = (one, "nobody knows which items it was made from")
    return seeds


def _taught(connection: Connection, user_id: str, key: int | None, item_id: str | None) -> Seeds:
    """Adapters that are nobody's, and that the person taught, by their id or by a byline that names them."""
    named = _bylines(connection, user_id)
    found: dict[int, tuple[Row[Any], str]] = {}
    for chunk in chunked(named, _IDS_PER_QUERY):
        where = _has_parent(lineage.c.kind == "person", lineage.c.parent.in_(chunk))
        rows = revoking.adapter_rows(connection, adapter_table.c.person.is_(None), where)
        found |= {row: (one, "they taught it") for row, one in rows.items()}
    if item_id is None or key is None:
        return found
    same = lineage.c.parent.in_(same_source(item_id))
    holds = _has_parent(lineage.c.kind == "item", lineage.c.owner == user_id, same)
    rows = revoking.adapter_rows(connection, adapter_table.c.person.is_(None), holds)
    return found | {row: (one, "made from the item") for row, one in rows.items()}


def _bylines(connection: Connection, user_id: str) -> list[str]:
    """Who taught adapters, as far as it is this person, alone or with others ("Ana Ruiz and Bo Li")."""
    c = lineage.c
    holds = c.parent.contains(user_id, autoescape=True)
    names = connection.execute(select(c.parent).where(c.child.in_(_nobodys()), c.kind == "person", holds).distinct())
    return [name for name in names.scalars() if named_in(user_id, name)]


def _nobodys() -> Select[Any]:
    """Adapters that are nobody's: few, where all of lineage is long."""
    return select(adapter_table.c.id).where(adapter_table.c.person.is_(None))


def is_named(connection: Connection, user_id: str) -> bool:
    """Whether any edge of lineage is a person's, by their id."""
    return connection.execute(select(lineage.c.child).where(lineage.c.owner == user_id).limit(1)).first() is not None


def named_in(user_id: str, byline: str) -> bool:
    """Whether a byline names a person: their id stands in it as words of its own, and as no part of a longer id ("u-12")."""
    return re.search(rf"(?<![\w.@-]){re.escape(user_id)}(?![\w@-])", byline) is not None


def _own_pieces(connection: Connection, key: int | None, item_id: str | None) -> set[int]:
    """Pieces that go whatever they were cut from: all of the person's; for one item, those whose adapter is not known."""
    if key is None:
        return set()
    if item_id is None:
        return pieces.matching(connection, person=key)
    c = piece_table.c
    return set(connection.execute(select(c.piece).where(c.person == key, c.adapter.is_(None))).scalars())


def _has_parent(*where: ColumnElement[bool]) -> ColumnElement[bool]:
    return exists(select(lineage.c.child).where(lineage.c.child == adapter_table.c.id, *where))


# -------------------------------------------------------------------------------------------------------- description


def _count(connection: Connection, table: Any, key: int | None) -> int:
    return 0 if key is None else connection.execute(select(func.count()).where(table.c.person == key)).scalar_one()


def _n_items(connection: Connection, key: int | None, item_id: str | None) -> int:
    """How many items go: with one those that are made of the same round, or they would tell what it said."""
    if item_id is None or key is None:
        return _count(connection, items, key) if item_id is None else 1
    where = (items.c.person == key, items.c.item_id.in_(same_source(item_id)))
    return connection.execute(select(func.count()).where(*where)).scalar_one()


def _described(connection: Connection, ids: Collection[int]) -> tuple[GonePiece, ...]:
    c = piece_table.c
    query: Select[Any] = select(c.piece, pools.c.digest, people.c.user_id).join(pools, c.pool == pools.c.id)
    query = query.outerjoin(people, c.person == people.c.id).order_by(c.piece)
    found: list[GonePiece] = []
    for chunk in chunked(sorted(ids), _IDS_PER_QUERY):
        found += [GonePiece(*row) for row in connection.execute(query.where(c.piece.in_(chunk)))]
    return tuple(found)


def _exported(connection: Connection, key: int | None, reach: Reach) -> list[ExportRow]:
    """Exports of these adapters and pieces, and all of a person who goes."""
    c = export_table.c
    keys = set(exports.holding(connection, [one.digest for one in reach.adapters], reach.pieces))
    if key is not None:
        keys.update(connection.execute(select(c.id).where(c.person == key)).scalars())
    found: list[ExportRow] = []
    for chunk in chunked(sorted(keys, reverse=True), _IDS_PER_QUERY):
        found += exports.listed(connection, c.id.in_(chunk))
    return found


def places(connection: Connection, key: int | None) -> list[str]:
    """Folders with answers to a person's queries."""
    c = evaluations.c
    found = connection.execute(select(c.place).where(c.person == key).order_by(c.place))
    return [] if key is None else list(dict.fromkeys(found.scalars()))


# ----------------------------------------------------------------------------------------------------------- deletion


def erase_person(connection: Connection, user_id: str, key: int) -> tuple[list[str], list[ExportRow], tuple[int, int]]:
    """Delete a person's adapters, their player in the word game, what is known of their exports, and their rows.

    Returns:
        (digests, exports, (items, queries)).
    """
    erase_player(connection, user_id, time.time())
    own = adapters.forget_person(connection, user_id, key)
    exported = exports.forget(connection, key)  # where they lie may say whose they are
    return own, exported, histories.remove(connection, key)


def erase_name(connection: Connection, user_id: str) -> None:
    """Delete every edge of lineage that names a person, also in a byline."""
    for chunk in chunked(_bylines(connection, user_id), _IDS_PER_QUERY):
        edges = (lineage.c.child.in_(_nobodys()), lineage.c.kind == "person", lineage.c.parent.in_(chunk))
        connection.execute(delete(lineage).where(*edges))
    connection.execute(delete(lineage).where(lineage.c.owner == user_id))


def erase_item(connection: Connection, user_id: str, key: int, item_id: str) -> None:
    """Delete one item with the round of the word game that it came from, what else was made of that round, and every edge of
    lineage that names any of it.
    """
    erase_source(connection, user_id, item_id)
    ids = same_source(item_id)
    connection.execute(delete(items).where(items.c.person == key, items.c.item_id.in_(ids)))
    n = select(func.count()).where(items.c.person == key).scalar_subquery()
    connection.execute(update(people).where(people.c.id == key).values(n_items=n))
    edges = (lineage.c.kind == "item", lineage.c.owner == user_id, lineage.c.parent.in_(ids))
    connection.execute(delete(lineage).where(*edges))
