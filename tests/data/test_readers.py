from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from pathlib import Path

import pytest

from idiolect.data import files
from idiolect.data.readers import merged, people_file, read_base_items, read_people
from idiolect.data.tasks import TASKS
from idiolect.errors import FileFormatError
from idiolect.types import Item, Person, Query

ITEM = {"id": "i1", "text": "private words", "title": "T", "date": "2020-01-02"}
USER = {"user_id": "ana", "profile": [ITEM], "query": [{"id": "q1", "input": "following article: x", "gold": "y"}]}
QUESTION = {"id": "10", "input": "following article: x", "profile": [ITEM]}


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def lines(path: Path, *records: object) -> Path:
    text = "".join(json.dumps(record) + "\n" for record in records)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def refused(path: Path, pattern: str, **options) -> str:
    with pytest.raises(FileFormatError, match=pattern) as caught:
        list(read_people(path, **options))
    message = str(caught.value)
    assert message.startswith(str(path.parent))
    assert ";" in message
    assert "\n" not in message
    assert "private" not in message
    return message


ANA = Person(
    "ana", (Item("i1", {"text": "private words", "title": "T"}, "2020-01-02"),), (Query("q1", "following article: x", "y"),)
)


@pytest.mark.parametrize("name", ["users.jsonl", "users.jsonl.gz"])
def test_lines_of_users_from_file_and_folder(tmp_path, name):
    path = lines(tmp_path / name, USER, {**USER, "user_id": "bo", "n_items": 3})
    people = list(read_people(path))
    assert people == list(read_people(tmp_path)) == [ANA, Person("bo", ANA.history, ANA.queries)]


def test_oppu_array(tmp_path):
    path = write(tmp_path / "user_top_100_history.json", [{**USER, "user_id": 7}, USER])
    assert [p.id for p in read_people(path)] == ["7", "ana"]
    assert people_file(tmp_path) == path


def test_lamp_user_split_makes_every_question_a_person(tmp_path):
    path = write(tmp_path / "dev_questions.json", [QUESTION, {**QUESTION, "id": "11"}])
    write(
        tmp_path / "dev_outputs.json", {"task": "LaMP_4", "golds": [{"id": "11", "output": "b"}, {"id": "10", "output": "a"}]}
    )
    people = list(read_people(path))
    assert [(p.id, p.queries[0].gold) for p in people] == [("10", "a"), ("11", "b")]


def test_lamp_time_split_groups_by_user(tmp_path):
    later = {**ITEM, "id": "i2", "date": "2021"}
    questions = [
        {**QUESTION, "user_id": "u1"},
        {**QUESTION, "id": "11", "user_id": "u2"},
        {**QUESTION, "id": "12", "user_id": "u1", "profile": [later, ITEM]},
    ]
    path = write(tmp_path / "train_questions.json", questions)
    assert [p.id for p in read_people(path)] == ["u1", "u2", "u1"]
    one, two = merged(read_people(path))
    assert ([i.id for i in one.history], [q.id for q in one.queries]) == (["i1", "i2"], ["10", "12"])
    assert two.id == "u2"
    assert one.queries[0].gold is None


def test_plain_items_gather_while_one_person_speaks(tmp_path):
    records = [{"user_id": u, "id": str(n), "date": f"20{20 - n}", "text": "x"} for n, u in enumerate("aab")]
    people = list(read_people(lines(tmp_path / "items.jsonl", *records)))
    assert [(p.id, [i.id for i in p.history]) for p in people] == [("a", ["1", "0"]), ("b", ["2"])]


def test_plain_items_of_a_named_user(tmp_path):
    path = lines(tmp_path / "mine.jsonl", ITEM)
    assert next(read_people(path, user="me")).id == "me"
    refused(path, "line 1: field user_id: missing")


def test_many_plain_items_of_one_person_come_in_parts(tmp_path):
    path = lines(tmp_path / "items.jsonl", *({"user_id": "a", "id": str(n), "text": "x"} for n in range(2500)))
    assert [len(p.history) for p in read_people(path)] == [1000, 1000, 500]


def test_values_become_text(tmp_path):
    record = {"user_id": "a", "id": 5, "ts": 997937239, "score": 4, "rating": 3.5, "genres": ["Drama", "War"], "none": None}
    (person,) = read_people(lines(tmp_path / "items.jsonl", record))
    fields = {"score": "4", "rating": "3.5", "genres": "Drama, War"}
    assert person.history == (Item("5", fields, "2001-08-16T04:47:19Z"),)


