"""What most people say, as the baseline of a player's own model."""

from __future__ import annotations

from idiolect.game.population import counted, crowd, likely_first, likely_list, likely_verdict
from idiolect.store.game.reading import Votes
from idiolect.store.game.records import Given

OTHERS = crowd(Given(5, 9, {"wheel": 5, "seat": 3, "bell": 1, "arm": 1}, {"soul": 9}))


def test_lists_are_the_most_frequent_answers_as_many_as_people_give():
    assert OTHERS.ranked == ["wheel", "seat", "arm", "bell"]
    assert likely_list(OTHERS) == ["wheel", "seat"]
    assert likely_list(crowd(Given(5, 0, {"wheel": 1}, {}))) == ["wheel"]
    assert likely_list(crowd(Given(0, 0, {}, {}))) == []


def test_the_first_is_the_most_frequent_candidate():
    assert likely_first(["soul", "bell", "seat"], OTHERS) == "seat"
    assert likely_first(["z", "bell", "arm"], OTHERS) == "arm"


def test_simulated_players_fill_in_while_real_ones_are_few():
    few = crowd(Given(4, 2, {"wheel": 4}, {"wheel": 1, "soul": 2}))
    assert (few.n, few.given, few.simulated) == (6, {"wheel": 5, "soul": 2}, True)
    assert not OTHERS.simulated
    assert OTHERS.share("soul") == 0
    assert counted(Votes(1, 3, 9, 0)) == (10, 3)
    assert counted(Votes(2, 3, 9, 0)) == (2, 3)


def test_verdicts_are_the_majoritys_then_what_was_given_then_the_relations():
    assert likely_verdict((1, 2), OTHERS, "wheel", (9, 0)) == "no"
    assert likely_verdict((0, 0), OTHERS, "wheel", (0, 9)) == "yes"
    assert likely_verdict((2, 2), OTHERS, "soul", (3, 4)) == "no"
    assert likely_verdict((0, 0), OTHERS, "soul", (0, 0)) == "yes"
