"""What a round of Nym or Not is mixed of."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolect.game.mixing import FIRST_JUDGED, Item, Pool, mix

LIKELY = {"game": 0.7, "model": 0.6, "seed": 0.9, "distractor": 0.05, "gold_pos": 1.0, "gold_neg": 0.0}
KINDS: tuple[Pool, ...] = ("game", "model", "seed", "distractor", "gold_pos", "gold_neg")


def pools(**sizes: int) -> dict[Pool, list[Item]]:
    return {kind: [Item(n, kind, kind, kind, LIKELY[kind]) for n in range(sizes.get(kind, 0))] for kind in KINDS}


PLENTY = pools(**dict.fromkeys(KINDS, 60))


@pytest.mark.parametrize(("n_judged", "share"), [(0, 0.25), (FIRST_JUDGED - 1, 0.25), (FIRST_JUDGED, 0.1), (900, 0.1)])
def test_gold_is_a_quarter_of_the_first_120_and_then_a_tenth(n_judged, share):
    rng = Random(1)
    rounds = [mix(PLENTY, n_judged, rng) for _ in range(400)]
    assert {len(items) for items in rounds} == {25}
    gold = [sum(item.is_gold for item in items) for items in rounds]
    assert {min(gold), max(gold)} == {int(25 * share), int(25 * share) + 1}
    assert sum(gold) / (400 * 25) == pytest.approx(share, abs=0.003)
    sides = Counter(item.kind for items in rounds for item in items if item.is_gold)
    assert sides["gold_pos"] / sum(sides.values()) == pytest.approx(0.5, abs=0.02)


def test_the_rest_is_40_30_15_before_the_balance_is_made():
    level = {kind: [Item(i.prompt, i.key, i.display, i.kind, 0.5) for i in PLENTY[kind]] for kind in KINDS}
    rng = Random(2)
    kinds = Counter(item.kind for _ in range(300) for item in mix(level, 0, rng))
    rest = {
        kind: kinds[kind] / sum(kinds[k] for k in ("game", "model", "distractor")) for kind in ("game", "model", "distractor")
    }
    assert rest["game"] == pytest.approx(40 / 85, abs=0.03)
    assert rest["model"] == pytest.approx(30 / 85, abs=0.03)
    assert rest["distractor"] == pytest.approx(15 / 85, abs=0.03)
    assert not kinds["seed"]


def test_where_there_is_no_model_seeds_and_players_pairs_stand_in():
    items = mix(pools(game=60, seed=60, distractor=60, gold_pos=9, gold_neg=9), 0, Random(3))
    assert len(items) == 25
    assert not [item for item in items if item.kind == "model"]


@given(st.fixed_dictionaries({kind: st.integers(0, 30) for kind in KINDS}), st.integers(0, 200), st.integers(0, 10**6))
def test_no_pair_twice_and_none_of_nothing(sizes, n_judged, seed):
    items = mix(pools(**sizes), n_judged, Random(seed))
    assert len({item.pair for item in items}) == len(items) <= 25
    n_gold = sum(item.is_gold for item in items)
    assert n_gold <= 7
    rest = [item for item in items if not item.is_gold]
    share = sum(item.p_yes for item in items) / len(items) if items else 0.5
    assert 0.4 <= share <= 0.6 or not [item for item in rest if (item.p_yes > 0.5) == (share > 0.5)]


def test_where_nothing_is_wrong_a_round_is_shorter():
    items = mix(pools(seed=60, gold_pos=9, gold_neg=9), 0, Random(3))
    assert 5 <= len(items) < 12
    assert 0.4 <= sum(item.p_yes for item in items) / len(items) <= 0.6


@given(st.integers(0, 300), st.integers(0, 10**6), st.booleans())
def test_between_40_and_60_percent_are_expected_to_hold(n_judged, seed, with_model):
    sizes = dict.fromkeys(KINDS, 40) | ({} if with_model else {"model": 0})
    items = mix(pools(**sizes), n_judged, Random(seed))
    assert 0.4 <= sum(item.p_yes for item in items) / len(items) <= 0.6


def test_players_pairs_give_way_last():
    """Where too much is right, seeds make room for distractors, not what players wrote."""
    sure = pools(game=8, seed=60, distractor=60)
    sure["game"] = [Item(i.prompt, i.key, i.display, i.kind, 0.95) for i in sure["game"]]
    items = mix(sure, 0, Random(4))
    assert sum(item.kind == "game" for item in items) == 8


def test_the_order_tells_nothing():
    firsts = Counter(mix(PLENTY, 0, Random(seed))[0].kind for seed in range(400))
    assert firsts["gold_pos"] + firsts["gold_neg"] == pytest.approx(100, abs=35)
