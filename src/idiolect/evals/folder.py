"""A report's folder, whole or not at all, and the marks that a report is written with.

A folder that has `results.json` is whole, and all its files are of one run: the files are made elsewhere and moved in,
that one last; the one of an earlier run is taken away first.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from idiolect.errors import StoreError

RESULTS = "results.json"
_FILES = (RESULTS, "predictions.jsonl", "report.md", "plot.png")
"""What any report may consist of."""


def publish(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let `fill` write all files into an empty folder, then move them in: all of them, or none.

    Raises:
        StoreError: if the folder cannot be written.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            fill(staged)
            _move(staged, folder)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    except OSError as error:
        raise StoreError(
            f"cannot write the report to {str(folder)!r}: {error.strerror or error}; choose another --out"
        ) from error


def _move(staged: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    for name in _FILES:  # what an earlier run left and this one has not would pass for this one's
        if name == RESULTS or not (staged / name).exists():
            (folder / name).unlink(missing_ok=True)
    for path in sorted(staged.iterdir(), key=lambda path: path.name == RESULTS):
        path.chmod(0o600)
        os.replace(path, folder / path.name)


def write_text(path: Path, parts: Iterable[str]) -> None:
    """Write these parts, as they stand on the disk when this returns."""
    # A lone surrogate has no UTF-8; its backslash spelling is the JSON escape for it.
    with path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
        file.writelines(parts)
        file.flush()
        os.fsync(file.fileno())


def write_results(folder: Path, results: Mapping[str, Any]) -> None:
    """Write `results.json`."""
    write_text(folder / RESULTS, [json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"])


def pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]], n_text: int = 1) -> str:
    """A pipe table whose first `n_text` columns are text; the rest are figures, and stand on the right."""
    aligned = ["---" if index < n_text else "---:" for index in range(len(header))]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (header, aligned, *rows))


def _cell(text: str) -> str:
    """A bar or a line break in a free name would break the table."""
    return " ".join(text.replace("|", "\\|").split())


def doing_it_again(results: Mapping[str, Any]) -> list[str]:
    """The last part of every report: command, hardware, versions, settings."""
    parts = ("hardware", "versions", "settings")
    return [
        "## Doing it again",
        _code(results["command"], "sh"),
        *(f"{name.capitalize()}:\n\n{_code(_json(results[name]), 'json')}" for name in parts),
    ]


def seconds_text(seconds: float) -> str:
    """A time for reading."""
    return f"{seconds / 60:.1f} minutes" if seconds >= 120 else f"{seconds:.1f} seconds"


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _code(text: str, language: str) -> str:
    return f"```{language}\n{text}\n```"
