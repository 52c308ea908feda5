"""Keys: one for each person's files, and the one that receipts are signed with.

    magic (8) · key id (16) · nonce (12) · AES-256-GCM ciphertext and tag          owner and digest are authenticated with it

A key is a file of its own in a folder that may lie elsewhere, e.g. on a disk that no backup takes. Whoever has a backup of
the adapters and not the key has noise, so destroying the key takes the person out of every backup. A file that was changed,
cut off, or put under another person's or adapter's name does not open.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from idiolect.errors import CorruptBlob, StoreError
from idiolect.store.blobs import sync_folder
from idiolect.types import canonical_json

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAGIC = b"IDIOSEA\x01"
"""Begins an encrypted file. As safetensors' first eight bytes it would announce a header of more bytes than any file has."""

_KEY_BYTES, _ID_BYTES, _NONCE_BYTES = 32, 16, 12
_HEAD_BYTES = len(MAGIC) + _ID_BYTES + _NONCE_BYTES
_RECEIPTS = "receipts.key"


class Keyring:
    """A folder of keys. It is made when the first key is; a key's name is random, and says nothing of whose it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def is_here(self) -> bool:
        """Whether keys are in the folder. The key of receipts is made first, and stays: without it, the folder is another one,
        or lies on a disk that is not there now.
        """
        return (self.folder / _RECEIPTS).exists()

    def make(self) -> str:
        """A new key, on disk for certain; its id."""
        key_id = secrets.token_hex(_ID_BYTES)
        self._write(self._path(key_id), secrets.token_bytes(_KEY_BYTES))
        return key_id

    def has(self, key_id: str) -> bool:
        """Whether this key is there."""
        return self._path(key_id).exists()

    def destroy(self, key_id: str) -> bool:
        """Overwrite a key and remove it, on disk for certain; False if it is not there.

        A disk that never overwrites in place, or a backup of this folder, may still hold it: keep keys out of backups.

        Raises:
            StoreError: it cannot be overwritten or removed.
        """
        path = self._path(key_id)
        with _guarded(path):
            try:
                handle = os.open(path, os.O_WRONLY)
            except FileNotFoundError:
                return False
            try:
                os.write(handle, secrets.token_bytes(_KEY_BYTES))
                os.fsync(handle)
            finally:
                os.close(handle)
            path.unlink()
            sync_folder(self.folder)
        return True

    def seal(self, key_id: str, owner: str, digest: str, payload: bytes) -> bytes:
        """The payload, encrypted for its owner and its digest.

        Raises:
            CorruptBlob: there is no such key.
        """
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = AESGCM(self._read(key_id, digest)).encrypt(nonce, payload, _bound(owner, digest))
        return MAGIC + bytes.fromhex(key_id) + nonce + sealed

    def open(self, data: bytes, owner: str, digest: str) -> bytes:
        """What was sealed.

        Raises:
            CorruptBlob: the key is not there or another one, or the file was changed, or is another person's or adapter's.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if len(data) < _HEAD_BYTES:
            raise _damaged(digest)
        key, nonce = self._read(key_of(data), digest), data[_HEAD_BYTES - _NONCE_BYTES : _HEAD_BYTES]
        try:
            return AESGCM(key).decrypt(nonce, data[_HEAD_BYTES:], _bound(owner, digest))
        except InvalidTag:
            raise _damaged(digest) from None

    def signing(self) -> Ed25519PrivateKey:
        """The key that this store's receipts are signed with; made when it is first asked for."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        path = self.folder / _RECEIPTS
        if not path.exists():
            self._write(path, secrets.token_bytes(_KEY_BYTES))
        with _guarded(path):
            seed = path.read_bytes()
        if len(seed) != _KEY_BYTES:
            raise StoreError(f"{path} is no key; put it back from a backup, or remove it and a new one is made")
        return Ed25519PrivateKey.from_private_bytes(seed)

    def _read(self, key_id: str, digest: str) -> bytes:
        path = self._path(key_id)
        with _guarded(path):
            try:
                key = path.read_bytes()
            except FileNotFoundError:
                raise CorruptBlob(
                    f"the key of adapter {digest[:12]} is not in {self.folder}; say where keys are ($IDIOLECT_KEYS); where it "
                    "was destroyed, train the adapter again"
                ) from None
        if len(key) != _KEY_BYTES:
            raise CorruptBlob(f"the key of adapter {digest[:12]} in {self.folder} is damaged; train the adapter again")
        return key

    def _path(self, key_id: str) -> Path:
        return self.folder / f"{key_id}.key"

    def _write(self, path: Path, key: bytes) -> None:
        """Under a name of its own first, so that a crash leaves no half of a key, and two makers the same one."""
        part = self.folder / f".part-{secrets.token_hex(6)}"
        with _guarded(path):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(handle, key)
                os.fsync(handle)
            finally:
                os.close(handle)
            try:
                os.link(part, path)
            except FileExistsError:
                pass
            finally:
                part.unlink()
            sync_folder(self.folder)


def is_sealed(path: Path) -> bool:
    """Whether a file is an encrypted one; False also where there is none."""
    try:
        with path.open("rb") as handle:
            return handle.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def key_of(data: bytes) -> str:
    """The id of the key that an encrypted file was made with."""
    return data[len(MAGIC) : len(MAGIC) + _ID_BYTES].hex()


def _bound(owner: str, digest: str) -> bytes:
    return canonical_json([owner, digest]).encode()


def _damaged(digest: str) -> CorruptBlob:
    return CorruptBlob(
        f"the encrypted file of adapter {digest[:12]} was changed, or belongs to another adapter or person; train it again"
    )


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"the key {path} cannot be read or written: {error.strerror}; say where keys are ($IDIOLECT_KEYS)"
        ) from None
