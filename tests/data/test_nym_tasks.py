"""The word game's tasks, and one history that holds items of all of them."""

from __future__ import annotations

import pytest

from idiolect.data.nyms import claim, event_item, is_event
from idiolect.data.retrieval import History, history_examples
from idiolect.data.tasks import TASKS, get_task
from idiolect.errors import FileFormatError, InputError, LabelError
from idiolect.evals.metrics import jaccard, listed, recall_at, score
from idiolect.types import Item, Person, Query

SHARED = {
    "v": 1,
    "source": "nyms",
    "user": "nyms-ana",
    "relation": "mero",
    "base": "bicycle",
    "question": "Name parts of: BICYCLE",
}
LISTED = {**SHARED, "id": "r-1", "t": "2025-03-02T10:11:12.000Z", "task": "NYM-3", "output": ["wheel", "bell"], "ms": [1, None]}
FIRST = {**SHARED, "id": "r-1/first", "t": "2025-03-02T10:11:12.000Z", "task": "NYM-2", "output": "wheel",
         "candidates": ["seat", "wheel", "chain", "pedal"]}  # fmt: skip
JUDGED = {**SHARED, "id": "j-2/7", "t": "2025-03-03T10:11:12.000Z", "task": "NYM-1", "answer": "soul", "output": "no",
          "population": {"n": 22, "yes": 0.55}}  # fmt: skip
PERSON = Person("nyms-ana", tuple(map(event_item, (LISTED, FIRST, JUDGED))))


def test_events_become_items_without_what_others_said():
    listed_item, first, judged = PERSON.history
    assert listed_item.fields["output"] == "wheel, bell"
    assert first.fields["candidates"] == "seat, wheel, chain, pedal"
    assert judged.fields["claim"] == "soul is a part of bicycle"
    assert judged.date == "2025-03-03T10:11:12.000Z"
    assert not any(name in item.fields for item in PERSON.history for name in ("population", "user", "ms"))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"v": 2}, "field v: is not 1"), ({"task": None}, "field task"), ({"output": "maybe"}, "not one of the labels"),
     ({"relation": "cousin"}, "field relation"), ({"answer": " "}, "field answer: blank"), ({"id": None}, "field id")],
)  # fmt: skip
def test_events_that_are_not_right_are_refused(change, message):
    with pytest.raises(FileFormatError, match=message) as error:
        event_item({**JUDGED, **change}, "line 3")
    assert "soul" not in str(error.value)


def test_only_the_games_lines_are_events():
    assert is_event(JUDGED)
    assert not any(map(is_event, ({"source": "mail"}, ["nyms"], "nyms")))


@pytest.mark.parametrize(
    ("relation", "words"), [("syn", "another word for"), ("ant", "the opposite of"), ("hypo", "a kind of")]
)
def test_a_pair_is_a_sentence(relation, words):
    assert claim(relation, "big", "large") == f"large is {words} big"


@pytest.mark.parametrize(("name", "target"), [("NYM-1", "no"), ("NYM-2", "[2]"), ("NYM-3", "wheel, bell")])
def test_each_task_takes_its_own_items(name, target):
    task = get_task(name)
    assert [example.target for example in history_examples(PERSON, task)] == [target]
    assert len(History(PERSON.history, task).items) == 1
    assert [task.answer_of(item) for item in task.own(PERSON.history)] == [target]


def test_items_that_name_no_task_are_of_any():
    item = Item("i1", {"text": "Works well.", "score": "4"})
    assert TASKS["LaMP-3"].own([item, *PERSON.history]) == (item,)


def test_the_first_answer_is_chosen_among_four_in_the_cue():
    task = get_task("NYM-2")
    trained = task.example_from_item(PERSON.history[1], [PERSON.history[1]])
    assert trained.cue == "[1]: seat\n[2]: wheel\n[3]: chain\n[4]: pedal\nfirst:"
    assert trained.retrieved == ("question: Name parts of: BICYCLE\nfirst: wheel",)
    asked = task.query_input("Name parts of: BICYCLE", ["seat", "wheel", "chain", "pedal"])
    assert task.example_from_query(Query("r-1/first", asked, "[2]"), [PERSON.history[1]]) == trained


def test_the_first_answer_needs_four_candidates_and_one_of_them():
    task = get_task("NYM-2")
    for change in ({"candidates": "seat, wheel"}, {"output": "soul"}):
        with pytest.raises(LabelError, match="not one of 4 candidates"):
            task.check_item(Item("r-1/first", {**PERSON.history[1].fields, **change}))
    with pytest.raises(InputError, match="lacks question or candidates"):
        task.example_from_query(Query("q", 'For this player and the question "Name parts of: BICYCLE"'))


def test_lists_are_read_at_commas():
    assert listed(" Wheel,seat ,, wheel,\nsteering  wheel") == ("wheel", "seat", "steering wheel")
    assert listed(" , ") == ()


def test_recall_and_jaccard():
    gold = ["a", "b", "c"]
    assert recall_at(5, gold, ["c", "x", "a"]) == pytest.approx(2 / 3)
    assert recall_at(2, gold, ["x", "a", "b"]) == 0.5
    assert jaccard(gold, ["c", "d"]) == 0.25
    assert jaccard([], []) == 1.0


def test_lists_are_scored_by_recall_first():
    scores = score("list", {"q1": "a, b", "q2": "a"}, {"q1": "B, x", "q2": " "})
    assert scores.per_query == {"q1": 0.5, "q2": 0.0}
    assert scores.metrics == {"recall@5": 0.25, "jaccard": pytest.approx(1 / 6)}
    assert scores.invalid_share == 0.5
    with pytest.raises(LabelError, match="not a list"):
        score("list", {"q": ","}, {"q": "a"})
