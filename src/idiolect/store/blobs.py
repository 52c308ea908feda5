"""Content-addressed files: written whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from idiolect.errors import CorruptBlob, StoreError

_TEMPORARY = ".part-"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Blobs:
    """A folder of files named by digest, `ab/abcd…`; nothing in a path says whose a file is.

    A file appears under its name only once all of it is on disk. A crash leaves at most a temporary file, which the
    store's `sweep` removes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with _guarded(folder, 0):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest

    def write(self, digest: str, payload: bytes) -> None:
        """Put the payload under its digest, durably.

        Raises:
            StoreError: if the disk is full or cannot be written; nothing is left behind.
        """
        target = self.path(digest)
        with _guarded(self.folder, len(payload)):
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                sync_folder(self.folder)
            temporary = target.parent / f"{_TEMPORARY}{os.getpid()}-{secrets.token_hex(6)}"
            try:
                _write_durably(temporary, payload)
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync_folder(target.parent)

    def read(self, digest: str) -> bytes:
        """The bytes under this name, not yet checked against it.

        Raises:
            CorruptBlob: if there is no such file.
        """
        try:
            return self.path(digest).read_bytes()
        except FileNotFoundError:
            raise CorruptBlob(f"the file of adapter {digest[:12]} is gone from {self.folder}; train it again") from None
        except OSError as error:
            raise StoreError(f"the file of adapter {digest[:12]} cannot be read: {error.strerror}") from None

    def remove(self, digest: str) -> bool:
        """Take a file away; False if there was none."""
        try:
            self.path(digest).unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise StoreError(f"the file of adapter {digest[:12]} cannot be removed: {error.strerror}") from None
        return True

    def stale(self, older_than_s: float) -> Iterator[tuple[Path, bool]]:
        """(file, is temporary) of every file last written that long ago."""
        horizon = time.time() - older_than_s
        for path in sorted(self.folder.glob("??/*")):
            temporary = path.name.startswith(_TEMPORARY)
            if (temporary or _DIGEST.fullmatch(path.name)) and _written(path) <= horizon:
                yield path, temporary


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # renamed or removed meanwhile
        return float("inf")


def _write_durably(path: Path, payload: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        view = memoryview(payload)
        while view:
            view = view[os.write(handle, view) :]
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Make a rename last: it is the folder's content that changed."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _guarded(folder: Path, size_bytes: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreError(
                f"no space for {size_bytes:,} bytes in {folder}; nothing was published; free some space and run it again"
            ) from None
        raise StoreError(f"cannot write in {folder}: {error.strerror}; nothing was published") from None
