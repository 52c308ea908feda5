"""What the parts of a store share: the rows, the files, and the way from one to the other."""

from __future__ import annotations

from sqlalchemy import Connection

from idiolect.errors import PersonNotFound
from idiolect.store import adapters, histories
from idiolect.store.blobs import Blobs
from idiolect.store.database import Database


class Room:
    """A database and a folder of files."""

    def __init__(self, rows: Database, blobs: Blobs) -> None:
        self._rows = rows
        self._blobs = blobs

    @property
    def place(self) -> str:
        """What to call this store in messages: its folder, or its URL without the password."""
        return self._rows.place

    def _finish_deletions(self) -> int:
        """Remove the files of deleted adapters, also those that a crash left; how many there were.

        Alone among publishers: none may find its file in place and lose it before its row is written.
        """
        with self._rows.read() as connection:
            if not adapters.doomed_digests(connection):
                return 0
        with self._rows.write("adapters") as connection:
            n_removed = sum(self._blobs.remove(digest) for digest in adapters.doomed_digests(connection))
            adapters.clear_doomed(connection)
        return n_removed

    def _key(self, connection: Connection, user_id: str) -> int:
        found = histories.keys_of(connection, [user_id])
        if user_id not in found:
            raise self._nobody(user_id)
        return found[user_id]

    def _nobody(self, user_id: str) -> PersonNotFound:
        return PersonNotFound(f"there is no person {user_id!r} in the store at {self.place}; see who is: idiolect history list")
