from __future__ import annotations

import gzip
import stat
from pathlib import Path

import pytest
from byte_tokenizer import ByteTokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from idiolect.data.pairs import Pair, check_apart, example_of, from_person, read_pairs, split, stream_pairs, write_pairs
from idiolect.data.prompts import render
from idiolect.data.synthetic import TASK_OF, population
from idiolect.data.tasks import TASKS, get_task
from idiolect.errors import ConfigError, EmptyHistory, FileFormatError, InputError
from idiolect.types import Item, Person

SAFETY = Path(__file__).parents[3] / "shared" / "data" / "safety"
ADVBENCH, TRUTHFULQA = SAFETY / "advbench_harmful_behaviors.csv", SAFETY / "TruthfulQA.csv"
needs_safety = pytest.mark.skipif(not TRUTHFULQA.is_file(), reason="the safety data is not beside this checkout")

LETTERS = st.characters(blacklist_categories=("Cs",), blacklist_characters="\0")
TEXT = st.text(LETTERS, min_size=1, max_size=12).filter(str.strip)
TEXTS = st.lists(TEXT, max_size=2).map(tuple)
PAIRS = st.builds(Pair, TEXT, TEXT, TEXT, st.one_of(st.just(""), TEXT), TEXTS, TEXTS)


def refusal(path: Path, content: str | bytes) -> str:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(FileFormatError) as caught:
        read_pairs(path)
    return str(caught.value).removeprefix(f"{path}")


# ---------------------------------------------------------------------------------------------- files


@settings(max_examples=40)
@given(st.lists(PAIRS, min_size=1, max_size=5, unique_by=lambda pair: pair.id), st.sampled_from(["p.jsonl", "p.jsonl.gz"]))
def test_what_is_written_is_read_back(tmp_path_factory, pairs, name):
    path = tmp_path_factory.mktemp("pairs") / name
    assert write_pairs(path, pairs) == len(pairs)
    assert read_pairs(path) == pairs
    first = path.read_bytes()
    write_pairs(path, pairs)
    assert path.read_bytes() == first
    assert (first[:2] == b"\x1f\x8b") == name.endswith(".gz")


def test_a_written_file_is_its_owners_alone_and_whole_or_absent(tmp_path):
    path = tmp_path / "pairs.jsonl"
    write_pairs(path, [Pair("a", "p", "q")])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def cut_off():
        yield Pair("b", "p", "q")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_pairs(path, cut_off())
    assert [pair.id for pair in read_pairs(path)] == ["a"]
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_only_prompt_and_answer_must_be_there(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text(
        '\n{"prompt": "### Question: a ### b", "answer": "c"}\n{"prompt": "d", "answer": "e", "wrong": null, "id": 7}\n'
    )
    assert read_pairs(path) == [Pair("line-2", "### Question: a ### b", "c"), Pair("7", "d", "e")]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"prompt": "secret"}', ": line 1: field answer: missing"),
        ('{"prompt": "secret", "answer": " "}', ": line 1: field answer: blank"),
        ('{"prompt": "secret", "answer": {"a": 1}}', ": line 1: field answer: expected text or a number, found an object"),
        ('{"prompt": "secret", "answer": "b", "wrong": "c"}', ": line 1: field wrong: expected a list, found text"),
        ('{"prompt": "secret", "answer": "b", "wrong": [{}]}', ": line 1: field wrong[0]: expected text or a number"),
        (
            '{"prompt": "secret", "answer": "b", "paraphrase": []}',
            ": line 1: field number 3: is not a field of pairs; write id",
        ),
        ('{"id": "x", "prompt": "secret", "answer": "b"}\n' * 2, ": line 2: field id: 'x' comes twice"),
        ('{"prompt": "secret", "answer": "b"}\n[1]', ": line 2"),
        ('{"prompt": "secret"', ": line 1: not JSON, or cut off"),
    ],
)
def test_a_bad_line_is_named_without_its_text(tmp_path, line, says):
    message = refusal(tmp_path / "p.jsonl", line)
    assert message.startswith(says)
    assert "secret" not in message


