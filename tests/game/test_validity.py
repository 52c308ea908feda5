"""Whether a pair holds, and how reliable judges are."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolect.game.reliability import dawid_skene, unreliable
from idiolect.game.validity import Tally

trusts = st.sampled_from([0.2, 0.49, 0.5, 0.7, 0.8, 0.97])
ballots = st.lists(st.tuples(st.sampled_from(["yes", "no", "unsure"]), trusts), max_size=12)


def test_four_at_first_trust_validate():
    four = Tally(votes=[("yes", 0.8)] * 4)
    assert four.p_valid == pytest.approx(4.2 / 5.2)
    assert (four.state, four.n_judges, four.yes_w, four.no_w) == ("validated", 4, pytest.approx(3.2), 0)
    assert Tally(votes=[("yes", 0.8)] * 3).state == "candidate"
    assert Tally(votes=[("yes", 1.0)] * 3).state == "validated"
    assert Tally(votes=[("yes", 1.0)] * 2).state == "candidate"


def test_five_judges_reject():
    assert Tally(votes=[("no", 0.8)] * 5).state == "rejected"
    assert Tally(votes=[("no", 1.0)] * 4).state == "candidate"
    assert Tally(votes=[("no", 0.5)] * 5).state == "candidate", "p_valid is 1/4.5"


@pytest.mark.parametrize(
    ("givers", "state"),
    [
        ([0.8] * 3, "validated"), ([0.8] * 2, "candidate"), ([0.66] * 3, "candidate"), ([0.67] * 3, "validated"),
        ([0.5] * 4, "validated"), ([0.5] * 3, "candidate"), ([0.8, 0.8, 0.49], "candidate"), ([], "candidate"),
    ],
)  # fmt: skip
def test_three_players_with_trust_of_two_validate(givers, state):
    assert Tally(givers).state == state


def test_what_decides_first():
    """A moderator, a challenge, votes against, and only then who gave it."""
    rejected = {"givers": [0.8] * 9, "votes": [("no", 0.8)] * 5}
    assert Tally(**rejected).state == "rejected"
    assert Tally(**rejected, challenged=True).state == "validated"
    assert Tally(**rejected, challenged=True, blocked=True).state == "blocked"


@given(ballots)
def test_votes_without_trust_and_unsure_ones_change_nothing(votes):
    kept = [(verdict, trust) for verdict, trust in votes if trust >= 0.5 and verdict != "unsure"]
    one, other = Tally(votes=votes), Tally(votes=kept)
    assert (one.state, one.p_valid, one.n_judges) == (other.state, other.p_valid, other.n_judges)


@given(ballots, st.lists(trusts, max_size=5), st.randoms(use_true_random=False))
def test_the_order_of_votes_changes_nothing(votes, givers, rng):
    tally = Tally(givers, votes)
    shuffled = Tally(rng.sample(givers, len(givers)), rng.sample(votes, len(votes)))
    assert (tally.state, tally.p_valid) == (shuffled.state, shuffled.p_valid)


@given(ballots, trusts)
def test_one_more_yes_never_lowers_and_one_more_no_never_raises_p_valid(votes, trust):
    before = Tally(votes=votes).p_valid
    assert Tally(votes=[*votes, ("yes", trust)]).p_valid >= before >= Tally(votes=[*votes, ("no", trust)]).p_valid


# ----------------------------------------------------------------------------------------------------------- reliability


def crowd(seed: int, n_items: int = 300, skills: tuple[float, ...] = (0.9,) * 8 + (0.5,) * 2):
    """Votes of judges who are right so often, two thirds of them on each item."""
    rng = Random(seed)
    truth = [rng.random() < 0.6 for _ in range(n_items)]
    votes = [
        (judge, item, (rng.random() < skill) == truth[item])
        for item in range(n_items)
        for judge, skill in enumerate(skills)
        if rng.random() < 0.67
    ]
    return truth, votes, skills


def test_reliabilities_are_found_without_knowing_the_truth():
    truth, votes, skills = crowd(seed=5)
    judges, items, yes = zip(*votes, strict=True)
    known = dawid_skene(items, judges, yes)
    assert np.mean((known.p_true > 0.5) == np.array(truth)) > 0.98
    assert known.prior == pytest.approx(np.mean(truth), abs=0.03)
    for judge, skill in enumerate(skills):
        assert known.sensitivity[judge] == pytest.approx(skill, abs=0.09)
        assert known.specificity[judge] == pytest.approx(skill, abs=0.09)


def test_an_error_is_told_from_a_bias():
    """Whoever always says yes has full sensitivity and no specificity."""
    _, votes, _ = crowd(seed=6)
    votes += [(10, item, True) for item in range(300)]
    judges, items, yes = zip(*votes, strict=True)
    known = dawid_skene(items, judges, yes)
    assert known.sensitivity[10] > 0.97
    assert known.specificity[10] < 0.03


def test_it_is_better_than_the_majority_where_judges_differ():
    truth, votes, _ = crowd(seed=7, n_items=600, skills=(0.95, 0.95, 0.55, 0.55, 0.55, 0.55, 0.55))
    judges, items, yes = zip(*votes, strict=True)
    known = dawid_skene(items, judges, yes)
    share = np.bincount(items, np.array(yes, float), 600) / np.maximum(np.bincount(items, minlength=600), 1)
    right, by_majority = (known.p_true > 0.5) == np.array(truth), (share > 0.5) == np.array(truth)
    assert right.mean() > by_majority.mean() + 0.05


def test_unreliable_judges_are_named_the_worst_first():
    _, votes, _ = crowd(seed=8, skills=(0.9,) * 8 + (0.5, 0.2))
    rows = [(100 + judge, item // 50, f"k{item % 50}", "yes" if yes else "no") for judge, item, yes in votes]
    assert [judge.player for judge in unreliable(rows)] == [109, 108]
    assert unreliable(rows[:40]) == [], "too few votes each"
