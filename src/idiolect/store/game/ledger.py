"""What all parts of the game's books stand on: one transaction, and rows in and out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, TypeVar, get_type_hints

from sqlalchemy import Connection, Insert, Row, Table, Update, bindparam, insert, update

Made = TypeVar("Made")


class Ledger:
    """One transaction on the game's rows; every method of a book runs in it."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def _add(self, table: Table, **values: Any) -> int:
        """Insert a row; its key."""
        made = self.connection.execute(_insertion(table), stored(values)).inserted_primary_key
        assert made is not None  # one row, one key
        return made[0]

    def _change(self, table: Table, key: int, values: Mapping[str, Any]) -> None:
        if values:
            kept = {f"new_{name}": value for name, value in stored(values).items()}
            self.connection.execute(_change(table, tuple(values)), {"row": key, **kept})


@cache
def _insertion(table: Table) -> Insert:
    # Statements are kept: to make one anew takes SQLAlchemy longer than to run it.
    return insert(table)


@cache
def _change(table: Table, names: tuple[str, ...]) -> Update:
    return update(table).where(table.c.id == bindparam("row")).values({name: bindparam(f"new_{name}") for name in names})


def stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as columns keep them: truth values are 0 and 1."""
    return {name: int(value) if isinstance(value, bool) else value for name, value in values.items()}


def record(kind: type[Made], row: Row[Any] | Mapping[str, Any], **names: str) -> Made:
    """A record from a row.

    Args:
        names: columns that a field is read from where the two are called differently.
    """
    if isinstance(row, Row):
        places, flags = _places(kind, row._fields, tuple(names.items()))
        values = [row[place] for place in places]
    else:
        places, flags = _places(kind, tuple(row), tuple(names.items()))
        held = tuple(row.values())
        values = [held[place] for place in places]
    for flag in flags:
        values[flag] = bool(values[flag])
    return kind(*values)


@cache
def _places(
    kind: type, columns: tuple[str, ...], names: tuple[tuple[str, str], ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """In which column each field of a record is, and which fields are truth values."""
    renamed, hints = dict(names), get_type_hints(kind)
    places = tuple(columns.index(renamed.get(field.name, field.name)) for field in fields(kind))
    return places, tuple(number for number, field in enumerate(fields(kind)) if hints[field.name] is bool)
