"""A pool as one safetensors file: what is shared and nothing else. No owners; pieces stand in order of their ids.

    <module>.ids (n,) int64   <module>.a (n, D, R)   <module>.b (n, R, O)   <module>.gates (n, D)      all float32
    metadata "idiolect": format, format_version, key, version, n_pieces, tokenizer, note

A file comes from a stranger: everything in it is checked before any of it is used or kept.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from idiolect.config import Settings
from idiolect.data.tasks import get_task
from idiolect.errors import BaseMismatch, ConfigError, FileFormatError, InputError, ShapeError, TargetMismatch
from idiolect.model.base import Base
from idiolect.model.files import header_of
from idiolect.model.pieces import Pool, PoolKey
from idiolect.types import canonical_json, digest_of, has_surrogate

_MINE = "idiolect"
_VERSION = 1
_NOTE = 4000
_DIGEST = r"^[0-9a-f]{64}$"
_PARTS = ("ids", "a", "b", "gates")


class _Key(Settings):
    """A pool's key, as a file may say it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    task: str
    base: str = Field(pattern=_DIGEST)
    task_adapter: str | None = Field(pattern=_DIGEST)
    rank: int = Field(ge=1, le=512)
    alpha: float = Field(gt=0, allow_inf_nan=False)
    targets: list[str] = Field(min_length=1)


class _About(Settings):
    """What a file says of itself."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    format: Literal["pool"]
    format_version: int
    key: _Key
    version: str = Field(pattern=_DIGEST)
    n_pieces: int = Field(ge=1)
    tokenizer: str = Field(pattern=_DIGEST)
    note: str = Field(default="", max_length=_NOTE)


@dataclass(frozen=True)
class PoolFile:
    """A pool that was read from a file, all of it checked.

    Attributes:
        digest: of the file, by which the store remembers where its pieces come from.
        note: free text of whoever exported it, e.g. the terms of use.
    """

    pool: Pool
    digest: str
    note: str


def write_pool(path: Path, pool: Pool, base: Base, note: str = "") -> None:
    """Write a pool. Whole or not at all; equal pools give equal files. A pool's file that is there is replaced.

    Raises:
        InputError: the file is there and is no pool's, the note is too long, or the place cannot be written.
    """
    if len(note) > _NOTE or has_surrogate(note):
        raise InputError(f"the note must be UTF-8 of at most {_NOTE:,} characters; this one has {len(note):,}")
    if path.is_dir() or (path.exists() and _MINE not in header_of(path)):
        raise InputError(f"{path} is there, and is no file of a pool; choose another --out")
    tensors: dict[str, Tensor] = {}
    for name, shelf in pool.modules.items():
        parts = (torch.tensor(shelf.ids), shelf.a, shelf.b, shelf.gates)
        tensors |= {f"{name}.{part}": t.cpu().contiguous() for part, t in zip(_PARTS, parts, strict=True)}
    about = {"format": "pool", "format_version": _VERSION, "key": pool.key.to_dict(), "version": pool.version}
    about |= {"n_pieces": len(pool), "tokenizer": base.tokenizer.digest, "note": note}
    _write(path, save(tensors, metadata={_MINE: canonical_json(about)}))


def _write(path: Path, data: bytes) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}; choose another --out") from None
    finally:
        part.unlink(missing_ok=True)


def read_pool(path: Path, base: Base) -> PoolFile:
    """Read a pool of this base.

    Raises:
        FileFormatError: it is no file of a pool, is damaged, or was written by a newer version.
        BaseMismatch: it is of another base or tokenizer.
        ShapeError, TargetMismatch: modules or shapes that this base does not have, or numbers that are not finite.
    """
    about = _about(path)
    key = PoolKey(**{**about.key.model_dump(), "targets": tuple(about.key.targets)})
    _check_base(path, about, base)
    get_task(key.task)
    try:
        data = path.read_bytes()
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        bodies = _bodies(path, tensors)
        pool = Pool(key, base.model.sites(), bodies, base.device)
    except (OSError, SafetensorError) as error:
        raise _damaged(path, type(error).__name__) from None
    except (ShapeError, TargetMismatch) as error:
        raise type(error)(f"{path.name}: {error}; nothing was imported") from None
    if (pool.version, len(pool)) != (about.version, about.n_pieces):
        raise _damaged(path, "its pieces are not those that it names")
    return PoolFile(pool, digest_of(data), about.note)


def _about(path: Path) -> _About:
    if not path.is_file():
        raise FileFormatError(f"there is no file {path.name!r}; give the file that a pool was exported to")
    said = header_of(path).get(_MINE)
    if said is None:
        raise FileFormatError(f"{path.name}: no file of a pool; give one that was written by: idiolect pieces export")
    try:
        value = json.loads(said)
        if (version := value.get("format_version")) != _VERSION:
            raise FileFormatError(
                f"{path.name}: has format {version!r}, and this version reads {_VERSION}; upgrade, or export it again"
            )
        return _About.build(**value)
    except (ConfigError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, FileFormatError):
            raise
        raise _damaged(path, str(error) if isinstance(error, ConfigError) else type(error).__name__) from None


def _check_base(path: Path, about: _About, base: Base) -> None:
    if about.key.base != base.fingerprint:
        raise BaseMismatch(
            f"{path.name}: is a pool of base {about.key.base[:12]}, not of {base.name!r} ({base.fingerprint[:12]}); "
            "give its own with --base"
        )
    if about.tokenizer != base.tokenizer.digest:
        raise BaseMismatch(
            f"{path.name}: was made with another tokenizer or chat template than {base.name!r} has now; put the files back"
        )


def _bodies(path: Path, tensors: dict[str, Tensor]) -> list[tuple[int, str, bytes]]:
    """(id, module, body) of every piece; what is in the bodies, `Pool` checks."""
    modules = {name.rsplit(".", 1)[0] for name in tensors}
    if {f"{name}.{part}" for name in modules for part in _PARTS} != tensors.keys():
        raise _damaged(path, "tensors are missing, or of another kind")
    found: list[tuple[int, str, bytes]] = []
    for name in sorted(modules):
        ids, *parts = (tensors[f"{name}.{part}"] for part in _PARTS)
        _check_kinds(path, name, ids, parts)
        flat = torch.cat([part.reshape(len(ids), -1) for part in parts], 1).numpy()
        found += [(piece, name, row.tobytes()) for piece, row in zip(ids.tolist(), flat, strict=True)]
    return found


def _check_kinds(path: Path, name: str, ids: Tensor, parts: Sequence[Tensor]) -> None:
    a, b, gates = parts
    fits = (a.dim(), b.dim(), gates.dim(), ids.dim()) == (3, 3, 2, 1) and len(ids) > 0
    fits = fits and len(a) == len(b) == len(gates) == len(ids)
    fits = fits and a.shape[1] == gates.shape[1] and a.shape[2] == b.shape[1]
    if not fits or ids.dtype != torch.int64 or any(part.dtype != torch.float32 for part in parts):
        raise _damaged(path, f"{name} has tensors of other shapes or types")
    if ids.tolist() != sorted(set(ids.tolist())) or int(ids[0]) < 0:
        raise _damaged(path, f"{name} has ids that are not in order, or occur twice")


def _damaged(path: Path, why: str) -> FileFormatError:
    return FileFormatError(f"{path.name}: a pool's file that cannot be read ({why}); nothing was imported; get it once more")
