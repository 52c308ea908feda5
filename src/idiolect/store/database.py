"""The one seam to SQL: engines, transactions, schema. SQLAlchemy's errors become ours here, without anyone's text."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, Literal, get_args

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from idiolect.errors import ConfigError, DependencyMissing, StoreBusy, StoreError
from idiolect.store.tables import REVISION
from idiolect.types import seed_of

Area = Literal["histories", "adapters", "game"]
"""What a transaction writes. Writers of one area wait for each other; on SQLite all writers do."""

MIGRATIONS = Path(__file__).with_name("migrations")

_PRAGMAS = ("foreign_keys=ON", "secure_delete=ON", "temp_store=MEMORY", "synchronous=FULL")
_MUCH_MEMORY = 2**28
_POOL: Final[Mapping[str, Any]] = {"pool_size": 15, "max_overflow": 0}  # those beyond a pool's size are made anew each time
_PG_WAITED_TOO_LONG = ("55P03", "40P01", "57014")  # lock timeout, deadlock, statement timeout


class Database:
    """An engine and how to use it: short read transactions, and write transactions that wait for their turn.

    Writers of one process queue here, before any of them takes a connection: SQLite has them sleep longer and longer between
    tries, and PostgreSQL's lock is waited for on a connection that readers then lack. Other processes are the database's to
    keep apart.

    Args:
        engine: made by `sqlite` or `postgres`.
        place: what messages call this store; holds no password.
        timeout_s: how long a writer waits for its turn.
    """

    def __init__(self, engine: Engine, place: str, timeout_s: float) -> None:
        self.engine = engine
        self.place = place
        self._timeout_s = timeout_s
        self._turns = {area: threading.Lock() for area in ("", *get_args(Area))}

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction in which every query sees the same state."""
        options = {} if self.is_sqlite else {"isolation_level": "REPEATABLE READ"}
        with self.guarded(), self.engine.connect() as raw, raw.execution_options(**options) as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *areas: Area) -> Iterator[Connection]:
        """A transaction that is alone in its areas; all of it happens or, on any exception, nothing.

        Raises:
            StoreBusy: if another writer does not finish in time.
        """
        ordered = sorted(areas, reverse=True)  # one order for all, so that no two writers wait for each other
        with (
            self._turn(ordered),
            self.guarded(),
            self.engine.connect() as raw,
            raw.execution_options(writes=True) as connection,
            connection.begin(),
        ):
            for area in ordered:
                if not self.is_sqlite:
                    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": seed_of("idiolect", area)})
            yield connection

    @contextmanager
    def _turn(self, areas: Sequence[Area]) -> Iterator[None]:
        """This thread's turn among those of the process to write in these areas; on SQLite, to write at all."""
        ends = time.monotonic() + self._timeout_s
        with ExitStack() as held:
            for area in ("",) if self.is_sqlite else areas:
                turn = self._turns[area]
                if not turn.acquire(timeout=max(0.0, ends - time.monotonic())):
                    raise _busy(self.place, "other writers of this process have not finished")
                held.callback(turn.release)
            yield

    def scrub(self) -> bool:
        """Empty SQLite's write-ahead log, where deleted rows live on; False if a reader keeps it from being emptied."""
        if not self.is_sqlite:
            return True
        with self.guarded(), self.engine.connect() as connection:
            driver = connection.connection.dbapi_connection
            assert driver is not None
            busy, *_ = driver.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy

    def compact(self) -> bool:
        """Write SQLite's file anew from the rows that are there, so that no page holds a remnant of deleted ones, then `scrub`;
        False if another process, or a full disk, keeps it from that.
        """
        if not self.is_sqlite:
            return True
        try:
            with self.guarded(), self.engine.connect() as connection:
                driver = connection.connection.dbapi_connection
                assert driver is not None
                cursor = driver.cursor()
                pages, page_bytes = (cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
                if pages * page_bytes > _MUCH_MEMORY:  # the copy is on its way into this file, and holds nothing that went
                    cursor.execute("PRAGMA temp_store=FILE")
                try:
                    cursor.execute("VACUUM")
                finally:
                    cursor.execute("PRAGMA temp_store=MEMORY")
        except StoreError:
            return False
        return self.scrub()

    def migrate(self) -> None:
        """Bring the schema up to this code's.

        Raises:
            StoreError: if the store was written by newer code.
        """
        with self.read() as connection:
            found = _revision(connection)
        if found == REVISION:
            return
        with self.write("histories") as connection:  # a second process waits here, and then finds the work done
            _upgrade(connection, self.place)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def guarded(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise _translated(error, self.place) from None  # the cause's message may quote rows


def sqlite(path: Path, *, timeout_s: float) -> Database:
    """SQLite at `path`, readable by its owner only."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # -wal and -shm inherit the mode
    url = URL.create("sqlite", database=str(path))
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": timeout_s}, **_POOL)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver would begin too late, and not at all before DDL
        for pragma in _PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and writes later would fail at once, not wait, when another writer came between.
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    database = Database(engine, str(path.parent), timeout_s)
    _use_wal(database, path)
    return database


def _use_wal(database: Database, path: Path) -> None:
    """Turn on the write-ahead log, which lasts. Behind a file lock: SQLite does not wait for its turn at this."""
    with database.guarded(), _file_locked(path.with_suffix(".opening")), database.engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        assert driver is not None
        mode = driver.cursor().execute("PRAGMA journal_mode").fetchone()[0]
        if mode != "wal":
            driver.cursor().execute("PRAGMA journal_mode=WAL")


@contextmanager
def _file_locked(path: Path) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # and with it the lock


def postgres(location: str, *, timeout_s: float) -> Database:
    """PostgreSQL at an URL such as `postgresql+psycopg://user@host/name`."""
    url = _postgres_url(location)
    options = f"-c lock_timeout={round(timeout_s * 1000)}"
    try:
        engine = create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args={"options": options}, **_POOL)
    except ImportError:
        raise DependencyMissing("PostgreSQL needs psycopg; install it: pip install 'idiolect[postgres]'") from None
    return Database(engine, url.render_as_string(hide_password=True), timeout_s)


def _postgres_url(location: str) -> URL:
    try:
        url = make_url(location)
    except (ArgumentError, ValueError):  # ValueError: a port that is no number
        raise ConfigError("the store's URL cannot be read; write postgresql+psycopg://user@host/name") from None
    if url.drivername not in ("postgres", "postgresql", "postgresql+psycopg"):
        raise ConfigError(f"a store is a folder or postgresql+psycopg://user@host/name, not {url.drivername}://…")
    return url.set(drivername="postgresql+psycopg")


def _revision(connection: Connection) -> str | None:
    """The schema's revision; None in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade(connection: Connection, place: str) -> None:
    # Imported here: only a new or an old store needs it, and it costs more than opening one.
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    found = _revision(connection)
    if found is not None and found not in known:
        raise StoreError(
            f"the store at {place} was written by a newer idiolect (schema {found}; this one knows {REVISION}); "
            "upgrade: pip install --upgrade idiolect"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _translated(error: SQLAlchemyError, place: str) -> StoreError:
    """Our error for SQLAlchemy's. PostgreSQL's own words are left out: they may quote what people wrote."""
    original = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", None)
    reason = f"PostgreSQL error {state}" if state else type(error).__name__
    if type(original).__module__ == "sqlite3":  # names tables and columns, never values
        reason = str(original)
    if "locked" in reason or state in _PG_WAITED_TOO_LONG:
        return _busy(place, "another process is writing to it")
    if "unable to open" in reason or (original is not None and state is None and "sqlite3" not in type(original).__module__):
        return StoreError(f"the store at {place} cannot be reached ({reason}); is its server running, its folder there?")
    if "full" in reason or state == "53100":
        return StoreError(f"the disk of the store at {place} is full; nothing was changed; free some space and try again")
    return StoreError(f"the store at {place} failed ({reason}); nothing was changed")


def _busy(place: str, why: str) -> StoreBusy:
    return StoreBusy(f"the store at {place} is busy: {why}; wait for it and try again")
