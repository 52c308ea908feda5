"""What is printed, and where: results on stdout, everything else on stderr.

Consoles are made at each call, so that whoever captures the streams gets what is printed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from idiolect.errors import InputError

_PIPED_WIDTH = 160
"""Columns of a table that goes into a file or a pipe, where nobody's window is narrow."""


def out() -> Console:
    """Results. Colours and width come from the terminal; NO_COLOR is heeded."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def err() -> Console:
    """Progress, notes and questions."""
    return Console(file=sys.stderr, highlight=False, width=None if sys.stderr.isatty() else _PIPED_WIDTH)


def emit(value: Any) -> None:
    """One JSON document on stdout."""
    # Escapes keep lone surrogates and every terminal's encoding out of trouble.
    sys.stdout.write(json.dumps(value, indent=2, default=_plain) + "\n")


def say(text: str) -> None:
    """A result in words."""
    out().print(Text(text), soft_wrap=True)


def note(text: str) -> None:
    """A remark that is no result."""
    err().print(Text(text), soft_wrap=True)


def error_line(error: BaseException) -> None:
    """`idiolect: ErrorName: message`, always one line."""
    print(f"idiolect: {type(error).__name__}: {one_line(str(error))}", file=sys.stderr)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[str] = (), flexible: Sequence[str] = ()
) -> Table:
    """An aligned table. Cells never wrap; the `flexible` columns give way, with an ellipsis, where the window is narrow."""
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in right else "left",
            no_wrap=True,
            overflow="ellipsis",
            min_width=None if name in flexible else len(name),
            ratio=1 if name in flexible else None,
        )
    for row in rows:
        made.add_row(*(Text(one_line(str(cell))) for cell in row))
    return made


def one_line(text: str) -> str:
    """Text on one line, control characters left out: what people wrote must not steer the terminal."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def private_folder(path: Path) -> None:
    """Make a folder that people's text goes into, for its owner only; one that is there stays as it is.

    Raises:
        InputError: it cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {str(path)!r}: {error.strerror}; choose another --out") from None


def size(n_bytes: float) -> str:
    """Bytes in the unit that fits: 1536 → "1.5 KiB"."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} TiB"


def duration(seconds: float) -> str:
    """Seconds for people: "0.42 s", "12.3 s", "4 min 05 s", "2 h 07 min"."""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def count(n: int, one: str, many: str | None = None) -> str:
    """A number with its noun: (1, "item") → "1 item", (2000, "item") → "2,000 items"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)
