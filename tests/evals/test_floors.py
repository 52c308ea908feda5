import gzip
import json
from pathlib import Path

import pytest

from idiolect.errors import EmptyHistory, LabelError
from idiolect.evals.floors import (
    floor_answers,
    floor_scores,
    global_majority,
    global_mean,
    global_median,
    majority,
    own_majority,
    own_mean,
    own_median,
)
from idiolect.evals.metrics import query_key

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def test_own_majority_breaks_ties_by_recency():
    assert own_majority(["a", "b", "b", "a", "c"]) == "a"
    assert own_majority(["a", "a", "b", "b", "c"]) == "b"
    assert own_majority(["a", "b", "b"]) == "b"


def test_own_mean_and_median_are_numbers_as_text():
    assert own_mean(["4", "3", "4"]) == "3.67"
    assert own_median(["4", "3"]) == "3.50"
    assert own_median(["1", "5", "5"]) == "5.00"


def test_global_floors_pool_items():
    assert global_majority([["a", "a", "a"], ["b", "b"]]) == "a"
    assert global_majority([["b"], ["a"]]) == "a"
    assert global_mean([["1", "1", "1"], ["5"]]) == "2.00"
    assert global_median([["1", "1", "2"], ["5"]]) == "1.50"


def test_the_majority_arm_by_kind():
    assert majority("label", ["a", "b", "b"]) == "b"
    assert majority("rating", ["1", "2"]) == "1.50"
    assert majority("text", ["words"]) is None
    assert floor_answers("text", {"u": ["words"]}) == {}


@pytest.mark.parametrize("rule", [own_majority, own_mean, own_median])
def test_an_empty_history_has_no_floor(rule):
    with pytest.raises(EmptyHistory):
        rule([])


def test_a_rating_that_is_no_number_is_refused():
    with pytest.raises(LabelError):
        own_mean(["4", "four"])


def real_people(name, n_people):
    """The most active people of a real set, ties by id: histories, golds and owners."""
    path = SHARED / name / "users.jsonl.gz"
    if not path.exists():
        pytest.skip(f"the shared data set {name} is not here")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        people = sorted(map(json.loads, lines), key=lambda person: (-len(person["profile"]), person["user_id"]))[:n_people]
    queries = [(query_key(p["user_id"], q["id"]), p["user_id"], q["gold"]) for p in people for q in p["query"]]
    return people, {key: gold for key, _, gold in queries}, {key: user for key, user, _ in queries}


def test_floors_of_real_authors():
    people, golds, owner = real_people("huffpost_lamp2n", 30)
    histories = {p["user_id"]: [item["lamp2n_category"] for item in p["profile"]] for p in people}
    labels = sorted(set(golds.values()).union(*histories.values()))
    floors = floor_scores("label", histories, golds, owner, labels)
    assert len(golds) == 346
    assert floors["own majority"]["accuracy"] == pytest.approx(0.668, abs=5e-4)
    assert floors["global majority"]["accuracy"] == pytest.approx(0.483, abs=5e-4)


def test_floors_of_real_raters():
    people, golds, owner = real_people("movielens_rating", 100)
    histories = {p["user_id"]: [item["score"] for item in p["profile"]] for p in people}
    floors = floor_scores("rating", histories, golds, owner)
    assert len(golds) == 1_983  # of 1,270 films: ids are unique within a person only
    expected = {"own mean": 0.753, "own median": 0.693, "global mean": 0.871, "global median": 0.779}
    assert {name: round(metrics["mae"], 3) for name, metrics in floors.items()} == expected
