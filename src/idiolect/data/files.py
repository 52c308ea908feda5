"""Bytes of a file, plain or gzipped, checked as they stream: UTF-8, and not cut off; and files that are written whole."""

from __future__ import annotations

import codecs
import gzip
import json
import os
import secrets
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import ijson

from idiolect.data.records import problem

_CHUNK_BYTES = 1 << 16


@contextmanager
def opened(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if gzipped (told by its first bytes, not by its name).

    Raises:
        FileFormatError: if it cannot be read, or its packing is damaged or cut off.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw, "rb") if packed else raw as stream:
                yield stream  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise problem(str(path), None, "the gzip data is damaged or cut off", "fetch or pack the file again") from None
    except FileNotFoundError:
        raise problem(str(path), None, "there is no such file", "check the path") from None
    except OSError as error:
        raise problem(str(path), None, f"cannot be read ({error.strerror})", "check the path and its permissions") from None


def first_byte(path: Path) -> bytes:
    """The first byte that is neither white space nor byte-order mark; b"" for an empty file."""
    with opened(path) as stream:
        return stream.read(_CHUNK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()[:1]


def json_lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, value) of every line that is not blank; one line in memory at a time.

    Raises:
        FileFormatError: if a line is not UTF-8 or not JSON.
    """
    offset = 0
    with opened(path) as stream:
        for number, line in enumerate(stream, 1):
            text = _decoded(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line, path, number, offset)
            offset += len(line)
            if text.strip():
                yield number, _parsed(text, path, number)


def json_array(path: Path, prefix: str = "item") -> Iterator[tuple[int, Any]]:
    """(number from 1, value) of every element of the array at `prefix`; one element in memory at a time.

    Raises:
        FileFormatError: if the file is not UTF-8, not JSON, or cut off; with the byte and line read up to.
    """
    with opened(path) as stream:
        source = _Utf8(stream, path)
        try:
            yield from enumerate(ijson.items(source, prefix, use_float=True, buf_size=_CHUNK_BYTES), 1)
        except ijson.IncompleteJSONError:
            what, mend = f"ends in the middle, or is not JSON, near byte {source.offset}", "fetch or write the file again"
            raise problem(f"{path}: line {source.line}", None, what, mend) from None
        except (ijson.JSONError, OverflowError):
            what = f"is not JSON, at or before byte {source.offset}"
            raise problem(f"{path}: line {source.line}", None, what, "mend that place, or write the file again") from None


class _Utf8:
    """A stream that counts what was read and refuses what is not UTF-8, at its exact place."""

    def __init__(self, stream: IO[bytes], path: Path):
        self._stream, self._path = stream, path
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.offset, self.line = 0, 1

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        pending = len(self._decoder.getstate()[0])
        try:
            self._decoder.decode(data, final=size != 0 and not data)
        except UnicodeDecodeError as error:
            bad = error.start - pending
            line = self.line + data[: max(bad, 0)].count(b"\n")
            raise _not_utf8(self._path, line, self.offset + bad) from None
        begins = self.offset == 0
        self.offset += len(data)
        self.line += data.count(b"\n")
        return data.removeprefix(codecs.BOM_UTF8) if begins else data


def _not_utf8(path: Path, line: int, offset: int) -> Exception:
    return problem(f"{path}: line {line}", None, f"byte {offset} is not UTF-8", "save the file as UTF-8")


def _decoded(line: bytes, path: Path, number: int, offset: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise _not_utf8(path, number, offset + error.start) from None


def _parsed(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        column = getattr(error, "colno", 1)
        what = f"not JSON, or cut off, at column {column}"
        raise problem(f"{path}: line {number}", None, what, "each line must be one whole JSON object") from None
    except RecursionError:
        raise problem(f"{path}: line {number}", None, "nested too deeply", "write each record as a flat object") from None


def replace_file(path: Path, parts: Iterable[bytes]) -> None:
    """Write these parts to a file, whole or not at all, for its owner only; on disk for certain when this returns.

    What a kill left of an earlier try goes.

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
