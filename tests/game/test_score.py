"""Scoring: the worked example, each rule at its borders, and the laws."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolect.game.normalise import Question, normalise
from idiolect.game.score import (
    Agreement,
    PlayedRound,
    Vote,
    agreement,
    may_skip,
    score_judgement,
    score_round,
    settle,
)
from idiolect.game.vocabulary import vocabulary

KEYS = ("wheel", "seat", "chain", "bell", "spoke", "pedal")
players = st.sampled_from([f"p{n}" for n in range(9)])
played_rounds = st.builds(
    PlayedRound,
    player=players,
    keys=st.frozensets(st.sampled_from(KEYS), max_size=4),
    closed_at=st.integers(0, 50).map(float),
    mode=st.sampled_from(["classic", "fresh", "my_view"]),
    trust=st.sampled_from([0.2, 0.5, 0.8]),
    repeat=st.booleans(),
)
histories = st.lists(played_rounds, max_size=14)


def crowd(n_others: int, **given: int) -> list[PlayedRound]:
    """So many others, of whom the first n gave a key; one key more, so that nobody is without an answer."""
    return [
        PlayedRound(f"p{i}", frozenset(key for key, n in given.items() if i < n) | {"other"}, float(i)) for i in range(n_others)
    ]


def test_worked_example():
    """Meronyms of bicycle, eight others, eleven rounds: 150 + 75 + 50 = 275."""
    question, lexicon, keys, statuses = Question("mero", "bicycle", "n"), vocabulary().lexicon, [], []
    for text in ("Wheels", "the seat", "wheel", "bicycle", "spokes", "soul"):
        reading = normalise(text, question, lexicon, earlier=keys)
        statuses.append(reading.status)
        keys += [reading.key] if reading.status == "accepted" else []
    assert statuses == ["accepted", "accepted", "duplicate", "echo", "accepted", "accepted"]

    others = agreement(crowd(8, wheel=8, seat=6, chain=5, bell=1), "me")
    score = score_round(keys, others, seeds={"wheel", "chain", "spoke"}, n_closed=11)
    assert [(a.key, a.agree, a.seed, a.points) for a in score.answers] == [
        ("wheel", 100, 50, 150), ("seat", 75, 0, 75), ("spoke", 0, 50, 50), ("soul", 0, 0, 0),
    ]  # fmt: skip
    assert (score.bonus, score.total, score.provisional) == (0, 275, False)


@pytest.mark.parametrize(("n", "n_others", "points"), [(1, 8, 13), (1, 6, 17), (3, 8, 38), (1, 200, 1), (5, 5, 100), (4, 4, 0)])
def test_agreement_is_rounded_half_up_from_five_others_on(n, n_others, points):
    assert Agreement(n_others, {"wheel": n}).points("wheel") == points


def test_only_trusted_first_rounds_with_answers_count():
    rounds = [
        PlayedRound("ana", frozenset({"seat"}), 2.0),
        PlayedRound("ana", frozenset({"wheel"}), 1.0),
        PlayedRound("ben", frozenset(), 1.0),
        PlayedRound("ben", frozenset({"wheel"}), 2.0, mode="fresh"),
        PlayedRound("cem", frozenset({"wheel"}), 1.0, trust=0.49),
        PlayedRound("dov", frozenset({"wheel"}), 1.0, mode="my_view"),
        PlayedRound("eva", frozenset({"wheel"}), 1.0, repeat=True),
        PlayedRound("me", frozenset({"wheel"}), 1.0),
    ]
    assert agreement(rounds, "me") == Agreement(2, {"wheel": 2})


def test_at_most_four_seeds_that_nobody_else_gave():
    seeds = [f"s{n}" for n in range(6)]
    score = score_round([*seeds, "wheel"], Agreement(5, {"wheel": 5}), seeds={*seeds, "wheel"}, n_closed=9)
    assert [a.seed for a in score.answers] == [50, 50, 50, 50, 0, 0, 50]
    assert score.total == 4 * 50 + 150


def test_rare_gem_needs_twenty_others_and_a_validated_pair():
    def rare(n: int, n_others: int, validated: set[str]) -> int:
        return (
            score_round(["bell"], Agreement(n_others, {"bell": n}), seeds=(), n_closed=9, validated=validated).answers[0].rare
        )

    assert rare(1, 20, {"bell"}) == rare(0, 20, {"bell"}) == 30
    assert rare(2, 20, {"bell"}) == rare(1, 19, {"bell"}) == rare(1, 20, set()) == 0
    assert rare(2, 40, {"bell"}) == 30


def test_only_the_first_twelve_answers_score():
    keys = [f"k{n}" for n in range(14)]
    score = score_round(keys, Agreement(5, dict.fromkeys(keys, 5)), seeds=(), n_closed=9)
    assert [a.points for a in score.answers] == [100] * 12 + [0, 0]


@pytest.mark.parametrize(("keys", "n_closed", "bonus"), [(["x"], 0, 40), (["x"], 4, 40), (["x"], 5, 0), ([], 0, 0)])
def test_pioneers_are_the_first_five_rounds_with_an_answer(keys, n_closed, bonus):
    assert score_round(keys, Agreement(0, {}), seeds=(), n_closed=n_closed).bonus == bonus


def test_taboo_answers_score_nothing_and_leave_the_seeds_of_others():
    others = agreement(crowd(20, wheel=20, seat=10, chain=9), "me")
    assert others.taboo() == {"wheel", "seat", "other"}
    assert agreement(crowd(19, wheel=19), "me").taboo() == frozenset()
    score = score_round(
        ["wheel", "chain"], others, seeds={"wheel", "chain"}, n_closed=20, mode="fresh", unscored=others.taboo()
    )
    assert [a.points for a in score.answers] == [0, 45 + 50]


def test_my_view_is_twenty_points_flat():
    others = agreement(crowd(8, wheel=8), "me")
    score = score_round(["wheel", "soul"], others, seeds={"wheel"}, n_closed=0, mode="my_view")
    assert (score.total, score.provisional) == (20, False)
    assert score_round([], others, seeds=(), n_closed=0, mode="my_view").total == 0


def test_a_provisional_round_is_settled_by_the_fifth_other():
    def scored(n_others: int):
        return score_round(["wheel", "soul"], agreement(crowd(n_others, wheel=2), "me"), seeds={"soul"}, n_closed=1)

    first = scored(1)
    assert (first.provisional, first.total) == (True, 50 + 40)
    assert settle(first, scored(4), crowd(4, wheel=2), "me") is None
    settlement = settle(first, scored(5), crowd(5, wheel=2), "me")
    assert settlement is not None
    assert (settlement.final, settlement.gained, settlement.n_agreed) == (50 + 40 + 40, 40, 2)
    assert settle(scored(5), scored(6), crowd(6, wheel=2), "me") is None


def test_settling_never_takes_points_away():
    before = score_round(["soul"], Agreement(0, {}), seeds={"soul"}, n_closed=0)
    after = score_round(["soul"], Agreement(5, {}), seeds=(), n_closed=0)
    settlement = settle(before, after, crowd(5), "me")
    assert settlement is not None
    assert (settlement.final, settlement.gained, settlement.n_agreed) == (before.total, 0, 0)


def test_a_round_is_skipped_before_its_first_answer_only():
    assert may_skip(0, closed=False)
    assert not may_skip(1, closed=False)
    assert not may_skip(0, closed=True)


def test_judgements_follow_the_others_weighted_majority():
    votes = [Vote("a", "yes", 0.9), Vote("b", "no", 0.6), Vote("c", "no", 0.4), Vote("d", "unsure"), Vote("me", "no", 0.9)]
    assert score_judgement("yes", "me", votes).points == 7
    assert score_judgement("no", "me", votes).points == 0
    assert score_judgement("unsure", "me", votes).points == 0


def test_judgements_without_a_majority_are_provisional_until_five_votes():
    tie = [Vote("a", "yes"), Vote("b", "no")]
    for votes in ([], [Vote("me", "no")], tie):
        score = score_judgement("yes", "me", votes)
        assert (score.points, score.provisional) == (7, True)
    six = [Vote(f"v{n}", "yes" if n % 2 else "no") for n in range(6)]
    assert not score_judgement("yes", "me", six).provisional


def test_gold_outvotes_everybody():
    votes = [Vote(f"v{n}", "yes") for n in range(9)]
    assert score_judgement("no", "me", votes, gold="no").points == 7
    assert score_judgement("yes", "me", votes, gold="no").points == 0
    assert score_judgement("unsure", "me", votes, gold="no").points == 0


@given(histories, st.randoms(use_true_random=False))
def test_order_of_others_is_irrelevant(rounds, random):
    shuffled = random.sample(rounds, len(rounds))
    assert agreement(shuffled, "me") == agreement(rounds, "me")


@given(st.lists(st.builds(Vote, players, st.sampled_from(["yes", "no", "unsure"]), st.floats(0, 1)), max_size=9), st.data())
def test_order_of_votes_is_irrelevant(votes, data):
    shuffled = data.draw(st.permutations(votes))
    assert score_judgement("yes", "me", shuffled) == score_judgement("yes", "me", votes)


@given(histories, histories)
def test_own_history_never_changes_own_agreement(rounds, own):
    mine = [PlayedRound("me", r.keys, r.closed_at, r.mode, r.trust, r.repeat) for r in own]
    assert agreement([*rounds, *mine], "me") == agreement(rounds, "me")


@given(histories, played_rounds, st.sampled_from(KEYS))
def test_one_more_who_did_not_give_it_never_raises_agreement(rounds, further, key):
    rounds = [*rounds, *crowd(5)]
    before = agreement(rounds, "me")
    assert before.n_others >= 5
    newcomer = PlayedRound("new", further.keys - {key}, further.closed_at, further.mode, further.trust, further.repeat)
    assert agreement([*rounds, newcomer], "me").points(key) <= before.points(key)


@given(histories, st.lists(st.sampled_from(KEYS), unique=True), st.frozensets(st.sampled_from(KEYS)), st.integers(0, 9))
def test_points_are_whole_numbers_within_their_bounds(rounds, keys, seeds, n_closed):
    score = score_round(keys, agreement(rounds, "me"), seeds=seeds, n_closed=n_closed, validated=KEYS)
    assert all(isinstance(a.points, int) and 0 <= a.points <= 180 for a in score.answers)
    assert score.total == sum(a.points for a in score.answers) + score.bonus
