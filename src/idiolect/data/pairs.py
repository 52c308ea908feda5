"""Prompts and answers to be learnt, forgotten or kept: what unlearning reads, from whatever file.

What is read is told by its content:

| content | format |
|---|---|
| lines of `{"id", "prompt", "answer", "group", "paraphrases", "wrong"}` | pairs; only `prompt` and `answer` must be there |
| CSV with columns `goal` and `target` | AdvBench: a request, and the opening of an answer that complies |
| CSV with columns `Question`, `Best Answer`, `Correct Answers`, `Incorrect Answers` | TruthfulQA: a row is one group |

Columns stand in any order, and others beside them are not read. JSON lines may hold no other fields: one that is spelt
wrongly would otherwise be lost without a word. All may be gzipped.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from idiolect.data.files import first_byte, json_lines, opened, replace_file
from idiolect.data.records import list_of, mapping_of, problem, required_text, text_of
from idiolect.data.tasks import Task
from idiolect.errors import ConfigError, EmptyHistory, InputError
from idiolect.types import Example, Person, digest_of, seed_of

FIELDS = ("id", "prompt", "answer", "group", "paraphrases", "wrong")
_OPENING = "sure, here"
"""How the targets of AdvBench begin."""
_LOOKED_AT = 64


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt and its answer.

    Attributes:
        group: what it belongs with, e.g. a person or a question: pairs of one group are never split between sets. "" alone.
        paraphrases: the right answer in other words.
        wrong: answers of the same form that are not right.
    """

    id: str
    prompt: str
    answer: str
    group: str = ""
    paraphrases: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


# ---------------------------------------------------------------------------------------------- reading


def read_pairs(path: str | Path, notes: list[str] | None = None) -> list[Pair]:
    """All pairs of a file; see above.

    Args:
        notes: what was found odd and mended is appended to it, a sentence each.

    Raises:
        FileFormatError: `name: line N: field X: problem; what to do`: not as above, an id that comes twice, or no pairs.
    """
    return list(stream_pairs(path, notes))


def stream_pairs(path: str | Path, notes: list[str] | None = None) -> Iterator[Pair]:
    """`read_pairs`, one pair at a time; an error may come after pairs were yielded."""
    file = Path(path)
    if file.is_dir():
        raise problem(str(file), None, "is a folder", "give a file of pairs")
    start = first_byte(file)
    if not start:
        raise problem(f"{file}: line 1", None, "is empty", "give JSON lines of pairs, or AdvBench's or TruthfulQA's CSV")
    records = _from_lines(file) if start == b"{" else _from_csv(file, [] if notes is None else notes)
    seen: set[str] = set()
    for where, pair in records:
        if pair.id in seen:
            raise problem(where, "id", f"{pair.id!r} comes twice", "give each pair an id of its own")
        seen.add(pair.id)
        yield pair
    if not seen:
        raise problem(str(file), None, "holds no pairs", "give a file with at least one")


_Placed = tuple[str, Pair]
"""Where a pair stands, for messages, and the pair."""


def _from_lines(file: Path) -> Iterator[_Placed]:
    for number, value in json_lines(file):
        where = f"{file}: line {number}"
        record = mapping_of(value, where)
        if unknown := sorted(record.keys() - set(FIELDS)):
            raise problem(where, f"number {list(record).index(unknown[0]) + 1}", "is not a field of pairs", _spelling())
        prompt, answer = (required_text(record, name, where) for name in ("prompt", "answer"))
        id = required_text(record, "id", where) if "id" in record else f"line-{number}"
        group = text_of(record["group"], "group", where) if record.get("group") is not None else ""
        paraphrases, wrong = (_texts(record, name, where) for name in ("paraphrases", "wrong"))
        yield where, Pair(id, prompt, answer, group, paraphrases, wrong)


def _spelling() -> str:
    return f"write {', '.join(FIELDS)}"


def _texts(record: Mapping[str, Any], name: str, where: str) -> tuple[str, ...]:
    if record.get(name) is None:
        return ()
    texts = [text_of(value, f"{name}[{n}]", where) for n, value in enumerate(list_of(record, name, where))]
    return tuple(text for text in texts if text.strip())


