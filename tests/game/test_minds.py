"""Simulated minds: seeded, in time, each in its own way."""

from __future__ import annotations

from itertools import combinations, pairwise
from statistics import mean, median

import pytest

from idiolect.game.minds import Mind
from idiolect.game.normalise import normalise
from idiolect.game.trust import judging_patterns
from idiolect.game.vocabulary import vocabulary

WORDS = vocabulary()
SOME = [WORDS.words[id] for id in list(WORDS.words)[::60]]
ALL = ("honest", "spammer", "bot", "stylised")


def keys(mind: Mind, word, visit: int = 0) -> set[str]:
    found = {normalise(text, word, WORDS.lexicon).key for _, text in mind.answers(word, 15, visit)}
    return found - {""}


def alike(one: set[str], other: set[str]) -> float:
    return len(one & other) / len(one | other) if one | other else 1.0


@pytest.mark.parametrize("kind", ALL)
def test_a_mind_is_a_function_of_its_seed(kind):
    word = WORDS.words["mero:bicycle"]
    one, same, other = Mind(kind, 1, WORDS), Mind(kind, 1, WORDS), Mind(kind, 2, WORDS)
    assert one.answers(word, 20) == same.answers(word, 20) != other.answers(word, 20)
    pairs = [("mero", "car", f"k{n}", n % 2 == 0) for n in range(60)]
    said = [[mind.verdict(*pair) for pair in pairs] for mind in (one, same, other)]
    assert said[0] == said[1] != said[2]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("seconds", [0.01, 5, 20])
def test_answers_come_in_order_and_in_time(kind, seconds):
    for word in SOME:
        times = [ms for ms, _ in Mind(kind, 3, WORDS).answers(word, seconds)]
        assert times == sorted(times)
        assert all(0 < ms <= 1000 * seconds for ms in times)


def test_without_a_limit_more_comes_to_mind():
    word = WORDS.words["hypo:bird"]
    assert len(Mind("honest", 1, WORDS).answers(word, None)) > len(Mind("honest", 1, WORDS).answers(word, 6)) > 0


def test_honest_minds_give_seeds_and_the_noise_is_slips():
    clean, noisy = Mind("honest", 4, WORDS, noise=0.0), Mind("honest", 4, WORDS, noise=0.6)
    for word in SOME:
        assert {text for _, text in clean.answers(word, None)} <= WORDS.seeds[word.id].keys()
    texts = [text for word in SOME for _, text in noisy.answers(word, None)]
    assert 0.2 < mean(any(text in seeds for seeds in WORDS.seeds.values()) for text in texts) < 0.95
    assert any(text.startswith("the ") for text in texts)


def test_honest_minds_agree_with_each_other_and_spammers_with_nobody():
    honest = [Mind("honest", seed, WORDS) for seed in range(5)]
    spammers = [Mind("spammer", seed, WORDS) for seed in range(5)]

    def agreement(minds):
        return mean(alike(keys(a, word), keys(b, word)) for a, b in combinations(minds, 2) for word in SOME)

    assert agreement(honest) > 0.3
    assert agreement(spammers) < 0.02


def test_a_stylised_mind_is_more_like_itself_than_like_others():
    """What a personal model could learn: the difference of test–retest and of two players."""
    minds = [Mind("stylised", seed, WORDS) for seed in range(6)]
    within = mean(alike(keys(mind, word, 0), keys(mind, word, 1)) for mind in minds for word in SOME)
    between = mean(alike(keys(a, word), keys(b, word)) for a, b in combinations(minds, 2) for word in SOME)
    assert within > 0.55
    assert within - between > 0.2


def test_tastes_show():
    lengths = {
        mind.taste.length: mean(len(text) for word in SOME for text in mind.favourites(word)[6:10])
        for mind in (Mind("stylised", seed, WORDS, noise=0.0) for seed in range(20))
    }
    assert lengths[-1.5] < lengths[1.5] - 2


def test_a_bot_is_faster_than_hands_and_knows_the_alphabet():
    answers = Mind("bot", 5, WORDS).answers(WORDS.words["mero:bicycle"], 20)
    texts = [text for _, text in answers]
    assert len(texts) >= 6
    assert texts == sorted(texts)
    assert median(b - a for (a, _), (b, _) in pairwise(answers)) < 300
    times = [Mind("bot", 5, WORDS).verdict("mero", "car", f"k{n}", True) for n in range(20)]
    assert "fast" in judging_patterns(times)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.3])
def test_honest_judges_are_wrong_as_often_as_they_should(noise):
    mind = Mind("honest", 6, WORDS, noise)
    wrong = [
        mind.verdict("mero", "car", f"k{n}", truth)[0] != ("yes" if truth else "no")
        for n in range(2000)
        for truth in (True, False)
    ]
    assert mean(wrong) == pytest.approx(noise, abs=0.025)


def test_spammers_always_say_yes_or_throw_a_coin():
    yes, coin = Mind("spammer", 2, WORDS), Mind("spammer", 3, WORDS)
    assert (yes.always_yes, coin.always_yes) == (True, False)
    assert {yes.verdict("mero", "car", f"k{n}", False)[0] for n in range(50)} == {"yes"}
    assert mean(coin.verdict("mero", "car", f"k{n}", True)[0] == "yes" for n in range(1000)) == pytest.approx(0.5, abs=0.05)


def test_where_nobody_can_look_it_up_a_mind_goes_by_wordnet_and_its_leaning():
    honest, own = Mind("honest", 7, WORDS, noise=0.0), Mind("stylised", 7, WORDS, noise=0.0)
    assert honest.verdict("mero", "car", "wheel")[0] == "yes"
    unknown = [f"{letter}key{n}" for letter in "abcdefghijklmnopqrstuvwxyz" for n in range(10)]
    assert {honest.verdict("mero", "car", key)[0] for key in unknown} == {"no", "unsure"}
    assert {own.verdict("mero", "car", key)[0] for key in unknown} == {"yes", "no", "unsure"}
