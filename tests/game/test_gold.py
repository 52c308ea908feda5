"""Pairs whose verdict is known: the shipped ones, and what play makes."""

from __future__ import annotations

from collections import Counter

import pytest

from idiolect.errors import FileFormatError
from idiolect.game import gold
from idiolect.game.normalise import RELATIONS, normalise
from idiolect.game.vocabulary import vocabulary
from idiolect.store.game.records import PairRow, PromptRow

WORDS = vocabulary()


def test_200_pairs_as_many_right_as_wrong_in_each_relation():
    counts = Counter((pair.relation, pair.verdict) for pair in gold.gold())
    assert counts == {(relation, verdict): 25 for relation in RELATIONS for verdict in ("yes", "no")}
    assert len({(pair.prompt, pair.key) for pair in gold.gold()}) == 200


def test_gold_is_of_shipped_base_words_and_reads_as_itself():
    for pair in gold.gold():
        word = WORDS.words[pair.prompt]
        reading = normalise(pair.display, word, WORDS.lexicon)
        assert (reading.status, reading.key, reading.oov, reading.review) == ("accepted", pair.key, False, False), pair


def test_no_wrong_pair_is_known_to_wordnet_in_any_relation():
    wrong = [pair for pair in gold.gold() if pair.verdict == "no"]
    assert [pair for pair in wrong if gold.is_linked(WORDS.words[pair.prompt], pair.key, WORDS)] == []
    right = [pair for pair in gold.gold() if pair.verdict == "yes"]
    assert sum(WORDS.is_seed(WORDS.words[pair.prompt], pair.key) for pair in right) > 75


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("relation\tbase\tkey\tdisplay\n", "line 1"),
        ("relation\tbase\tkey\tdisplay\tverdict\nmero\tcar\twheel\twheel\n", "line 2"),
        ("relation\tbase\tkey\tdisplay\tverdict\nholo\tcar\twheel\twheel\tyes\n", "line 2"),
        ("relation\tbase\tkey\tdisplay\tverdict\nmero\tcar\twheel\twheel\tmaybe\n", "line 2"),
    ],
)
def test_a_broken_file_is_refused_by_line(tmp_path, text, place):
    (tmp_path / "gold.tsv").write_text(text)
    with pytest.raises(FileFormatError, match=place):
        gold.read_gold(tmp_path / "gold.tsv")


@pytest.mark.parametrize("relation", RELATIONS)
def test_far_answers_are_wrong_as_far_as_wordnet_knows_and_stay_the_same(relation):
    for word in WORDS.of(relation)[::25]:
        far = gold.far_answers(word, WORDS)
        assert far == gold.far_answers(word, WORDS)
        assert len(far) == len(set(far)) == gold.N_FAR, word.id
        for key in far:
            assert not gold.is_linked(word, key, WORDS)
            reading = normalise(key, word, WORDS.lexicon)
            assert (reading.status, reading.key) == ("accepted", key)


def test_known_seeds_are_near_and_frequent():
    bird = WORDS.words["hypo:bird"]
    known = gold.known_seeds(bird, WORDS, 12)
    assert "hen" in known
    assert all(WORDS.seeds[bird.id][key] <= 2 and WORDS.lexicon.tags[key] > 0 for key in known)


def test_linked_pairs_are_found_in_either_direction():
    assert gold.is_linked(WORDS.words["mero:car"], "wheel", WORDS)
    assert gold.is_linked(WORDS.words["mero:wheel"], "car", WORDS), "car has a wheel"
    assert not gold.is_linked(WORDS.words["mero:car"], "feather", WORDS)


def test_play_makes_gold_of_common_seeds_and_of_what_nobody_gave():
    prompt = PromptRow(7, "mero:car", "mero", 0, True, "active", 20, 20, 0.0, 0.0)

    def given(key: str) -> PairRow:
        return PairRow(1, 7, key, f"{key}s", 10, 0.0, "validated", None, False, False, False, 0.0, 0.0, 0, 0.5)

    right = list(gold.common_answers([given("bumper"), given("cupholder")], {7: prompt}, WORDS))
    assert right == [(7, gold.GoldPair("mero", "car", "bumper", "bumpers", "yes"))]
    wrong = list(gold.foreign_answers([prompt], WORDS))
    assert [(row, pair.verdict) for row, pair in wrong] == [(7, "no")] * gold.N_FAR
    assert [pair.key for _, pair in wrong] == gold.far_answers(WORDS.words["mero:car"], WORDS)
