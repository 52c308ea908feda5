"""Requests to forget, as rows. Every function runs in the transaction that it is given.

While a request is not finished its row says whom and what, or nobody could go on with it; then only that it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from idiolect.store.records import ForgettingRow, ForgettingState
from idiolect.store.runs import utc
from idiolect.store.tables import forgettings
from idiolect.types import canonical_json


def begin(connection: Connection, request: str, user_id: str, item_id: str | None, plan: Mapping[str, Any]) -> None:
    """Insert a request."""
    values = {"request": request, "user_id": user_id, "item_id": item_id, "state": "begun", "plan": canonical_json(dict(plan))}
    connection.execute(insert(forgettings).values(**values, began=time.time()))


def note(connection: Connection, request: str, state: ForgettingState, plan: Mapping[str, Any]) -> None:
    """Say how far a request is."""
    values = {"state": state, "plan": canonical_json(dict(plan))}
    connection.execute(update(forgettings).where(forgettings.c.request == request).values(values))


def finish(connection: Connection, request: str, receipt: str) -> None:
    """Keep nothing of a request but that it was, when, and its receipt's digest."""
    values = {"user_id": None, "item_id": None, "state": "done", "plan": None, "receipt": receipt, "ended": time.time()}
    connection.execute(update(forgettings).where(forgettings.c.request == request).values(values))


def listed(connection: Connection) -> list[ForgettingRow]:
    """Requests, the oldest first."""
    c = forgettings.c
    query = select(c.request, c.user_id, c.item_id, c.state, c.plan, c.receipt, c.began, c.ended).order_by(c.id)
    return [_row(row) for row in connection.execute(query)]


def _row(row: Row[Any]) -> ForgettingRow:
    request, user_id, item_id, state, plan, receipt, began, ended = row
    done = None if ended is None else utc(ended)
    return ForgettingRow(request, user_id, item_id, state, json.loads(plan or "{}"), receipt, utc(began), done)
