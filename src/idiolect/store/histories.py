"""People, their items and their queries, as rows. Every function runs in the transaction that it is given."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from idiolect.errors import InputError
from idiolect.store.dates import sort_key
from idiolect.store.records import ImportReport, PersonSummary
from idiolect.store.tables import items, people, queries
from idiolect.types import Item, Person, Query, canonical_json, has_surrogate

CHUNK_ROWS = 1000
"""Rows written by one statement, and so how much of an import is in memory at a time."""

MAX_ID_CHARS = 256
"""Two ids and a kind must fit an index row of PostgreSQL's (2,704 bytes)."""

_IDS_PER_QUERY = 500

Row = dict[str, Any]


class Importer:
    """Adds people, in chunks, and counts what became of them. Nothing is kept but counts and ids of people."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: list[Person] = []
        self._n_waiting = 0
        self._seen: set[str] = set()
        self._counts: Counter[str] = Counter()

    def add(self, person: Person) -> None:
        check_id(person.id, "a person's id")
        self._waiting.append(person)
        self._seen.add(person.id)
        self._n_waiting += 1 + len(person.history) + len(person.queries)
        if self._n_waiting >= CHUNK_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        keys = self._keys([person.id for person in waiting])
        self._insert(items, (item_row(keys[p.id], item, p.id) for p in waiting for item in p.history))
        self._insert(queries, (query_row(keys[p.id], query) for p in waiting for query in p.queries))
        _recount(self._connection, keys.values())

    def report(self) -> ImportReport:
        self.flush()
        counts = self._counts
        return ImportReport(
            n_people=len(self._seen),
            n_new_people=counts["people"],
            n_items=counts["items"],
            n_duplicates=counts["items duplicates"],
            n_queries=counts["queries"],
            n_conflicts=counts["items conflicts"] + counts["queries conflicts"],
        )

    def _keys(self, ids: Sequence[str]) -> dict[str, int]:
        """Row keys of these people, who are added where they are new."""
        rows = [{"user_id": user_id} for user_id in dict.fromkeys(ids)]
        self._counts["people"] += _insert_new(self._connection, people, rows)
        return keys_of(self._connection, ids)

    def _insert(self, table: Table, rows: Iterable[Row]) -> None:
        for chunk in chunked(rows, CHUNK_ROWS):
            n_new = _insert_new(self._connection, table, chunk)
            n_conflicts = _count_conflicts(self._connection, table, chunk) if n_new < len(chunk) else 0
            self._counts[table.name] += n_new
            self._counts[f"{table.name} conflicts"] += n_conflicts
            self._counts[f"{table.name} duplicates"] += len(chunk) - n_new - n_conflicts


def _insert_new(connection: Connection, table: Table, rows: list[Row]) -> int:
    """Insert the rows whose key is new, and say how many those were."""
    if not rows:
        return 0
    make = sqlite_insert if connection.dialect.name == "sqlite" else postgres_insert
    new = make(table).on_conflict_do_nothing().execution_options(preserve_rowcount=True)
    return connection.execute(new, rows).rowcount


def _count_conflicts(connection: Connection, table: Table, rows: list[Row]) -> int:
    """How many rows differ from what is stored under their id (rows just inserted are equal, of course)."""
    names = [name for name in rows[0] if name != "date_key"]
    person, item, *content = (table.c[name] for name in names)
    # Two lists rather than one of pairs, which SQLite would scan the whole table for; the surplus does no harm.
    people_of, ids = {row[person.name] for row in rows}, {row[item.name] for row in rows}
    found = connection.execute(select(person, item, *content).where(person.in_(people_of), item.in_(ids)))
    stored = {tuple(row) for row in found}
    return sum(tuple(row[name] for name in names) not in stored for row in rows)


def _recount(connection: Connection, keys: Iterable[int]) -> None:
    for chunk in chunked(keys, _IDS_PER_QUERY):
        counts = {
            f"n_{table.name}": select(func.count()).where(table.c.person == people.c.id).scalar_subquery()
            for table in (items, queries)
        }
        connection.execute(update(people).where(people.c.id.in_(chunk)).values(**counts))


def item_row(person: int, item: Item, user_id: str) -> Row:
    """Raises InputError if the item cannot be kept; the message names it and quotes none of its text."""
    check_id(item.id, f"an item id of person {user_id!r}")
    if not all(isinstance(value, str) for value in item.fields.values()):
        names = sorted(name for name, value in item.fields.items() if not isinstance(value, str))
        raise InputError(f"item {item.id!r} of person {user_id!r}: not text: {', '.join(names)}")
    if item.date is not None:
        check_text(item.date, f"the date of item {item.id!r} of person {user_id!r}")
    return {
        "person": person,
        "item_id": item.id,
        "date": item.date,
        "date_key": sort_key(item.date),
        "body": encoded(dict(item.fields)),
    }


def query_row(person: int, query: Query) -> Row:
    """Raises InputError if the query cannot be kept."""
    check_id(query.id, "a query's id")
    return {"person": person, "query_id": query.id, "body": encoded({"input": query.input, "gold": query.gold})}


def encoded(value: Any) -> str:
    """JSON that every database keeps. Half a surrogate pair, which no UTF-8 has, is kept as an escape."""
    body = canonical_json(value)
    try:
        body.encode()
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=True, separators=(",", ":"))
    return body


def check_id(value: Any, what: str) -> None:
    """Raises InputError unless this is 1 to 256 characters of plain text."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_ID_CHARS:
        size = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise InputError(f"{what} must be text of 1 to {MAX_ID_CHARS} characters, not {size}")
    check_text(value, what)


