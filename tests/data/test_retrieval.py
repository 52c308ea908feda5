from __future__ import annotations

import random

import bm25s
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from idiolect.data.retrieval import History, PrefixBM25, history_examples, query_examples, words
from idiolect.data.tasks import TASKS
from idiolect.errors import ConfigError
from idiolect.types import Item, Person, Query

TASK = TASKS["LaMP-4"]
vocabulary = st.sampled_from(["rain", "sun", "snow", "wind", "cloud", "storm", "hail", "fog"])
documents = st.lists(st.lists(vocabulary, min_size=1, max_size=12), min_size=1, max_size=12)


def corpus(n: int, seed: int = 0, n_words: int = 300) -> list[list[str]]:
    rng = random.Random(seed)
    return [[f"w{int(rng.paretovariate(0.6)) % n_words}" for _ in range(rng.randint(1, 40))] for _ in range(n)]


def item(n: int, text: str, date: str | None = None, id: str | None = None) -> Item:
    return Item(id or f"i{n}", {"text": text, "title": "t"}, date)


def numbered(n: int) -> list[Item]:
    return [item(i, " ".join(doc), f"2020-01-{i + 1:02d}") for i, doc in enumerate(corpus(n))]


@pytest.mark.parametrize("n", [1, 2, 7, 60, 120])
def test_scores_equal_bm25s_at_any_prefix(n):
    docs = corpus(120)
    index = PrefixBM25(docs)
    library = bm25s.BM25(k1=1.5, b=0.75, method="lucene", dtype="float64")
    library.index(docs[:n], show_progress=False)
    for query in (docs[3], docs[n - 1], ["w0", "w0", "w1"]):
        known = [word for word in query if any(word in doc for doc in docs[:n])]
        expected = library.get_scores(known) if known else np.zeros(n)
        np.testing.assert_allclose(index.scores(query, n), expected, rtol=1e-12, atol=1e-12)


def test_ranks_as_rank_bm25_where_every_idf_is_positive():
    """Okapi's idf is log((N − df + ½) / (df + ½)); ours has 1 + inside. One-word queries rank alike; a factor k1 + 1 apart."""
    docs = corpus(200)
    index, okapi = PrefixBM25(docs), BM25Okapi(docs, k1=1.5, b=0.75, epsilon=0.25)
    rare = [word for word, idf in okapi.idf.items() if sum(word in d for d in docs) < 60 and idf > 0]
    assert len(rare) > 20
    for word in rare:
        ours, theirs = index.scores([word]), okapi.get_scores([word])
        assert list(np.argsort(-ours, kind="stable")) == list(np.argsort(-theirs, kind="stable"))
    df = np.array([sum(word in d for d in docs) for word in rare])
    ours = np.array([index.scores([word]).max() for word in rare]) / np.log(1 + (200 - df + 0.5) / (df + 0.5))
    theirs = np.array([okapi.get_scores([word]).max() for word in rare]) / np.log((200 - df + 0.5) / (df + 0.5))
    np.testing.assert_allclose(ours * 2.5, theirs)


def test_a_document_may_be_added_after_a_question():
    docs = corpus(20)
    index = PrefixBM25(docs[:10])
    before = index.scores(docs[3])
    for doc in docs[10:]:
        index.add(doc)
    assert index.scores(docs[3], 10).tolist() == before.tolist()
    assert index.scores(docs[3]).tolist() == PrefixBM25(docs).scores(docs[3]).tolist()


def test_unlike_rank_bm25_two_documents_are_told_apart():
    docs = [["rain", "today"], ["sun", "today"]]
    assert list(BM25Okapi(docs).get_scores(["rain"])) == [0.0, 0.0]
    scores = PrefixBM25(docs).scores(["rain"])
    assert scores[0] > scores[1] == 0


@given(documents, documents, st.lists(vocabulary, max_size=6))
def test_later_documents_never_change_a_score(past, future, query):
    alone = PrefixBM25(past).scores(query)
    together = PrefixBM25(past + future).scores(query, before=len(past))
    assert alone.tolist() == together.tolist()


