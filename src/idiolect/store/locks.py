"""One training at a time on one store. A lock dies with the process that holds it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, text

from idiolect.errors import InputError, StoreBusy, StoreError
from idiolect.store.database import Database
from idiolect.types import seed_of

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")


@contextmanager
def file_lock(folder: Path, name: str) -> Iterator[None]:
    """Hold `folder/name.lock`. The kernel lets go of it when the process ends, however it ends.

    Raises:
        StoreBusy: if another process holds it; says which, and since when.
    """
    path = folder / f"{_checked(name)}.lock"
    handle = _opened(path)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _busy(name, _holder(path), folder) from None
        _sign(handle)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreError(f"cannot lock {path}: {error.strerror}") from None


def _sign(handle: int) -> None:
    """Say who holds the lock, for the message that others get; the lock itself is the kernel's."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps({"pid": os.getpid(), "since": _now()}).encode(), 0)


def _holder(path: Path) -> str:
    try:
        value = json.loads(path.read_text())
        return f"process {value['pid']} since {value['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # between the lock and the signature
        return "another process"


@contextmanager
def server_lock(database: Database, name: str) -> Iterator[None]:
    """The same on PostgreSQL: a lock of the session, which the server lets go of when the connection ends."""
    key = seed_of("idiolect", "lock", _checked(name))
    with database.guarded():
        connection = database.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
    try:
        with database.guarded():
            if not connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar():
                raise _busy(name, _server_holder(connection, key), database.place)
            signature = f"idiolect process {os.getpid()} since {_now()}"
            connection.execute(text("SELECT set_config('application_name', :value, false)"), {"value": signature})
        yield
    finally:
        connection.invalidate()  # ends the session, and with it the lock and its signature
        connection.close()


def _server_holder(connection: Connection, key: int) -> str:
    found = connection.execute(
        text(
            "SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' "
            "AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
            "AND l.classid::bigint = :high AND l.objid::bigint = :low"
        ),
        {"high": key >> 32, "low": key & 0xFFFFFFFF},
    ).scalar()
    return str(found or "another process").removeprefix("idiolect ")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} cannot name a lock; use lower-case letters, digits, '.', '_' and '-'")
    return name


def _busy(name: str, holder: str, place: object) -> StoreBusy:
    return StoreBusy(f"{name} is already running on the store at {place} ({holder}); wait for it, or stop it, and try again")


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
