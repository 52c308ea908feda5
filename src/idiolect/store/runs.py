"""Runs, as rows. Every function runs in the transaction that it is given."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from idiolect.store.records import RunRow
from idiolect.store.tables import runs
from idiolect.types import canonical_json


def begin(connection: Connection, kind: str, settings: Mapping[str, Any]) -> str:
    """Insert a run; its id, e.g. "train-20260102-030405-1f2e"."""
    now = time.time()
    run_id = f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{secrets.token_hex(4)}"
    connection.execute(
        insert(runs).values(run_id=run_id, kind=kind, status="running", settings=canonical_json(dict(settings)), started=now)
    )
    return run_id


def end(connection: Connection, run_id: str, status: str, summary: Mapping[str, Any]) -> bool:
    """False if there is no such run."""
    values = {"status": status, "summary": canonical_json(dict(summary)), "ended": time.time()}
    return bool(connection.execute(update(runs).where(runs.c.run_id == run_id).values(values)).rowcount)


def key_of(connection: Connection, run_id: str) -> int | None:
    """Row key of a run; None if there is no such run."""
    return connection.execute(select(runs.c.id).where(runs.c.run_id == run_id)).scalar_one_or_none()


def listed(connection: Connection, limit: int | None) -> list[RunRow]:
    """Runs, newest first."""
    c = runs.c
    query = select(c.run_id, c.kind, c.status, c.settings, c.summary, c.started, c.ended).order_by(c.id.desc()).limit(limit)
    return [_run_row(row) for row in connection.execute(query)]


def _run_row(row: Row[Any]) -> RunRow:
    run_id, kind, status, settings, summary, started, ended = row
    done = utc(ended) if ended is not None else None
    return RunRow(run_id, kind, status, json.loads(settings), json.loads(summary or "{}"), utc(started), done)


def utc(seconds: float) -> datetime:
    """Seconds since 1970 as a date-time."""
    return datetime.fromtimestamp(seconds, UTC)
