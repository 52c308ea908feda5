"""Which adapter is in use: heads, as rows. Every function runs in the transaction that it is given.

Each person, task, base and variant (and each task, base and variant, for task adapters) has a stack of adapters, trained
and assembled ones alike; the one that was put there last is in use. Deleting an adapter takes it out of its stack, so
there is never a head without one.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from idiolect.store.tables import adapters, heads


def _same_key(person: int | None, task: str, base: str, variant: str) -> list[ColumnElement[bool]]:
    c = adapters.c
    owner = c.person.is_(None) if person is None else c.person == person
    return [owner, c.task == task, c.base == base, c.variant == variant]


def stack(connection: Connection, where: Iterable[ColumnElement[bool]]) -> list[tuple[int, str, int]]:
    """(row, digest, adapter) of the heads that there were under one key, newest first; the first one is in use."""
    query = select(heads.c.id, adapters.c.digest, adapters.c.id).join(adapters, heads.c.adapter == adapters.c.id)
    return [
        (row, digest, adapter) for row, digest, adapter in connection.execute(query.where(*where).order_by(heads.c.id.desc()))
    ]


def user_key(person: int, task: str, base: str, variant: str) -> list[ColumnElement[bool]]:
    """Conditions for one person's adapters of this task, base and variant."""
    return _same_key(person, task, base, variant)


def task_key(task: str, base: str, variant: str) -> list[ColumnElement[bool]]:
    """Conditions for the task adapters of this task, base and variant."""
    return _same_key(None, task, base, variant)


def head(connection: Connection, where: Iterable[ColumnElement[bool]]) -> str | None:
    """Digest of the adapter in use under one key."""
    query = select(adapters.c.digest).join(heads, heads.c.adapter == adapters.c.id)
    return connection.execute(query.where(*where).order_by(heads.c.id.desc()).limit(1)).scalar_one_or_none()


def set_head(connection: Connection, adapter: int) -> None:
    """Make this adapter the one in use under its own key; its predecessor stays below it."""
    c = adapters.c
    person, task, base, variant = connection.execute(select(c.person, c.task, c.base, c.variant).where(c.id == adapter)).one()
    newest = stack(connection, _same_key(person, task, base, variant))[:1]
    if not newest or newest[0][2] != adapter:
        connection.execute(insert(heads).values(adapter=adapter))


def roll_back(connection: Connection, where: Iterable[ColumnElement[bool]]) -> str | None:
    """Drop the newest head, so that the one before it is in use again; its digest, or None if there is none before it."""
    rows = stack(connection, where)
    older = next((n for n, (_, _, adapter) in enumerate(rows) if adapter != rows[0][2]), None)
    if older is None:
        return None
    connection.execute(delete(heads).where(heads.c.id.in_([row for row, _, _ in rows[:older]])))
    return rows[older][1]
