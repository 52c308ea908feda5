"""What a player of the word game did, one line of JSON each → items of a person's history.

    {"v": 1, "source": "nyms", "user", "id": "r-…", "t", "task": "NYM-3", "relation", "base", "question", "output": […], …}
    {…, "id": "r-…/first", "task": "NYM-2", "candidates": [four], "output": one of them}          of the same round
    {…, "id": "j-…/7", "task": "NYM-1", "relation", "base", "answer", "output": yes or no, …}     a judgement

A player's export is such a file, and what is trained on is made from it by `event_item` and by nothing else. What others said
(`population`) stands in the line for analysis, and never in the item: no text of a prompt may tell it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from idiolect.data.records import item_of, mapping_of, problem, required_text
from idiolect.data.tasks import TASK_FIELD, get_task
from idiolect.errors import LabelError, TaskFieldError
from idiolect.types import Item, Json

SOURCE, VERSION = "nyms", 1

_CLAIMS: Mapping[str, str] = {
    "syn": "{answer} is another word for {base}",
    "ant": "{answer} is the opposite of {base}",
    "hypo": "{answer} is a kind of {base}",
    "mero": "{answer} is a part of {base}",
}
_KEPT = ("relation", "base", "question", "answer", "candidates", "output", "mode", "timing", "repeat")


def claim(relation: str, base: str, answer: str) -> str:
    """A pair as a sentence that one may accept or not, e.g. "chess is a kind of sport"."""
    return _CLAIMS[relation].format(answer=answer, base=base)


def is_event(record: Any) -> bool:
    """Whether a line of a file is one of the word game's."""
    return isinstance(record, Mapping) and record.get("source") == SOURCE


def event_item(record: Any, where: str = "event") -> Item:
    """The item that an event makes; its field `task` says which task it is of.

    Raises:
        FileFormatError: "`where`: …": a field is missing or is not what it should be, or the version is not known.
    """
    event = mapping_of(record, where)
    if event.get("v") != VERSION:
        raise problem(where, "v", f"is not {VERSION}", "export the history again")
    task = required_text(event, "task", where)
    fields: dict[str, Json] = {name: event[name] for name in _KEPT if event.get(name) is not None}
    if "answer" in fields:
        if fields.get("relation") not in _CLAIMS:
            raise problem(where, "relation", "is none of the game's", f"write one of: {', '.join(_CLAIMS)}")
        fields["claim"] = claim(*(required_text(event, name, where) for name in ("relation", "base", "answer")))
    item = item_of({**fields, TASK_FIELD: task, "id": event.get("id"), "date": event.get("t")}, where)
    try:
        get_task(task).check_item(item)
    except (TaskFieldError, LabelError) as error:
        raise problem(where, None, str(error), "export the history again") from None
    return item
