"""Files of people and their histories → Person values, one record in memory at a time.

What is read is told by its content:

| content | format |
|---|---|
| array of `{"user_id", "profile", "query"}` | OPPU's `user_top_100_history.json`, `user_others.json` … |
| array of `{"id", "input", "profile"}`, perhaps `user_id` | LaMP's `*_questions.json`; golds in `*_outputs.json` beside it |
| lines of `{"user_id", "profile", "query"}` | `users.jsonl`, `users.jsonl.gz` |
| lines of `{"user_id", "id", "date", fields…}` | plain items; without `user_id` where `user` is given |
| lines of `{"source": "nyms", "user", "id", "t", …}` | what a player of the word game did; see `nyms` |

The same person may come more than once: LaMP's time split scatters a user's questions over gigabytes, and collecting them
would take as much memory. Whoever reads merges by user id and item id (the store does; `merged` does in memory).
An error may come after people were yielded: to import all or nothing, read inside one transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from idiolect.data.files import first_byte, json_array, json_lines
from idiolect.data.nyms import event_item, is_event
from idiolect.data.records import in_order, item_of, list_of, mapping_of, person_of, problem, query_of, required_text
from idiolect.data.tasks import Task
from idiolect.errors import InputError
from idiolect.types import Item, Person, Query

_PEOPLE_FILES = ("users.jsonl.gz", "users.jsonl", "user_*_history.json", "*_questions.json")
_BASE_FILES = ("base.jsonl.gz", "base.jsonl")
_ITEMS_AT_ONCE = 1_000


def read_people(path: str | Path, task: Task | None = None, user: str | None = None) -> Iterator[Person]:
    """People of a file, or of the one file of people in a folder; the same person may come more than once.

    Args:
        path: file or folder, see above.
        task: check that every item has what this task needs.
        user: whose items plain lines without `user_id` are.

    Raises:
        FileFormatError: `name: line N: field X: problem; what to do`, for anything that is not as above.
    """
    file = people_file(path)
    start = first_byte(file)
    if start == b"[":
        records = _from_array(file, task)
    elif start == b"{":
        records = _from_lines(file, task, user)
    else:
        what = "is empty" if not start else "holds neither an array nor an object of JSON"
        raise problem(f"{file}: line 1", None, what, "give a LaMP, OPPU or JSONL file")
    n = 0
    for n, person in enumerate(records, 1):  # noqa: B007
        yield person
    if not n:
        raise problem(str(file), None, "holds no people", "give a file with at least one record")


def read_base_items(path: str | Path) -> Iterator[tuple[str, Item]]:
    """(author, item) of `base.jsonl(.gz)`, in a folder or by itself: material for stage 1. Nothing, if a folder has none.

    Raises:
        FileFormatError: as `read_people`.
    """
    path = Path(path)
    file = next((path / name for name in _BASE_FILES if (path / name).is_file()), None) if path.is_dir() else path
    if file is None:
        return
    for number, record in json_lines(file):
        where = f"{file}: line {number}"
        author = mapping_of(record, where).get("author")
        yield (author if isinstance(author, str) else ""), item_of(record, where, without=frozenset({"author"}))


def people_file(path: str | Path) -> Path:
    """The file itself, or the one file of people in a folder.

    Raises:
        FileFormatError: if there is none, or more than one.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    for pattern in _PEOPLE_FILES:
        found = sorted(path.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found)
            raise problem(str(path), None, f"holds more than one file of people ({names})", "give one of them")
    raise problem(str(path), None, "holds no file of people", f"expected one of: {', '.join(_PEOPLE_FILES)}")


def merged(people: Iterable[Person]) -> list[Person]:
    """Each person once, in order of first appearance, items and queries once by id; all in memory."""
    items: dict[str, dict[str, Item]] = {}
    queries: dict[str, dict[str, Query]] = {}
    for person in people:
        mine, asked = items.setdefault(person.id, {}), queries.setdefault(person.id, {})
        for item in person.history:
            mine.setdefault(item.id, item)
        for query in person.queries:
            asked.setdefault(query.id, query)
    return [Person(id, in_order(list(mine.values())), tuple(queries[id].values())) for id, mine in items.items()]