def test_a_year_as_number_and_text_that_no_database_takes(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"user_id": "a", "id": "1", "date": 2019, "text": "a\\u0000b \\ud83d c \\ud83d\\ude00"}\n')
    (person,) = read_people(path)
    assert person.history[0] == Item("1", {"text": "ab \ufffd c 😀"}, "2019")


def test_byte_order_mark_and_blank_lines(tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({**ITEM, "user_id": "a"}).encode() + b"\r\n\r\n")
    assert len(list(read_people(path))) == 1
    path = tmp_path / "x.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([USER]).encode())
    assert list(read_people(path)) == [ANA]


def test_base_items(tmp_path):
    assert list(read_base_items(tmp_path)) == []
    path = lines(tmp_path / "base.jsonl.gz", {**ITEM, "author": "A, B"}, {**ITEM, "author": None})
    expected = [("A, B", ANA.history[0]), ("", ANA.history[0])]
    assert list(read_base_items(tmp_path)) == list(read_base_items(path)) == expected


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        ({"user_id": None}, "line 2: field user_id: null"),
        ({"user_id": " "}, "line 2: field user_id: blank"),
        ({"profile": "private"}, "line 2: field profile: expected a list, found text"),
        ({"query": {}}, "line 2: field query: expected a list, found an object"),
        ({"profile": ["private"]}, r"line 2: profile\[0\]: expected an object, found text"),
        ({"profile": [{"text": "private"}]}, r"line 2: profile\[0\]: field id: missing"),
        ({"profile": [{**ITEM, "text": {"private": 1}}]}, r"profile\[0\]: item 'i1': field text: expected text or a number"),
        ({"profile": [{**ITEM, "text": [["private"]]}]}, "field text: expected text or a number, found a list"),
        ({"profile": [{**ITEM, "date": "private"}]}, "field date: does not start with a year"),
        ({"profile": [{**ITEM, "date": "03/02/2018"}]}, "field date: does not start with a year"),
        ({"profile": [{"id": "x", "ts": "private"}]}, "field ts: not a time"),
        ({"query": [{"id": "q", "gold": "private"}]}, r"query\[0\]: query 'q': field input: missing"),
    ],
)
def test_what_is_wrong_with_a_record(tmp_path, change, pattern):
    refused(lines(tmp_path / "users.jsonl", USER, {**USER, **change}), pattern)


def test_missing_fields_of_the_task(tmp_path):
    path = lines(tmp_path / "users.jsonl", USER)
    assert len(list(read_people(path, TASKS["LaMP-4"]))) == 1
    refused(path, r"line 1: profile\[0\]: item 'i1': field 'category' is missing; LaMP-2N needs", task=TASKS["LaMP-2N"])
    bad = lines(tmp_path / "b.jsonl", {**USER, "profile": [{**ITEM, "category": "private"}]})
    refused(bad, "line 1: .*not one of the labels", task=TASKS["LaMP-2N"])


def test_lines_that_are_not_json(tmp_path):
    path = tmp_path / "users.jsonl"
    whole = json.dumps(USER)
    path.write_text(whole + "\n" + whole[:-20])
    refused(path, "line 2: not JSON, or cut off, at column")
    path.write_text(json.dumps(USER, indent=1))
    refused(path, "line 1: not JSON")
    path.write_text(whole + "\n[1]\n")
    refused(path, "line 2: expected an object, found a list")


def test_lines_that_are_not_utf8(tmp_path):
    path = tmp_path / "users.jsonl"
    start = json.dumps(USER).encode() + b'\n{"user_id": "'
    path.write_bytes(start + b'\xe9t\xe9"}\n')
    refused(path, rf"line 2: byte {len(start)} is not UTF-8; save the file as UTF-8")


@pytest.mark.parametrize("offset", [40, 70_000, files._CHUNK_BYTES - 1])
def test_arrays_that_are_not_utf8(tmp_path, offset):
    path = tmp_path / "x.json"
    text = "[\n" + json.dumps({**USER, "note": "n" * 80_000})
    data = bytearray(text.encode())
    data[offset:offset] = b"\xc3\x28"
    path.write_bytes(data)
    refused(path, rf"line 2: byte {offset} is not UTF-8")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_array(tmp_path, share):
    text = json.dumps([USER] * 50)
    path = tmp_path / "user_top_100_history.json"
    path.write_text(text[: int(len(text) * share)])
    refused(path, "line 1: ends in the middle, or is not JSON, near byte [0-9]+")


def test_a_truncated_character_at_the_end(tmp_path):
    path = tmp_path / "x.json"
    path.write_bytes(b'[{"user_id": "\xc3')
    refused(path, "byte 14 is not UTF-8")