@given(documents, documents, st.sampled_from(["bm25", "recency", "random"]), st.integers(1, 5))
def test_later_items_never_change_what_is_retrieved(past, future, retriever, k):
    items = [item(n, " ".join(doc), f"2020-{1 + n // 28:02d}-{1 + n % 28:02d}") for n, doc in enumerate(past + future)]
    short, long = History(items[: len(past)], TASK, "p"), History(items, TASK, "p")
    for position in range(len(past)):
        found = long.for_item(position, k, retriever)
        assert found == short.for_item(position, k, retriever)
        alone = History(items[:position], TASK, "p")
        text = TASK.retrieval_query(items[position])
        assert found == alone.retrieve(text, k, retriever, seed=(0, "p", items[position].id))


@given(st.permutations(range(12)), st.sampled_from(["bm25", "recency", "random"]), st.integers(1, 20))
def test_only_earlier_items_and_never_itself(order, retriever, k):
    items = numbered(12)
    history = History([items[n] for n in order], TASK, "p")
    assert list(history.items) == items
    for position in range(12):
        found = history.for_item(position, k, retriever)
        assert len(found) == min(k, position)
        assert len({i.id for i in found}) == len(found)
        assert all(i in items[:position] for i in found)


def test_items_of_one_day_are_ordered_by_arrival_and_undated_ones_come_first():
    items = [item(0, "a", "2020-01-02"), item(1, "b", "2020-01-02"), item(2, "c"), item(3, "d", "2019")]
    assert [i.id for i in History(items, TASK).items] == ["i2", "i3", "i0", "i1"]


def test_never_an_item_of_the_same_id():
    items = [item(0, "rain", "2020-01-01", id="x"), item(1, "rain", "2020-01-02"), item(2, "rain", "2020-01-03", id="x")]
    history = History(items, TASK)
    assert [i.id for i in history.for_item(2, 5, "bm25")] == ["i1"]
    query = Query("x", TASK.query_input("rain"))
    assert [i.id for i in history.for_query(query, 5, "recency")] == ["i1"]


def test_most_relevant_first_and_ties_newest_first():
    texts = ["snow and ice", "rain", "sun", "sun", "rain rain rain and more rain"]
    history = History([item(n, text, f"2020-01-0{n + 1}") for n, text in enumerate(texts)], TASK)
    found = history.retrieve("Rain!", 5, "bm25")
    assert [i.id for i in found] == ["i4", "i1", "i3", "i2", "i0"]


def test_recency_is_newest_first():
    history = History(numbered(6), TASK)
    assert [i.id for i in history.for_item(4, 3, "recency")] == ["i3", "i2", "i1"]


def test_random_depends_on_seed_person_and_item_only():
    def drawn(person="p", seed=0, position=11, n=12):
        return [i.id for i in History(numbered(n), TASK, person).for_item(position, 5, "random", seed)]

    assert drawn() == drawn() == drawn(n=20)
    assert len({tuple(drawn(person, seed)) for person in "pqr" for seed in (0, 1)}) == 6


def test_none_and_nothing():
    history = History(numbered(5), TASK)
    assert history.for_item(4, 3, "none") == history.for_item(0, 3, "bm25") == history.for_item(4, 0, "bm25") == ()
    assert History([], TASK).retrieve("x", 3, "bm25") == ()
    with pytest.raises(ConfigError, match=r"'dense'.*bm25"):
        history.for_item(4, 3, "dense")  # type: ignore[arg-type]


def test_words_are_lower_cased_runs():
    assert words("Don't PANIC, Zoë—42!") == ["don", "t", "panic", "zoë", "42"]


def test_examples_of_a_history_see_the_past_only():
    person = Person("p", tuple(numbered(5)), (Query("q", TASK.query_input("w1 w2"), "t"),))
    first, *_, last = history_examples(person, TASK, retriever="bm25", k=2, profile="terse")
    assert first.retrieved == ()
    assert len(last.retrieved) == 2
    assert TASK.document(person.history[4]) not in last.retrieved
    assert first.profile == "terse"
    (asked,) = query_examples(person, TASK, retriever="recency", k=1)
    assert asked.retrieved == (TASK.document(person.history[4]),)
    assert asked.target == "t"


def test_unpaired_tasks_retrieve_for_queries_but_not_for_items():
    tweets = TASKS["LaMP-7"]
    person = Person("p", (Item("a", {"text": "one"}), Item("b", {"text": "two"})), (Query("q", tweets.query_input("one")),))
    assert all(example.retrieved == () for example in history_examples(person, tweets, retriever="bm25", k=1))
    (asked,) = query_examples(person, tweets, retriever="bm25", k=1)
    assert asked.retrieved == ("tweet: one",)