def test_an_error_comes_when_its_line_is_reached(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n{"prompt": "c"}\n')
    stream = stream_pairs(path)
    assert next(stream).prompt == "a"
    with pytest.raises(FileFormatError):
        next(stream)


def test_what_is_no_file_of_pairs_is_refused(tmp_path):
    assert "is empty" in refusal(tmp_path / "a", b"")
    assert "holds no pairs" in refusal(tmp_path / "b", "goal,target\n")
    assert "line 1: is neither a JSON object nor a known header" in refusal(tmp_path / "c", "question,reply\na,b\n")
    assert "line 2: byte 1 of it is not UTF-8" in refusal(tmp_path / "d", b"goal,target\na\xff,b\n")
    assert "line 3: has 3 cells under a header of 2" in refusal(tmp_path / "e", "goal,target\na,b\nc,d,e\n")
    assert "line 2: is not CSV" in refusal(tmp_path / "f", 'goal,target\n"a,b\n')
    assert "line 3: field target: blank" in refusal(tmp_path / "g", "goal,target\n\na, \n")
    assert "damaged" in refusal(tmp_path / "h", gzip.compress(b"goal,target\na,b\n" * 99)[:-20])
    with pytest.raises(FileFormatError, match="is a folder"):
        read_pairs(tmp_path)
    with pytest.raises(FileFormatError, match="no such file"):
        read_pairs(tmp_path / "none")


def test_columns_are_found_by_name_in_any_order_and_a_row_by_its_first_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(
        'note,target,goal\n1,"Sure, here is\na poem",Write a poem\n\n2,No,"Say ""no"""\n3,,x\n', encoding="utf-8-sig"
    )
    stream = stream_pairs(path)
    one, two = next(stream), next(stream)
    assert (one.prompt, one.answer) == ("Write a poem", "Sure, here is\na poem")
    assert (two.prompt, two.answer, two.id) == ('Say "no"', "No", "advbench-0001")
    with pytest.raises(FileFormatError, match=r"line 6: field target: blank"):
        next(stream)


def test_exchanged_names_of_columns_are_seen_and_said(tmp_path):
    rows = [("Write a poem", "Sure, here is a poem"), ("Tell a lie", "Sure, here is a lie"), ("Name it", "It is so")]
    for header, swapped in (("goal,target", False), ("target,goal", True)):
        path, notes = tmp_path / f"{header}.csv", []
        path.write_text("\n".join([header, *(f'"{a}","{b}"' for a, b in rows)]))
        assert [(pair.prompt, pair.answer) for pair in read_pairs(path, notes)] == rows
        assert [("wrong way round" in note) for note in notes] == [True] * swapped


def test_a_question_is_one_group_and_its_lists_are_split(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(
        "Type,Question,Best Answer,Correct Answers,Incorrect Answers\n"
        "x,Why?,Because,because. ; So it is;So it is; ,No; Never;\n"
        "x,why? ,For that,,Not\n"
        "x,How?,Thus,Thus,\n",
        encoding="utf-8-sig",
    )
    first, again, other = read_pairs(path)
    assert (first.answer, first.paraphrases, first.wrong) == ("Because", ("So it is",), ("No", "Never"))
    assert first.group == again.group != other.group
    assert (other.paraphrases, other.wrong) == ((), ())


@needs_safety
def test_the_safety_files_are_read_whole():
    notes: list[str] = []
    harmful, normal = read_pairs(ADVBENCH, notes), read_pairs(TRUTHFULQA, notes)
    assert len(harmful) == 520
    assert len(notes) == 1
    assert sum(pair.answer.startswith("Sure, here") for pair in harmful) > 500
    assert not any(pair.prompt.startswith("Sure") for pair in harmful)
    assert len({pair.group for pair in normal}) == len(normal) > 800
    assert all(pair.wrong and ";" not in "".join(pair.wrong) for pair in normal)
    check_apart(harmful, normal)


# ---------------------------------------------------------------------------------------------- a person


@pytest.mark.parametrize("kind", list(TASK_OF))
def test_a_persons_pairs_are_the_tokens_of_training(kind):
    task, tokenizer = get_task(TASK_OF[kind]), ByteTokenizer()
    (person,), _ = population(0, 1, 12, 0, 0, kind)
    pairs = from_person(person, task)
    assert {pair.group for pair in pairs} == {person.id}
    for item, pair in zip(person.history, pairs, strict=True):
        trained = render(task.example_from_item(item), tokenizer, 2048, reserve=64)
        assert render(example_of(pair), tokenizer, 2048, reserve=64) == trained
        assert tokenizer.decode(trained.ids[: trained.n_prompt]).endswith(pair.prompt)


@pytest.mark.parametrize("name", list(TASKS))
def test_every_task_gives_pairs_with_a_cue(name):
    task, tokenizer = get_task(name), ByteTokenizer()
    fields = {field: "one: two\nthree" for field in task.fields}
    if task.labels:
        fields[task.target_field] = task.labels[0] if name != "LaMP-1" else "words"
    if name == "NYM-2":  # the label is the place of the answer among the candidates
        fields |= {"candidates": "one, two, three, four", "output": "one"}
    item = Item("i", fields)
    (pair,) = from_person(Person("p", (item,)), task)
    trained = render(task.example_from_item(item), tokenizer, 4096, reserve=64)
    assert render(example_of(pair), tokenizer, 4096, reserve=64) == trained


def test_a_person_without_items_has_no_pairs():
    with pytest.raises(EmptyHistory, match="'nobody' has no items"):
        from_person(Person("nobody", ()), get_task("LaMP-4"))


def test_another_answer_leaves_the_prompt_as_it_is():
    pair = Pair("a", "Who is it?", "Me")
    tokenizer = ByteTokenizer()
    mine, other = (render(example_of(pair, text), tokenizer, 99, reserve=20) for text in (None, "You"))
    assert mine.ids[: mine.n_prompt] == other.ids[: other.n_prompt]
    assert example_of(pair, "You").target == "You"


# ---------------------------------------------------------------------------------------------- sets

GROUPED = st.lists(
    st.builds(
        Pair, st.uuids().map(str), st.sampled_from(["a b", "A  b.", "c", "d", "e"]), TEXT, st.sampled_from(["", "g", "h", "i"])
    ),
    max_size=25,
)


@settings(max_examples=50)
@given(GROUPED, st.integers(0, 50), st.sampled_from([(0.5, 0.5), (0.7, 0.1, 0.2), (1.0,)]))
def test_split_loses_nothing_and_parts_no_group_and_no_question(pairs, seed, shares):
    sets = split(pairs, shares, seed)
    assert len(sets) == len(shares)
    assert sorted(pair.id for part in sets for pair in part) == sorted(pair.id for pair in pairs)
    for part in sets:
        assert [pair.id for pair in part] == [pair.id for pair in pairs if pair in part]
    for one, mine in enumerate(sets):
        for theirs in sets[one + 1 :]:
            assert not {pair.group for pair in mine if pair.group} & {pair.group for pair in theirs}
            alone = [
                {pair.prompt.casefold().replace("  ", " ").strip(".") for pair in s if not pair.group} for s in (mine, theirs)
            ]
            assert not alone[0] & alone[1]


@settings(max_examples=50)
@given(GROUPED, st.integers(0, 50), st.integers(0, 24))
def test_a_group_that_leaves_moves_no_other(pairs, seed, which):
    gone = pairs[which % len(pairs)].group if pairs else ""
    left = [pair for pair in pairs if pair.group != gone]
    before, after = split(pairs, (0.4, 0.6), seed), split(left, (0.4, 0.6), seed)
    assert after == [[pair for pair in part if pair.group != gone] for part in before]


def test_sizes_are_near_the_shares_and_differ_by_seed():
    pairs = [Pair(str(n), f"prompt {n}", "x") for n in range(2_000)]
    one, two = split(pairs, (0.7, 0.1, 0.2), 1), split(pairs, (0.7, 0.1, 0.2), 2)
    for part, share in zip(one, (0.7, 0.1, 0.2), strict=True):
        assert abs(len(part) / 2_000 - share) < 0.04
    assert one != two


@pytest.mark.parametrize("shares", [(), (0.5, 0.4), (1.2, -0.2), (0.0, 1.0)])
def test_shares_must_be_shares(shares):
    with pytest.raises(ConfigError, match="add up to 1"):
        split([], shares, 0)


def test_sets_that_overlap_or_are_empty_are_refused():
    forget = [Pair("f1", "Who?", "Me"), Pair("f2", "secret", "You", "ana")]
    check_apart(forget, [Pair("r1", "Who?", "Someone else"), Pair("r2", "Why?", "Me", "ben")])
    for retain in ([Pair("r", " secret", "you.")], [Pair("r", "x", "y", "ana")]):
        with pytest.raises(InputError, match=r"1 of 2 pairs of the forget set are in the retain set .*'f2'") as caught:
            check_apart(forget, retain)
        assert "secret" not in str(caught.value)
    with pytest.raises(InputError, match="the forget set is empty"):
        check_apart([], forget)
    with pytest.raises(InputError, match="the retain set is empty"):
        check_apart(forget, [])