# ---------------------------------------------------------------------------------------------- arrays: LaMP and OPPU


def _from_array(file: Path, task: Task | None) -> Iterator[Person]:
    golds = Golds.beside(file)
    for number, record in json_array(file):
        where = f"{file}: record {number}"
        if "query" in mapping_of(record, where):
            yield person_of(record, where, task)
        else:
            yield _lamp_person(record, where, task, golds)
    if golds:
        golds.check_all_used()


def _lamp_person(record: Mapping[str, Any], where: str, task: Task | None, golds: Golds | None) -> Person:
    """One question of LaMP with its profile. Without a `user_id` (user split) the question is a person of its own."""
    query = query_of(record, where)
    if golds:
        query = Query(query.id, query.input, golds.take(query.id, where))
    user_id = required_text(record, "user_id", where) if "user_id" in record else query.id
    items = [item_of(r, f"{where}: profile[{n}]", task) for n, r in enumerate(list_of(record, "profile", where))]
    return Person(user_id, in_order(items), (query,))


class Golds:
    """The answers of a `*_outputs.json`. Questions and answers must have the same set of ids."""

    def __init__(self, file: Path):
        self.file = file
        self._outputs: dict[str, str] = {}
        self._used: set[str] = set()
        for number, record in json_array(file, "golds.item"):
            where = f"{file}: golds[{number - 1}]"
            gold_id = required_text(mapping_of(record, where), "id", where)
            if gold_id in self._outputs:
                raise problem(where, "id", f"{gold_id!r} comes twice", "each question has one answer")
            self._outputs[gold_id] = required_text(record, "output", where)
        if not self._outputs:
            raise problem(str(file), "golds", "missing or empty", "write it as {'task', 'golds': [{'id', 'output'}, …]}")

    @classmethod
    def beside(cls, questions: Path) -> Golds | None:
        """The answers that belong to `*_questions.json`; None where there is no such file (a test split)."""
        outputs = questions.with_name(questions.name.replace("_questions.json", "_outputs.json"))
        return cls(outputs) if outputs.name != questions.name and outputs.is_file() else None

    def take(self, question_id: str, where: str) -> str:
        mend = "questions and answers must have the same ids; fetch both files again"
        if question_id not in self._outputs:
            raise problem(where, "id", f"{question_id!r} has no answer in {self.file.name}", mend)
        if question_id in self._used:
            raise problem(where, "id", f"{question_id!r} comes twice", "each question needs an id of its own")
        self._used.add(question_id)
        return self._outputs[question_id]

    def check_all_used(self) -> None:
        left = len(self._outputs) - len(self._used)
        if left:
            first = next(id for id in self._outputs if id not in self._used)
            what = f"{left} of the answers belong to no question, the first is {first!r}"
            raise problem(str(self.file), "golds", what, "questions and answers must have the same ids; fetch both files again")


# ---------------------------------------------------------------------------------------------- lines: people or items


def _from_lines(file: Path, task: Task | None, user: str | None) -> Iterator[Person]:
    """People, or items gathered into people while one person's lines follow each other."""
    owner, items = "", []
    for number, record in json_lines(file):
        where = f"{file}: line {number}"
        if "profile" in mapping_of(record, where):
            yield person_of(record, where, task)
            continue
        if "golds" in record:
            raise problem(where, "golds", "this is a file of answers", "give the *_questions.json beside it")
        event = is_event(record)
        its_owner = required_text(record, "user", where) if event else _owner(record, where, user)
        if items and (its_owner != owner or len(items) == _ITEMS_AT_ONCE):
            yield Person(owner, in_order(items))
            items = []
        owner = its_owner
        items.append(event_item(record, where) if event else item_of(record, where, task))
    if items:
        yield Person(owner, in_order(items))


def _owner(record: Mapping[str, Any], where: str, user: str | None) -> str:
    if record.get("user_id") is None and user is not None:
        return user
    try:
        return required_text(record, "user_id", where)
    except InputError:
        raise problem(where, "user_id", "missing", "name the person on every line, or say whose items these are") from None
