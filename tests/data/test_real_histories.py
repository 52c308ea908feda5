"""The readers, tasks and renderer on real people's histories."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from byte_tokenizer import CHAT, RAW

from idiolect.data.prompts import render, reserve_for
from idiolect.data.readers import read_base_items, read_people
from idiolect.data.retrieval import History, history_examples, query_examples
from idiolect.data.tasks import get_task
from idiolect.types import date_key

DATA = Path(__file__).parents[2].parent / "shared" / "data"
SETS = [
    ("huffpost_lamp2n", "LaMP-2N", 69, 5057, 469, 1759),
    ("huffpost_lamp4", "LaMP-4", 116, 8824, 777, 3805),
    ("movielens_rating", "movie-rating", 571, 60516, 4898, 0),
]
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA.parent.name}/{DATA.name} beside the checkout")


@pytest.mark.parametrize(("folder", "name", "n_people", "n_items", "n_queries", "n_base"), SETS)
def test_every_item_and_query_turns_into_an_example(folder, name, n_people, n_items, n_queries, n_base):
    task = get_task(name)
    counts = [0, 0, 0]
    for person in read_people(DATA / folder, task):
        dates = [date_key(item.date) for item in person.history]
        assert dates == sorted(dates)
        assert not {item.id for item in person.history} & {query.id for query in person.queries}
        counts[0] += 1
        counts[1] += sum(bool(example.target) for example in history_examples(person, task))
        counts[2] += sum(bool(example.target) for example in query_examples(person, task))
    assert counts == [n_people, n_items, n_queries]
    base = list(read_base_items(DATA / folder))
    assert len(base) == n_base
    assert all(task.example_from_item(item).target for _, item in base)


@pytest.mark.parametrize(("folder", "name"), [row[:2] for row in SETS])
def test_served_prompts_are_trained_prompts(folder, name):
    task = get_task(name)
    for person in islice(read_people(DATA / folder), 3):
        for example in islice(query_examples(person, task, retriever="bm25", k=2), 10):
            for tokenizer in (RAW, CHAT):
                reserve = reserve_for(task, tokenizer)
                trained = render(example, tokenizer, 700, reserve=reserve)
                served = render(example, tokenizer, 700, reserve=reserve, answer=False)
                if trained.n_answer <= reserve:
                    assert trained.ids[: trained.n_prompt] == served.ids


def test_retrieval_over_a_real_history_sees_the_past_only():
    task = get_task("LaMP-4")
    person = next(read_people(DATA / "huffpost_lamp4"))
    history = History(person.history, task, person.id)
    for position in range(0, len(history.items), 50):
        found = history.for_item(position, 4, "bm25")
        assert len(found) == min(4, position)
        assert all(date_key(item.date) <= date_key(history.items[position].date) for item in found)
