"""What the parts of a store share: the rows, the files, and the way from one to the other."""

from __future__ import annotations

import json

from sqlalchemy import Connection

from idiolect.errors import PersonNotFound, StoreError
from idiolect.store import adapters, encryption, histories
from idiolect.store.blobs import Blobs
from idiolect.store.database import Database
from idiolect.store.keys import Keyring, is_sealed


class Room:
    """A database, a folder of files, and the keys that some of them are encrypted with."""

    def __init__(self, rows: Database, blobs: Blobs, keys: Keyring | None = None) -> None:
        self._rows = rows
        self._blobs = blobs
        self._keys = keys or Keyring(blobs.folder.parent / "keys")

    @property
    def place(self) -> str:
        """What to call this store in messages: its folder, or its URL without the password."""
        return self._rows.place

    def _finish_deletions(self) -> int:
        """Remove the files of deleted adapters and destroy keys of deleted people, also those that a crash left; how many files
        there were.

        Alone among publishers: none may find its file in place and lose it before its row is written.
        """
        with self._rows.read() as connection:
            if not adapters.doomed_digests(connection):
                return 0
        with self._rows.write("adapters") as connection:
            names, keys = adapters.doomed_digests(connection), encryption.doomed_keys(connection)
            n_removed = sum(self._blobs.remove(digest) for digest in names if digest not in keys)
            adapters.clear_doomed(connection)
            for key in keys:
                if not self._is_destroyed(key):
                    encryption.doom(connection, key)
        return n_removed

    def _is_destroyed(self, key: str) -> bool:
        """Whether a key is gone for certain, now if not before. Not so where its folder is not there: it may come back."""
        try:
            self._keys.destroy(key)
        except StoreError:
            return False
        return self._keys.is_here

    def require_keys(self) -> None:
        """Raises StoreError where files are encrypted, and the folder with their keys is not there."""
        with self._rows.read() as connection:
            if encryption.is_on(connection) and not self._keys.is_here:
                raise StoreError(
                    f"the keys of the store at {self.place} are not in {self._keys.folder}: put that disk in, or say where "
                    "they are with $IDIOLECT_KEYS; where they are lost, idiolect store encrypt begins new ones"
                )

    def _with_key(self, user_id: str) -> None:
        """Give a person a key where files are encrypted, in a transaction of its own: a key is on record before any file is
        encrypted with it, or a crash in between would leave one that nobody knows to destroy.
        """
        with self._rows.read() as connection:
            person = histories.keys_of(connection, [user_id]).get(user_id)
            if person is None or not encryption.is_on(connection) or encryption.key_of(connection, person):
                return
        self.require_keys()
        with self._rows.write("adapters") as connection:
            if (person := histories.keys_of(connection, [user_id]).get(user_id)) is not None:
                encryption.key_for(connection, person, self._keys)

    def _sealed(self, connection: Connection, person: int | None, user_id: str | None, digest: str, payload: bytes) -> bytes:
        """What is to be written of an adapter: encrypted where the store is, and where it is somebody's."""
        if person is None or user_id is None or not encryption.is_on(connection):
            return payload
        return self._keys.seal(encryption.key_for(connection, person, self._keys), user_id, digest, payload)

    def _opened(self, digest: str, manifest: str, data: bytes) -> bytes:
        """The bytes of an adapter's file, decrypted where they have to be. Raises CorruptBlob."""
        return self._keys.open(data, json.loads(manifest)["user_id"] or "", digest) if encryption.looks(data) else data

    def _is_sealed(self, digest: str) -> bool:
        return is_sealed(self._blobs.path(digest))

    def _key(self, connection: Connection, user_id: str) -> int:
        found = histories.keys_of(connection, [user_id])
        if user_id not in found:
            raise self._nobody(user_id)
        return found[user_id]

    def _nobody(self, user_id: str) -> PersonNotFound:
        return PersonNotFound(f"there is no person {user_id!r} in the store at {self.place}; see who is: idiolect history list")
