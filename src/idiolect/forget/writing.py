"""Files outside the store that are replaced whole or not at all, for their owner only."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write these parts to a file, on disk for certain when this returns; what a kill left of an earlier try goes.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    begins = f".{path.name}-part-"
    for left in [other for other in path.parent.iterdir() if other.name.startswith(begins)]:
        left.unlink()
    part = path.with_name(f"{begins}{secrets.token_hex(6)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
