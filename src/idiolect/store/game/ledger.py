"""What all parts of the game's books stand on: one transaction, and rows in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, cast, get_type_hints

from sqlalchemy import Connection, Row, Table, insert, update

Made = TypeVar("Made")


class Ledger:
    """One transaction on the game's rows; every method of a book runs in it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _add(self, table: Table, **values: Any) -> int:
        """Insert a row; its key."""
        made = self.connection.execute(insert(table).values(**stored(values))).inserted_primary_key
        assert made is not None  # one row, one key
        return made[0]

    def _change(self, table: Table, key: int, values: Mapping[str, Any]) -> None:
        if values:
            self.connection.execute(update(table).where(table.c.id == key).values(**stored(values)))


def stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as columns keep them: truth values are 0 and 1."""
    return {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}


def record(kind: type[Made], row: Row[Any] | Mapping[str, Any], **names: str) -> Made:
    """A record from a row.

    Args:
        names: columns that a field is read from where the two are called differently.
    """
    mapping = cast(Mapping[str, Any], row._mapping if isinstance(row, Row) else row)
    values = {name: mapping[names.get(name, name)] for name in _names(kind)}
    return kind(**{name: bool(value) if name in _flags(kind) else value for name, value in values.items()})


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def _flags(kind: type) -> frozenset[str]:
    """Fields that are truth values."""
    return frozenset(name for name, hint in get_type_hints(kind).items() if hint is bool)