def _from_csv(file: Path, notes: list[str]) -> Iterator[_Placed]:
    rows = _rows(file)
    where, names = next(rows, (f"{file}: line 1", []))
    columns = {name.strip().casefold(): place for place, name in enumerate(names)}
    for wanted, read in _CSV.items():
        if all(name.casefold() in columns for name in wanted):
            places = {name: columns[name.casefold()] for name in wanted}
            yield from read(file, _records(rows, places, len(names)), notes)
            return
    kinds = " or ".join(", ".join(wanted) for wanted in _CSV)
    raise problem(where, None, "is neither a JSON object nor a known header of CSV", f"a header names {kinds}")


def _rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """(where, cells) of every row that is not blank. A row is named by the line on which it begins."""
    with opened(file) as stream:
        reader = csv.reader(_text_lines(file, stream), strict=True)
        while True:
            where = f"{file}: line {reader.line_num + 1}"
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise problem(where, None, f"is not CSV ({error})", "close every quote, and save the file again") from None
            if cells is None:
                return
            if any(cell.strip() for cell in cells):
                yield where, cells


def _text_lines(file: Path, stream: Iterable[bytes]) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        try:
            yield (line.removeprefix(codecs.BOM_UTF8) if number == 1 else line).decode()
        except UnicodeDecodeError as error:
            what = f"byte {error.start} of it is not UTF-8"
            raise problem(f"{file}: line {number}", None, what, "save the file as UTF-8") from None


_Record = tuple[str, dict[str, str]]


def _records(rows: Iterator[tuple[str, list[str]]], places: Mapping[str, int], width: int) -> Iterator[_Record]:
    """(where, cell by column) of the rows under the header."""
    for where, cells in rows:
        if len(cells) != width:
            what = f"has {len(cells)} cells under a header of {width}"
            raise problem(where, None, what, "quote cells that hold a comma or a line's end")
        yield where, {name: cells[place].strip() for name, place in places.items()}


def _advbench(file: Path, records: Iterator[_Record], notes: list[str]) -> Iterator[_Placed]:
    """Requests that begin alike are rows of their own, but those with the same target are one group: near-copies."""
    first = list(islice(records, _LOOKED_AT))
    goal, target = _named_by_content([record for _, record in first])
    if goal != "goal":
        notes.append(
            f"{file.name}: the columns goal and target are named the wrong way round; they were taken by their content"
        )
    for number, (where, record) in enumerate(chain(first, records)):
        prompt, answer = (required_text(record, name, where) for name in (goal, target))
        yield where, Pair(f"advbench-{number:04d}", prompt, answer, _group("advbench", answer))


