"""The store: people's histories and the adapters made from them.

    with Store.open("my-store") as store:
        store.add_person(person)
        digest = store.publish(manifest, payload)
        store.head("ana", task="LaMP-2N", base=fingerprint)

Rows are in SQL (SQLite in the folder, or PostgreSQL), payloads in files named by digest. An adapter's file is on disk
before its row is, and its row is gone before its file is, so a crash leaves at most a file that nobody names.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

import platformdirs

from idiolect.errors import StoreError
from idiolect.store import adapters, database, encryption, locks
from idiolect.store.blobs import Blobs
from idiolect.store.database import Database
from idiolect.store.forgetting import Forgettings
from idiolect.store.game.books import GameBooks
from idiolect.store.keys import Keyring
from idiolect.store.people import People
from idiolect.store.pools import Pools
from idiolect.store.records import Swept
from idiolect.store.shelf import Shelf
from idiolect.store.vault import Vault


class Store(People, Shelf, Pools, Vault, Forgettings):
    """People, items, adapters, heads, lineage, runs, pools, pieces, keys and requests to forget.

    Safe to use from several threads and processes.

    Every method raises StoreError if the database or the disk fails, and StoreBusy if another writer does not finish in
    time; nothing is then half-written. No message holds anyone's text.
    """

    @classmethod
    def open(
        cls,
        location: str | Path | None = None,
        *,
        blobs: Path | None = None,
        keys: Path | None = None,
        timeout_s: float = 30.0,
    ) -> Self:
        """Open a store, and make it where there is none.

        Args:
            location: a folder, or `postgresql+psycopg://user@host/name`; by default
                $IDIOLECT_STORE, else the user's data folder.
            blobs: where adapters' files go; by default `blobs` in the folder, or a folder per PostgreSQL database in the
                user's data folder. One database, one blobs folder: `sweep` removes files that its database does not know.
            keys: where people's keys lie; by default $IDIOLECT_KEYS, else where `encrypt` put them, else `keys` beside the
                files.
            timeout_s: how long to wait for another writer.

        Raises:
            StoreError: if the store was written by a newer version, or cannot be reached.
            ConfigError: if the location is neither a folder nor such an URL.
            DependencyMissing: if psycopg is not installed.
        """
        place = location or os.environ.get("IDIOLECT_STORE") or platformdirs.user_data_dir("idiolect")
        opened = _on_server if isinstance(place, str) and "://" in place else _in_folder
        rows, folder = opened(place, timeout_s)
        try:
            rows.migrate()
            files = Blobs(Path(blobs) if blobs else folder)
            store = cls(rows, files, Keyring(_keys_folder(rows, files, keys)))
            store._finish_deletions()
        except BaseException:
            rows.close()
            raise
        return store

    @property
    def game(self) -> GameBooks:
        """The word game's rows."""
        return GameBooks(self._rows)

    def scrub(self) -> bool:
        """Wipe what SQLite's log keeps of deleted rows; False if a reader keeps it from that. PostgreSQL does it itself."""
        return self._rows.scrub()

    def close(self) -> None:
        self._rows.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def lock(self, name: str = "training") -> AbstractContextManager[None]:
        """Hold the store for one long job, e.g. `with store.lock("training"):`. Reading and writing stay possible.

        A lock ends with its process, however that ends.

        Raises:
            StoreBusy: if another process (or another holder in this one) has it; names the process and since when.
        """
        if self._rows.is_sqlite:
            return locks.file_lock(Path(self.place) / "locks", name)
        return locks.server_lock(self._rows, name)

    def sweep(self, older_than_s: float = 3600.0) -> Swept:
        """Remove files that no row names, and temporary files, last written this long ago: what crashes left behind."""
        self._finish_deletions()
        with self._rows.write("adapters") as connection:
            stale = list(self._blobs.stale(older_than_s))
            kept = adapters.known(connection, [path.name for path, temporary in stale if not temporary])
            gone = [(path, temporary) for path, temporary in stale if path.name not in kept]
            size_bytes = sum(_unlinked(path) for path, _ in gone)
        n_temporary = sum(temporary for _, temporary in gone)
        return Swept(len(gone) - n_temporary, n_temporary, size_bytes)


def _in_folder(place: str | Path, timeout_s: float) -> tuple[Database, Path]:
    folder = Path(place).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return database.sqlite(folder / "idiolect.db", timeout_s=timeout_s), folder / "blobs"
    except OSError as error:
        raise StoreError(f"there can be no store at {folder}: {error.strerror}; choose another folder") from None


def _on_server(place: str | Path, timeout_s: float) -> tuple[Database, Path]:
    rows = database.postgres(str(place), timeout_s=timeout_s)
    url = rows.engine.url
    name = hashlib.sha256(f"{url.host}:{url.port}/{url.database}?{url.query.get('host', '')}".encode()).hexdigest()[:16]
    return rows, Path(platformdirs.user_data_dir("idiolect")) / "postgresql" / name / "blobs"


def _keys_folder(rows: Database, files: Blobs, given: Path | None) -> Path:
    if place := given or os.environ.get("IDIOLECT_KEYS"):
        return Path(place).expanduser().absolute()
    with rows.read() as connection:
        kept = encryption.keys_place(connection)
    return Path(kept) if kept else files.folder.parent / "keys"


def _unlinked(path: Path) -> int:
    """Remove a file; its size in bytes."""
    try:
        size_bytes = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise StoreError(f"cannot remove {path}: {error.strerror}") from None
    return size_bytes
