"""One JSON record → Item, Query or Person, or a FileFormatError that says where and what.

All readers share these keys: LaMP's and OPPU's `user_id`, `profile`, `query`, `id`, `input`, `gold`, `date`; beside them any
field a task may need. Values become text: numbers as JSON writes them, lists joined by ", ", `ts` (seconds since 1970)
as an ISO date-time in UTC. Null fields are left out. Text that no database takes (lone surrogates, NUL) is mended.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from idiolect.data.tasks import Task
from idiolect.errors import FileFormatError, LabelError, TaskFieldError
from idiolect.types import Item, Person, Query, date_key

NOT_FIELDS = frozenset({"id", "date", "ts", "user_id"})


def problem(where: str, field: str | None, what: str, mend: str) -> FileFormatError:
    """`name: line N: field X: problem; what to do`, without any of the file's text."""
    place = f"{where}: field {field}" if field else where
    return FileFormatError(f"{place}: {what}; {mend}")


def item_of(record: Any, where: str, task: Task | None = None, without: frozenset[str] = frozenset()) -> Item:
    """An item; keys in `without` are not its fields. With a task, its fields are checked too."""
    record = mapping_of(record, where)
    item_id = required_text(record, "id", where)
    here = f"{where}: item {item_id!r}"
    skipped = NOT_FIELDS | without
    fields = {key: text_of(value, key, here) for key, value in record.items() if key not in skipped and value is not None}
    item = Item(item_id, fields, _date(record, here))
    if task:
        _check(item, task, where)
    return item


def query_of(record: Any, where: str) -> Query:
    """A query; `gold` may be absent or null."""
    record = mapping_of(record, where)
    query_id = required_text(record, "id", where)
    here = f"{where}: query {query_id!r}"
    gold = record.get("gold")
    return Query(query_id, required_text(record, "input", here), None if gold is None else text_of(gold, "gold", here))


def person_of(record: Any, where: str, task: Task | None = None) -> Person:
    """A person from `{"user_id", "profile": […], "query": […]}`; the history is put in order of date."""
    record = mapping_of(record, where)
    user_id = required_text(record, "user_id", where)
    items = [item_of(r, f"{where}: profile[{n}]", task) for n, r in enumerate(list_of(record, "profile", where))]
    queries = [query_of(r, f"{where}: query[{n}]") for n, r in enumerate(list_of(record, "query", where))]
    return Person(user_id, in_order(items), tuple(queries))


def in_order(items: list[Item]) -> tuple[Item, ...]:
    """Oldest first; items of the same date keep the order of the file."""
    return tuple(sorted(items, key=lambda item: date_key(item.date)))


def mapping_of(record: Any, where: str) -> Mapping[str, Any]:
    """The record, if it is a JSON object; else FileFormatError."""
    if not isinstance(record, Mapping):
        raise problem(where, None, f"expected an object, found {_kind(record)}", "write it as {…}")
    return record


def list_of(record: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The list under this key; else FileFormatError."""
    value = record.get(key)
    if not isinstance(value, list):
        found = "missing" if key not in record else f"expected a list, found {_kind(value)}"
        raise problem(where, key, found, f"write it as {key!r}: […]")
    return value


def required_text(record: Mapping[str, Any], key: str, where: str) -> str:
    """The text under this key, which must be there and not blank; else FileFormatError."""
    if record.get(key) is None:
        raise problem(where, key, "missing" if key not in record else "null", f"every record here needs {key!r}")
    text = text_of(record[key], key, where)
    if not text.strip():
        raise problem(where, key, "blank", f"every record here needs {key!r}")
    return text


def text_of(value: Any, key: str, where: str) -> str:
    """A value as text.

    Raises:
        FileFormatError: if it is an object, or a list that holds more than texts and numbers.
    """
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, (str, int, float)) for part in value):
        return ", ".join(text_of(part, key, where) for part in value)
    raise problem(where, key, f"expected text or a number, found {_kind(value)}", "write it as one text")


def _storable(text: str) -> str:
    if "\0" in text:
        text = text.replace("\0", "")
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _date(record: Mapping[str, Any], where: str) -> str | None:
    date = None if record.get("date") is None else text_of(record["date"], "date", where).strip()
    if date:
        return _year_first(date, where)
    seconds = record.get("ts")
    if seconds is None:
        return None
    try:
        return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (TypeError, ValueError, OverflowError, OSError):
        raise problem(where, "ts", "not a time in seconds since 1970", "write a number, or a 'date'") from None


def _year_first(date: str, where: str) -> str:
    """The date, if it starts with a year: in any other notation it would sort wrongly, and the future look like the past."""
    if not re.match(r"\d{4}(?!\d)", date):
        raise problem(where, "date", "does not start with a year", "write it as YYYY-MM-DD, with a time or not, or as YYYY")
    return date


def _check(item: Item, task: Task, where: str) -> None:
    try:
        if task.owns(item):
            task.check_item(item)
    except (TaskFieldError, LabelError) as error:
        raise FileFormatError(f"{where}: {error}") from None


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "null")