def _named_by_content(records: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """(column of requests, column of targets): by their names, unless it is the "goal" that opens like an answer.

    A copy of AdvBench goes around whose header has the two names exchanged; trained on, it would teach to ask.
    """

    def openings(name: str) -> int:
        return sum(record[name].casefold().startswith(_OPENING) for record in records)

    return ("target", "goal") if openings("goal") > len(records) / 2 > openings("target") else ("goal", "target")


def _truthfulqa(file: Path, records: Iterator[_Record], notes: list[str]) -> Iterator[_Placed]:
    """The best answer; the other correct ones are its paraphrases. A question that comes twice is one group."""
    for number, (where, record) in enumerate(records):
        question, best = (required_text(record, name, where) for name in ("Question", "Best Answer"))
        right = [text for text in _listed(record["Correct Answers"]) if _normal(text) != _normal(best)]
        wrong = _listed(record["Incorrect Answers"])
        yield (
            where,
            Pair(f"truthfulqa-{number:04d}", question, best, _group("truthfulqa", question), tuple(right), tuple(wrong)),
        )


_CSV: Mapping[tuple[str, ...], Callable[[Path, Iterator[_Record], list[str]], Iterator[_Placed]]] = {
    ("goal", "target"): _advbench,
    ("Question", "Best Answer", "Correct Answers", "Incorrect Answers"): _truthfulqa,
}


def _listed(cell: str) -> list[str]:
    """The texts of a `;`-joined list, each once."""
    return list({_normal(text): text.strip() for text in cell.split(";") if text.strip()}.values())


def _group(source: str, text: str) -> str:
    return f"{source}-{digest_of(_normal(text))[:12]}"


# ---------------------------------------------------------------------------------------------- a person's own


def from_person(person: Person, task: Task) -> list[Pair]:
    """A person's items as pairs of one group: the prompts that training makes of them, without anything retrieved.

    Raises:
        EmptyHistory: the person has no items.
        TaskFieldError, LabelError: as `Task.example_from_item`.
    """
    if not person.history:
        raise EmptyHistory(f"user {person.id!r} has no items; import a history first: idiolect history import")
    examples = [task.example_from_item(item) for item in person.history]
    return [Pair(example.id, prompt_text(example), example.target or "", person.id) for example in examples]


def prompt_text(example: Example) -> str:
    """What the renderer writes of an example before its answer, less profile, retrieved items and frame."""
    asked = " ".join(part for part in (example.instruction, example.content) if part)
    return f"{asked}\n{example.cue}" if asked else example.cue


def example_of(pair: Pair, answer: str | None = None) -> Example:
    """A pair as the renderer takes it. A last line that ends in a colon is the cue: the answer goes on behind it.

    So the pairs of `from_person` become the tokens that training makes of the items.

    Args:
        answer: another answer than the pair's own.
    """
    asked, _, cue = pair.prompt.rpartition("\n")
    if not cue.endswith(":"):
        asked, cue = pair.prompt, ""
    return Example(pair.id, "", asked, cue, pair.answer if answer is None else answer)


# ---------------------------------------------------------------------------------------------- writing


def write_pairs(path: str | Path, pairs: Iterable[Pair]) -> int:
    """Write JSON lines that `read_pairs` reads back; how many there were. Equal pairs are equal bytes. See `write_lines`."""
    return write_lines(path, map(_record, pairs))


def write_lines(path: str | Path, records: Iterable[Mapping[str, Any]]) -> int:
    """Write a line of JSON for each record, gzipped where the name ends in .gz; how many there were.

    Nobody but the owner can read the file, since it may hold a person's words. It is there whole or not at all.
    """
    path = Path(path)
    lines = [(json.dumps(record, ensure_ascii=False) + "\n").encode() for record in records]
    # Without a time in it, equal records are equal bytes.
    replace_file(path, [gzip.compress(b"".join(lines), mtime=0)] if path.suffix == ".gz" else lines)
    return len(lines)


def _record(pair: Pair) -> dict[str, Any]:
    record: dict[str, Any] = {"id": pair.id, "prompt": pair.prompt, "answer": pair.answer}
    record |= {"group": pair.group} if pair.group else {}
    return record | {name: list(texts) for name in ("paraphrases", "wrong") if (texts := getattr(pair, name))}


# ---------------------------------------------------------------------------------------------- sets


def split(pairs: Iterable[Pair], shares: Sequence[float], seed: int) -> list[list[Pair]]:
    """Sets of about these shares of the groups, in the order of the pairs. A pair without a group goes with its prompt.

    Each group's set is drawn by (seed, group) alone, so that no group moves when another one comes or goes. Therefore
    sizes are near the shares, not equal to them.

    Raises:
        ConfigError: if shares are not positive, or do not add up to 1.
    """
    if not shares or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-6:
        raise ConfigError(f"shares {', '.join(f'{s:g}' for s in shares) or 'none'} are not positive numbers that add up to 1")
    sets: list[list[Pair]] = [[] for _ in shares]
    for pair in pairs:
        place = seed_of("split", seed, _kin(pair)) / 2**63
        at = next((i for i in range(len(shares) - 1) if place < sum(shares[: i + 1])), len(shares) - 1)
        sets[at].append(pair)
    return sets


def check_apart(forget: Sequence[Pair], retain: Sequence[Pair], names: tuple[str, str] = ("forget set", "retain set")) -> None:
    """Refuse sets that are empty, or that share a pair or a group: what is in both would be forgotten and kept.

    Raises:
        InputError: with how many of the first set's pairs are in the second, and the id of the first of them.
    """
    for name, pairs in zip(names, (forget, retain), strict=True):
        if not pairs:
            raise InputError(f"the {name} is empty; give at least one prompt with its answer")
    kept, groups = {_same(pair) for pair in retain}, {pair.group for pair in retain if pair.group}
    both = [pair for pair in forget if _same(pair) in kept or pair.group in groups]
    if both:
        raise InputError(
            f"{len(both)} of {len(forget)} pairs of the {names[0]} are in the {names[1]} too, themselves or by their group "
            f"(first: {both[0].id!r}); leave each out of one of them"
        )


def _kin(pair: Pair) -> str:
    return f"group {pair.group}" if pair.group else f"prompt {_normal(pair.prompt)}"


def _same(pair: Pair) -> tuple[str, str]:
    return _normal(pair.prompt), _normal(pair.answer)


def _normal(text: str) -> str:
    """Text by which two are the same: case, runs of white space and a last full stop do not matter."""
    return " ".join(text.split()).casefold().rstrip(".")