def test_garbage_after_an_array(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps([USER]) + "\n]")
    refused(path, "JSON")


@pytest.mark.parametrize(
    ("records", "pattern"),
    [
        ([USER, 3], "record 2: expected an object, found a number"),
        ([{"id": "1", "profile": []}], "record 1: query '1': field input: missing"),
        ([{"id": "1", "input": "x"}], "record 1: field profile: missing"),
        ([], "holds no people"),
    ],
)
def test_what_is_wrong_with_an_array(tmp_path, records, pattern):
    refused(write(tmp_path / "x.json", records), pattern)


@pytest.mark.parametrize(
    ("golds", "pattern"),
    [
        ([{"id": "10", "output": "a"}], "record 2: field id: '11' has no answer in dev_outputs.json"),
        (
            [{"id": n, "output": "a"} for n in ("10", "11", "12")],
            "outputs.json: field golds: 1 of the answers belong to no question.*'12'",
        ),
        ([{"id": "10", "output": "a"}] * 2, r"golds\[1\]: field id: '10' comes twice"),
        ([{"id": "10"}], r"golds\[0\]: field output: missing"),
        ([], "field golds: missing or empty"),
    ],
)
def test_questions_and_answers_must_match(tmp_path, golds, pattern):
    path = write(tmp_path / "dev_questions.json", [QUESTION, {**QUESTION, "id": "11"}])
    write(tmp_path / "dev_outputs.json", {"task": "LaMP_4", "golds": golds})
    refused(path, pattern)


def test_a_question_that_comes_twice(tmp_path):
    path = write(tmp_path / "dev_questions.json", [QUESTION, QUESTION])
    write(tmp_path / "dev_outputs.json", {"golds": [{"id": "10", "output": "a"}]})
    refused(path, "record 2: field id: '10' comes twice")


def test_the_answers_file_itself(tmp_path):
    refused(write(tmp_path / "dev_outputs.json", {"task": "LaMP_4", "golds": []}), "file of answers; give the")


def test_damaged_packing(tmp_path):
    path = lines(tmp_path / "users.jsonl.gz", *[USER] * 500)
    data = path.read_bytes()
    path.write_bytes(data[:-30])
    refused(path, "gzip data is damaged or cut off")
    path.write_bytes(data[:40] + b"junk" + data[44:])
    refused(path, "gzip data is damaged or cut off|JSON|UTF-8")


@pytest.mark.parametrize(
    ("data", "pattern"), [(b"", "is empty"), (b" \n", "is empty"), (b"id,text\n1,private", "neither an array")]
)
def test_files_of_another_kind(tmp_path, data, pattern):
    path = tmp_path / "x.json"
    path.write_bytes(data)
    refused(path, pattern)


def test_paths_that_lead_nowhere(tmp_path):
    refused(tmp_path / "no.json", "there is no such file")
    (tmp_path / "folder").mkdir()
    refused(tmp_path / "folder", "holds no file of people; expected one of")
    for split in ("dev", "train"):
        write(tmp_path / "folder" / f"{split}_questions.json", [QUESTION])
    refused(tmp_path / "folder", r"more than one file of people \(dev_questions.json, train_questions.json\)")


# ------------------------------------------------------------------ memory


def big_array(path: Path, n: int) -> Path:
    profile = [{"id": f"i{k}", "text": "words " * 200, "score": "4", "date": "2020"} for k in range(50)]
    record = json.dumps({"id": "ID", "user_id": "u", "input": "review: x", "profile": profile})
    with path.open("w") as out:
        out.write("[")
        for k in range(n):
            out.write(("," if k else "") + record.replace('"ID"', f'"{k}"'))
        out.write("]")
    return path


def peak_bytes(path: Path) -> int:
    tracemalloc.start()
    try:
        assert sum(len(person.history) for person in read_people(path)) > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_file(tmp_path):
    small = peak_bytes(big_array(tmp_path / "small.json", 4))
    large_file = big_array(tmp_path / "large.json", 200)
    large = peak_bytes(large_file)
    assert large_file.stat().st_size > 12_000_000
    assert large < 1.2 * small + 200_000
    assert large < 2_000_000


def test_the_first_person_comes_before_the_file_is_read(tmp_path):
    path = big_array(tmp_path / "x.json", 20)
    path.write_text(path.read_text()[:-100])
    people = read_people(path)
    assert next(people).queries[0].id == "0"
    with pytest.raises(FileFormatError, match=re.escape(f"near byte {path.stat().st_size}")):
        list(people)
