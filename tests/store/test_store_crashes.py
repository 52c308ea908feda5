"""What a store survives: kills, full disks, other processes, other versions."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from store_making import manifest, person

from idiolect.errors import ConfigError, DependencyMissing, InputError, StoreBusy, StoreError
from idiolect.store import database
from idiolect.store.store import Store
from idiolect.store.tables import REVISION, metadata

HERE = Path(__file__).parent
START = f"import sys; sys.path.insert(0, {str(HERE)!r})\n" + (
    "from pathlib import Path\nfrom store_making import manifest, person\nfrom idiolect.store.store import Store\n"
    "from idiolect.errors import StoreBusy, StoreError\nlocation, blobs = sys.argv[1], Path(sys.argv[2])\n"
)


def script(body: str, location: str, blobs: Path) -> subprocess.Popen[str]:
    """A process of its own that runs `body`; its output and errors come through one pipe."""
    command = [sys.executable, "-W", "error", "-c", START + body, location, str(blobs)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def output(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=60)
    return said


# ---------------------------------------------------------------------------------------------------- opening


def open_store(location: str, blobs: Path, barrier: object, answers: multiprocessing.Queue[str]) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    try:
        with Store.open(location, blobs=blobs) as store:
            answers.put(str(store.add_person(person(f"p{os.getpid()}")).n_items))
    except BaseException as error:
        answers.put(repr(error))


def test_many_processes_open_an_empty_store_at_once(empty_location: str, blobs: Path) -> None:
    start = multiprocessing.get_context("spawn")
    n = 3
    barrier, answers = start.Barrier(n), start.Queue()
    processes = [start.Process(target=open_store, args=(empty_location, blobs, barrier, answers)) for _ in range(n)]
    for process in processes:
        process.start()
    assert [answers.get(timeout=60) for _ in processes] == ["2"] * n
    for process in processes:
        process.join()
        process.close()
    answers.close()
    answers.join_thread()
    with Store.open(empty_location, blobs=blobs) as store:
        assert len(store.people()) == n


def test_the_migrations_make_the_tables(empty_location: str, blobs: Path) -> None:
    with Store.open(empty_location, blobs=blobs) as store, store._rows.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        assert context.get_current_revision() == REVISION


def test_the_newest_migration_is_the_one_that_the_tables_name() -> None:
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_a_newer_store_is_refused(empty_location: str, blobs: Path) -> None:
    with Store.open(empty_location, blobs=blobs) as store:
        store.add_person(person())
        with store._rows.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreError, match=r"newer idiolect \(schema 9999.*upgrade: pip install"):
        Store.open(empty_location, blobs=blobs)


def test_sqlite_is_private_and_careful(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "store"
    with Store.open(folder) as store:
        store.add_person(person())
        digest = store.publish(manifest(), b"x")
        with store._rows.read() as connection:
            names = ("journal_mode", "secure_delete", "foreign_keys")
            found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
        assert found == {"journal_mode": "wal", "secure_delete": 1, "foreign_keys": 1}
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert {path.name for path in files} >= {"idiolect.db", "idiolect.db-wal", digest}
        assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
        folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
        assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}


def test_where_a_store_is_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.delenv("IDIOLECT_STORE", raising=False)
    with Store.open() as store:
        assert store.place == str(tmp_path / "data" / "idiolect")
    monkeypatch.setenv("IDIOLECT_STORE", str(tmp_path / "other"))
    with Store.open() as store:
        assert store.place == str(tmp_path / "other")


def test_places_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="choose another folder"):
        Store.open(tmp_path / "file" / "store")
    for url in ("mysql://host/name", "sqlite:///x.db", "postgresql://host:port/x"):
        with pytest.raises(ConfigError):
            Store.open(url)
    (tmp_path / "idiolect.db").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(tmp_path)
    with pytest.raises(StoreError, match="cannot be reached") as caught:
        Store.open(f"postgresql://me:password@/x?host={tmp_path}")
    assert "password" not in str(caught.value)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DependencyMissing, match="pip install"):
        Store.open("postgresql://host/x")


# ---------------------------------------------------------------------------------------------------- kills


PUBLISH_FOR_EVER = """
import os
with Store.open(location, blobs=blobs) as store:
    store.add_person(person("ana"))
    n = int.from_bytes(os.urandom(6), "big")
    print("ready", flush=True)
    while True:
        store.publish(manifest("ana", seed=n), os.urandom(50_000))
        n += 1
"""


def test_killed_while_publishing(location: str, blobs: Path) -> None:
    delays = random.Random(0)
    for _ in range(3):
        process = script(PUBLISH_FOR_EVER, location, blobs)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delays.uniform(0.05, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with Store.open(location, blobs=blobs) as store:
        rows = store.adapters()
        assert len(rows) >= 1
        for row in rows:
            assert len(store.payload(row.digest)) == row.size_bytes == 50_000
            assert store.find(store.manifest(row.digest)) == row.digest
        assert store.head("ana", task="LaMP-2N", base=rows[0].base) == rows[0].digest
        store.sweep(older_than_s=0)
        assert {path.name for path in blobs.glob("*/*")} == {row.digest for row in rows}


def test_killed_while_importing(location: str, blobs: Path) -> None:
    body = """
