"""Every test that takes `store` runs on SQLite and on a PostgreSQL of our own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from idiolect.store.store import Store
from idiolect.store.tables import metadata

PORT = 54329  # names the socket file only: the server listens on no network


def binaries() -> Path | None:
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else []
    folders += [Path(p).parent for p in sorted(glob("/usr/lib/postgresql/*/bin/initdb"), reverse=True)]
    return next((f for f in folders if all((f / name).exists() for name in ("initdb", "pg_ctl", "postgres"))), None)


def unprivileged() -> str | None:
    """Whom to run the server as: it refuses to run as root."""
    if os.getuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        pytest.skip("running as root, and there is no user 'postgres' to run PostgreSQL as")


@pytest.fixture(scope="session")
def postgres_socket() -> Iterator[Path]:
    """The socket folder of a fresh PostgreSQL, which lives as long as the test session."""
    programs, user = binaries(), unprivileged()
    if programs is None:
        pytest.skip("no PostgreSQL here: initdb, pg_ctl and postgres are neither on PATH nor in /usr/lib/postgresql")
    folder = Path(tempfile.mkdtemp(prefix="idiolect-pg-"))
    if user:
        shutil.chown(folder, user)

    def call(*command: str | Path) -> None:
        done = subprocess.run([str(c) for c in command], user=user, cwd=folder, capture_output=True, text=True, env=os.environ)
        assert done.returncode == 0, done.stdout + done.stderr

    data = folder / "data"
    # A locale that sorts unlike SQLite does, so that an order that leans on the server's locale shows.
    locale = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en")
    call(programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync", *locale)
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c port={PORT} -c fsync=off -c max_connections=40"
    call(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
    try:
        yield folder
    finally:
        call(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder)


def postgres_url(socket: Path, name: str) -> str:
    return f"postgresql+psycopg://postgres@/{name}?host={socket}&port={PORT}"


@pytest.fixture
def new_database(postgres_socket: Path) -> Iterator[str]:
    """URL of an empty database."""
    name = f"t{os.urandom(6).hex()}"
    admin = create_engine(postgres_url(postgres_socket, "postgres"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield postgres_url(postgres_socket, name)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(scope="session")
def shared_database(postgres_socket: Path) -> str:
    """URL of a database that tests share, emptied for each of them."""
    return postgres_url(postgres_socket, "postgres")


@pytest.fixture(params=["sqlite", "postgres"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def location(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where an empty, migrated store may be opened, again and again."""
    if kind == "sqlite":
        return str(tmp_path / "store")
    url = request.getfixturevalue("shared_database")
    with Store.open(url, blobs=tmp_path / "blobs") as store:
        clear(store)
    return url


@pytest.fixture
def blobs(kind: str, tmp_path: Path) -> Path:
    return tmp_path / "store" / "blobs" if kind == "sqlite" else tmp_path / "blobs"


@pytest.fixture
def store(location: str, blobs: Path) -> Iterator[Store]:
    with Store.open(location, blobs=blobs, timeout_s=5) as store:
        yield store


@pytest.fixture
def empty_location(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """Where there is nothing yet, not even a schema."""
    return str(tmp_path / "store") if kind == "sqlite" else request.getfixturevalue("new_database")


def clear(store: Store) -> None:
    """Empty every table, so that one store serves many examples."""
    with store._rows.write("histories", "adapters") as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