def check_text(value: str, what: str) -> None:
    """Raises InputError if PostgreSQL or UTF-8 cannot hold this."""
    if not storable(value):
        raise InputError(f"{what} holds characters that cannot be stored (NUL or half a surrogate pair)")


def storable(value: str) -> bool:
    """Whether PostgreSQL and UTF-8 can hold this."""
    return "\0" not in value and not has_surrogate(value)


def chunked(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` values, the last one shorter."""
    chunk: list[Any] = []
    for value in values:
        chunk.append(value)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def keys_of(connection: Connection, ids: Iterable[str]) -> dict[str, int]:
    """Row key of each of these people who is in the store."""
    keys: dict[str, int] = {}
    # Nobody has an id that cannot be stored, and the driver would not take it.
    for chunk in chunked((i for i in dict.fromkeys(ids) if not has_surrogate(i)), _IDS_PER_QUERY):
        found = connection.execute(select(people.c.user_id, people.c.id).where(people.c.user_id.in_(chunk)))
        keys.update((user_id, key) for user_id, key in found)
    return keys


def summaries(connection: Connection, limit: int | None, offset: int) -> list[PersonSummary]:
    """One page of people, by id."""
    first, last = _edge_date(ascending=True), _edge_date(ascending=False)
    query = select(people.c.user_id, people.c.n_items, people.c.n_queries, first, last)
    found = connection.execute(query.order_by(people.c.user_id).limit(limit).offset(offset))
    return [PersonSummary(*row) for row in found]


def _edge_date(*, ascending: bool) -> Any:
    keys = (items.c.date_key, items.c.seq) if ascending else (items.c.date_key.desc(), items.c.seq.desc())
    dated = select(items.c.date).where(items.c.person == people.c.id, items.c.date_key > b"")
    return dated.order_by(*keys).limit(1).correlate(people).scalar_subquery()


def most_active(connection: Connection, n: int) -> list[str]:
    """Ids of the `n` people with the most items; ties by id."""
    query = select(people.c.user_id).order_by(people.c.n_items.desc(), people.c.user_id).limit(n)
    return list(connection.execute(query).scalars())


def ids_after(connection: Connection, user_id: str, limit: int) -> list[str]:
    """The next ids in order, after this one."""
    query = select(people.c.user_id).where(people.c.user_id > user_id).order_by(people.c.user_id).limit(limit)
    return list(connection.execute(query).scalars())


def load(connection: Connection, keys: Mapping[str, int]) -> list[Person]:
    """These people, whole, in the mapping's order."""
    histories: dict[int, list[Item]] = {key: [] for key in keys.values()}
    asked: dict[int, list[Query]] = {key: [] for key in keys.values()}
    for chunk in chunked(keys.values(), _IDS_PER_QUERY):
        for person, item in _items(connection, chunk):
            histories[person].append(item)
        for person, query in _queries(connection, chunk):
            asked[person].append(query)
    return [Person(user_id, tuple(histories[key]), tuple(asked[key])) for user_id, key in keys.items()]


def _items(connection: Connection, keys: Sequence[int]) -> Iterator[tuple[int, Item]]:
    c = items.c
    query = select(c.person, c.item_id, c.body, c.date).where(c.person.in_(keys)).order_by(c.person, c.date_key, c.seq)
    for person, item_id, body, date in connection.execute(query):
        yield person, Item(item_id, json.loads(body), date)


def _queries(connection: Connection, keys: Sequence[int]) -> Iterator[tuple[int, Query]]:
    c = queries.c
    query = select(c.person, c.query_id, c.body).where(c.person.in_(keys)).order_by(c.person, c.seq)
    for person, query_id, body in connection.execute(query):
        yield person, Query(query_id, **json.loads(body))


def remove(connection: Connection, key: int) -> tuple[int, int]:
    """Delete a person's items and queries, and the person; say how many of each there were."""
    n_items = connection.execute(delete(items).where(items.c.person == key)).rowcount
    n_queries = connection.execute(delete(queries).where(queries.c.person == key)).rowcount
    connection.execute(delete(people).where(people.c.id == key))
    return n_items, n_queries
