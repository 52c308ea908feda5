"""Dates as bytes that sort as dates do."""

from __future__ import annotations

from idiolect.errors import InputError
from idiolect.types import date_key

MAX_DATE_CHARS = 1000
"""Longer ones would outgrow PostgreSQL's index pages (2,704 bytes)."""


def sort_key(date: str | None) -> bytes:
    """Bytes whose order is that of `date_key`: no date first, then number by number, a shorter date before its extension.

    Each number is written as its length in bytes, then itself, big-endian. No code is the start of another, so bytes that
    differ first differ within the same number, where the longer, and then the larger, wins.

    Raises:
        InputError: if the date is longer than 1,000 characters.
    """
    if date is not None and len(date) > MAX_DATE_CHARS:
        raise InputError(f"a date of {len(date)} characters is not a date; at most {MAX_DATE_CHARS} are kept")
    return b"".join(_number(n) for n in date_key(date))


def _number(n: int) -> bytes:
    size = (n.bit_length() + 7) // 8
    full, rest = divmod(size, 255)  # 255 means: and more follows
    return b"\xff" * full + bytes([rest]) + n.to_bytes(size, "big")
