"""Whether players answer like themselves."""

from __future__ import annotations

import random
from typing import Any

import pytest
from reading_making import DAY, NOON, WORDS, Crowd, blobs, kind, location, postgres_socket, shared_database, store  # noqa: F401

from idiolect.game.retest import Retest, by_mode, document, find, likeness

BIKE, BIRD = "mero:bicycle", "hypo:bird"


@pytest.fixture
def crowd(store: Any) -> Crowd:  # noqa: F811
    return Crowd(store)


def many(gain: float, n_players: int = 12, n_words: int = 6) -> list[Retest]:
    rng = random.Random(7)
    return [
        Retest(f"p{player}", f"hypo:w{word}", "classic", min(1, max(0, 0.4 + gain + rng.gauss(0, 0.1))), 0.4)
        for player in range(n_players)
        for word in range(n_words)
    ]


def test_a_players_second_round_is_held_against_others_first_ones(crowd: Crowd) -> None:
    ana, ben, cal = crowd.players(3)
    crowd.round(ana, BIKE, ["wheel", "bell"], at=NOON)
    crowd.round(ben, BIKE, ["wheel", "seat"])
    crowd.round(cal, BIKE, ["chain", "seat"])
    crowd.round(ben, BIKE, ["bell"], repeat=True)  # too soon, and no first round of anybody
    crowd.round(ana, BIKE, ["wheel", "bell", "seat"], repeat=True, at=NOON + 8 * DAY)
    crowd.round(ana, BIKE, ["soul"], repeat=True, at=NOON + 16 * DAY)  # the second repeat says nothing new
    (one,) = find(crowd.store.game)
    assert (one.player, one.prompt, one.mode) == ("p0", BIKE, "classic")
    assert one.within == pytest.approx(2 / 3)
    assert one.between == pytest.approx((1 / 3 + 0) / 2)
    assert find(crowd.store.game, player=ana.key) == [one]
    assert find(crowd.store.game, player=cal.key) == []


def test_real_and_simulated_players_are_not_mixed(crowd: Crowd) -> None:
    real, sims = crowd.players(2), crowd.players(2, "s", "simulated")
    for n, player in enumerate([*real, *sims]):
        crowd.round(player, BIKE, ["wheel", f"word{n}"], at=NOON + n)
    for player in (real[0], sims[0]):
        crowd.round(player, BIKE, ["wheel"], repeat=True, at=NOON + 9 * DAY)
    assert [one.player for one in find(crowd.store.game)] == ["p0"]
    assert [one.player for one in find(crowd.store.game, simulated=True)] == ["s0"]
    assert [one.player for one in find(crowd.store.game, player=sims[0].key)] == ["s0"]


def test_modes_are_kept_apart(crowd: Crowd) -> None:
    ana, ben = crowd.players(2)
    crowd.round(ana, BIKE, ["wheel"], mode="my_view", at=NOON)
    crowd.round(ben, BIKE, ["wheel"])
    crowd.round(ana, BIKE, ["wheel"], mode="my_view", repeat=True, at=NOON + 8 * DAY)
    assert find(crowd.store.game) == []  # nobody else played it in this mode
    crowd.round(ben, BIRD, ["eagle"], mode="my_view")
    crowd.round(ana, BIRD, ["eagle", "robin"], mode="my_view")
    crowd.round(ana, BIRD, ["robin"], repeat=True, at=NOON + 20 * DAY)
    (one,) = find(crowd.store.game)
    assert (one.mode, one.within, one.between) == ("mixed", 0.5, 0.5)


def test_a_clear_difference_is_called_one_and_a_small_one_is_not() -> None:
    clear, none = likeness(many(0.2)), likeness(many(0.0))
    assert clear is not None
    assert none is not None
    assert clear.clear
    assert clear.low is not None
    assert clear.low > 0.1
    assert clear.verdict().startswith("Players answer like themselves: S_w - S_b is +0.193 (95 % interval +0.1")
    assert not none.clear
    assert none.verdict().startswith("No personal signal is shown")
    sure_but_small = likeness(many(0.03, n_players=200))
    assert sure_but_small is not None
    assert sure_but_small.low is not None
    assert sure_but_small.low > 0
    assert not sure_but_small.clear


def test_each_player_counts_once() -> None:
    retests = [Retest("a", f"w{n}", "classic", 1.0, 0.0) for n in range(9)] + [Retest("b", "w0", "classic", 0.0, 0.0)]
    whole = likeness(retests)
    assert whole is not None
    assert (whole.within, whole.n_pairs, whole.n_players) == (0.5, 10, 2)


def test_one_player_is_judged_by_words_and_one_word_by_nothing() -> None:
    alone = likeness(many(0.2, n_players=1, n_words=10))
    assert alone is not None
    assert alone.clear
    one = likeness(many(0.2, n_players=1, n_words=1))
    assert one is not None
    assert (one.low, one.clear) == (None, False)
    assert one.verdict().startswith("Too little to tell")
    assert likeness([]) is None


def test_the_report_says_the_same_again_with_the_same_seed() -> None:
    retests = [*many(0.2), Retest("p0", "w", "my_view", 0.9, 0.1), Retest("p1", "w", "my_view", 0.8, 0.1)]
    assert document(retests, 3) == document(retests, 3)
    assert set(by_mode(retests)) == {"classic", "my_view"}
    assert document([])["all"] is None
    assert document([])["modes"] == {}
