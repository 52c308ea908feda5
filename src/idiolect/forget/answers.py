"""Folders of evaluations: take one person's lines out of them.

`predictions.jsonl` holds queries' answers by person, and `population.jsonl` (of a demo) whole histories. The other files hold
figures of many people, and no id. A file is replaced whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from idiolect.data.files import replace_file
from idiolect.store.game.leaving import same_source

Edit = Callable[[dict[str, Any]], dict[str, Any] | None]
"""What becomes of one line; None: it goes."""


def take_out(folder: Path, user_id: str, item_id: str | None) -> str | None:
    """Remove a person's answers from a folder, and them, or the item, from its population; why not, if that cannot be done.

    Every answer of theirs goes, also where only one item is forgotten: any of them may come from it.
    """

    gone = () if item_id is None else same_source(item_id)

    def answer(record: dict[str, Any]) -> dict[str, Any] | None:
        return None if record["user_id"] == user_id else record

    def person(record: dict[str, Any]) -> dict[str, Any] | None:
        if record["user_id"] != user_id:
            return record
        return None if item_id is None else record | {"profile": [one for one in record["profile"] if one["id"] not in gone]}

    try:
        _edit(folder / "predictions.jsonl", answer)
        _edit(folder / "population.jsonl", person)
    except OSError as error:
        return f"cannot be changed ({error.strerror}); remove it"
    except (ValueError, KeyError, TypeError):
        return "holds lines that no evaluation wrote; remove it"
    return None


def _edit(path: Path, edit: Edit) -> None:
    """Write a file anew without what goes; one that is not there, or has nothing of it, stays as it is."""
    path = path.resolve()  # of a link, what it leads to
    if not path.is_file() or not any(changed for _, changed in _lines(path, edit)):
        return
    replace_file(path, (line.encode("utf-8", "backslashreplace") for line, _ in _lines(path, edit)))


def _lines(path: Path, edit: Edit) -> Iterator[tuple[str, bool]]:
    """(line as it is to be, whether that is another one); a line that goes is an empty one."""
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            record = json.loads(line)
            kept = edit(record)
            if kept is None:
                yield "", True
            elif kept == record:
                yield line, False
            else:
                yield json.dumps(kept) + "\n", True