def people():
    for n in range(10_000):
        if n == 500:
            print("ready", flush=True)
            sys.stdin.readline()
        yield person(f"p{n}", 10)
Store.open(location, blobs=blobs).import_people(people())
"""
    process = script(body, location, blobs)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with Store.open(location, blobs=blobs, timeout_s=5) as store:
        assert store.people() == []
        assert store.add_person(person("ana")).n_items == 2


def test_sweeping(store: Store, blobs: Path) -> None:
    store.add_person(person())
    digest = store.publish(manifest(), b"x")
    orphan, half = blobs / "ab" / ("ab" * 32), blobs / "ab" / ".part-1-2"
    foreign = blobs / "ab" / "notes.txt"
    orphan.parent.mkdir(exist_ok=True)
    for path in (orphan, half, foreign):
        path.write_bytes(b"12345")
    assert store.sweep().n_orphans == 0
    os.utime(orphan, (1, 1))
    assert (swept := store.sweep()).n_orphans == 1
    assert (swept.n_temporary, swept.size_bytes) == (0, 5)
    assert store.sweep(older_than_s=0).n_temporary == 1
    assert not orphan.exists()
    assert not half.exists()
    assert foreign.exists()
    assert store.payload(digest) == b"x"


# ---------------------------------------------------------------------------------------------------- a full disk


FULL = """
import resource
with Store.open(location, blobs=blobs) as store:
    store.add_person(person("ana"))
    kept = store.publish(manifest("ana"), b"kept")
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
    try:
        store.publish(manifest("ana", seed=1, item_ids=tuple(map(str, range({n_items})))), bytes({size}))
    except StoreError as error:
        print(type(error).__name__, str(error).count("\\n"), "|", error)
    assert [row.digest for row in store.adapters()] == [kept]
    assert store.payload(kept) == b"kept"
    print(sorted(path.name for path in blobs.glob("*/*")) == [kept])
"""


def test_a_full_disk_while_the_file_is_written(location: str, blobs: Path) -> None:
    said = output(script(FULL.format(limit=600_000, n_items=2, size=2_000_000), location, blobs)).splitlines()
    assert said[0].startswith("StoreError 0 | no space for 2,000,000 bytes in ")
    assert said[1:] == ["True"]


def test_a_full_disk_while_the_rows_are_written(tmp_path: Path) -> None:
    said = output(script(FULL.format(limit=600_000, n_items=40_000, size=10), str(tmp_path), tmp_path / "blobs")).splitlines()
    assert said[0].startswith("StoreError 0 | the store at ")
    assert said[1:] == ["True"]


# ---------------------------------------------------------------------------------------------------- other processes


HOLD = """
with Store.open(location, blobs=blobs) as store, store.lock("training"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_two_trainings_at_a_time(store: Store, location: str, blobs: Path) -> None:
    process = script(HOLD, location, blobs)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(StoreBusy, match=rf"training.*process {process.pid} since 20\d\d-.*try again"), store.lock("training"):
        pass
    assert store.add_person(person()).n_items == 2
    with store.lock("export"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    with_patience(store)
    with store.lock("training"):
        pass


def with_patience(store: Store) -> None:
    """A PostgreSQL server notices within moments that a client died."""
    for _ in range(100):
        try:
            with store.lock("training"):
                return
        except StoreBusy:
            time.sleep(0.05)
    raise AssertionError("the lock of a dead process still holds")


def test_a_lock_is_exclusive_within_one_process_too_and_ends_with_an_error(store: Store) -> None:
    with pytest.raises(StoreBusy), store.lock(), store.lock():
        pass
    with pytest.raises(ZeroDivisionError), store.lock():
        raise ZeroDivisionError
    with store.lock():
        pass
    with pytest.raises(InputError), store.lock("../up"):
        pass


def test_a_writer_waits_and_then_says_busy(store: Store, location: str, blobs: Path) -> None:
    with Store.open(location, blobs=blobs, timeout_s=0.2) as other, store._rows.write("histories"):
        assert other.people() == []
        began = time.monotonic()
        with pytest.raises(StoreBusy, match="another process is writing"):
            other.add_person(person())
        assert 0.1 < time.monotonic() - began < 5


IMPORT = """
with Store.open(location, blobs=blobs) as store:
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(25):
        store.import_people([person("ana", n), person(f"p{n}", 3)])
"""


def test_two_processes_that_import_at_once_lose_nothing(store: Store, location: str, blobs: Path) -> None:
    processes = [script(IMPORT, location, blobs) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    assert [output(process) for process in processes] == ["", ""]
    assert store.person("ana") == person("ana", 24)
    assert {s.id: s.n_items for s in store.people()} == {"ana": 24} | {f"p{n}": 3 for n in range(25)}


def test_opening_an_existing_store_runs_no_migration(tmp_path: Path) -> None:
    with Store.open(tmp_path):
        pass
    done = output(script("Store.open(location).close(); print('alembic' in sys.modules)", str(tmp_path), tmp_path))
    assert done == "False\n"


def test_foreign_writers_find_plain_sqlite(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        store.add_person(person())
    connection = sqlite3.connect(tmp_path / "idiolect.db")
    assert connection.execute("SELECT n_items FROM people").fetchall() == [(2,)]
    connection.close()
