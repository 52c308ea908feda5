"""The store's half that encrypts: people's files at rest, each person's with a key of their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sqlalchemy import select

from idiolect.errors import ConfigError, CorruptBlob
from idiolect.store import adapters, encryption
from idiolect.store.keys import Keyring, key_of
from idiolect.store.records import Encrypted
from idiolect.store.room import Room
from idiolect.store.tables import adapters as adapter_table
from idiolect.store.tables import people


class Vault(Room):
    """Turn encryption on, and sign receipts."""

    @property
    def keys(self) -> Keyring:
        """Where keys lie."""
        return self._keys

    def is_encrypted(self) -> bool:
        """Whether new files of people are encrypted."""
        with self._rows.read() as connection:
            return encryption.is_on(connection)

    def encrypt(
        self, folder: str | Path | None = None, on_progress: Callable[[int, int], None] = lambda n, of: None
    ) -> Encrypted:
        """Encrypt people's adapters, from now on and those that are there; where it is cut off, the same call goes on.

        Histories and shared pieces are in the database, and are not encrypted; nor are task adapters, which are nobody's.

        Args:
            folder: where keys are to lie; None: where they do, at first beside the files.
            on_progress: called with (files done, files in all).

        Raises:
            ConfigError: keys lie elsewhere already.
            StoreError: a key or a file cannot be written; what is done stays done.
        """
        self._turn_on(None if folder is None else Path(folder).expanduser().absolute())
        with self._rows.read() as connection:
            mine = select(adapter_table.c.digest, people.c.user_id).join(people, adapter_table.c.person == people.c.id)
            owners = dict(connection.execute(mine.order_by(adapter_table.c.id)).tuples().all())
        found: dict[str, list[str]] = {"sealed": [], "already": [], "damaged": [], "gone": []}
        for n, (digest, owner) in enumerate(owners.items(), 1):
            self._with_key(owner)
            found[self._encrypt(digest)].append(digest)
            on_progress(n, len(owners))
        return Encrypted(len(found["sealed"]), len(found["already"]), tuple(found["damaged"]))

    def _turn_on(self, folder: Path | None) -> None:
        with self._rows.write("adapters") as connection:
            if encryption.is_on(connection):
                if folder is not None and folder != self._keys.folder:
                    raise ConfigError(
                        f"keys of this store lie in {self._keys.folder}; to have them elsewhere, move that folder and say so "
                        "with $IDIOLECT_KEYS"
                    )
                self._keys.signing()  # where keys were lost, new ones begin here
                return
            if folder is not None:
                self._keys.folder = folder
            beside = self._keys.folder == self._blobs.folder.parent / "keys"
            self._keys.signing()  # before anything hangs on it: whether a key can be written there
            encryption.turn_on(connection, None if beside else str(self._keys.folder))

    def _encrypt(self, digest: str) -> str:
        """What became of one file. Alone among publishers and sweepers."""
        with self._rows.write("adapters") as connection:
            row = self._owned(connection, digest)
            if row is None:
                return "gone"
            if self._is_sealed(digest):
                return "already"
            try:
                payload = self._blobs.read(digest)
            except CorruptBlob:
                return "damaged"
            if adapters.adapter_digest(row.manifest, payload) != digest:
                return "damaged"
            self._blobs.write(digest, self._sealed(connection, row.person, row.user_id, digest, payload))
        return "sealed"

    def renew_key(self, user_id: str, old: str) -> None:
        """Give a person another key than this one, and encrypt with it what they keep, so that the old one can be destroyed.

        Where it is cut off, the same call goes on. Raises PersonNotFound.
        """
        with self._rows.write("adapters") as connection:
            person = self._key(connection, user_id)
            if encryption.key_of(connection, person) == old:
                encryption.renew(connection, person, self._keys)
            mine = select(adapter_table.c.digest).where(adapter_table.c.person == person)
            digests = list(connection.execute(mine).scalars())
        for digest in digests:
            self._reseal(digest)

    def _reseal(self, digest: str) -> None:
        """Encrypt one file with its person's key, if it was encrypted with another. Alone among publishers and sweepers."""
        with self._rows.write("adapters") as connection:
            row = self._owned(connection, digest)
            if row is None or not self._is_sealed(digest):
                return
            data, key = self._blobs.read(digest), encryption.key_for(connection, row.person, self._keys)
            if key_of(data) == key:
                return
            with suppress(CorruptBlob):  # what does not open with the old key is lost already
                payload = self._opened(digest, row.manifest, data)
                self._blobs.write(digest, self._keys.seal(key, row.user_id, digest, payload))

    def _owned(self, connection: Any, digest: str) -> Any:
        """(person, user_id, manifest) of somebody's adapter; None where it is gone."""
        c = adapter_table.c
        query = select(c.person, people.c.user_id, c.manifest).join(people, c.person == people.c.id)
        return connection.execute(query.where(c.digest == digest)).one_or_none()
