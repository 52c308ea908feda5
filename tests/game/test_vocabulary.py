"""The words that ship, and the recipe that makes them where WordNet is installed."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from importlib.resources import files
from pathlib import Path

import pytest
from lexicon_making import NOT_INSTALLED, WORDNET, is_installed, recipe

from idiolect.game.normalise import RELATIONS, Question, normalise
from idiolect.game.vocabulary import COLUMNS, read_invariant, vocabulary

FOLDER = Path(str(files("idiolect") / "assets" / "vocabulary"))
DESCRIBED = json.loads((FOLDER / "vocabulary.json").read_text())
needs_wordnet = pytest.mark.skipif(not is_installed(), reason=NOT_INSTALLED)


def content(name: str) -> bytes:
    data = (FOLDER / name).read_bytes()
    return gzip.decompress(data) if name.endswith(".gz") else data


@pytest.mark.parametrize("relation", RELATIONS)
def test_three_hundred_base_words_for_each_relation(relation):
    words = vocabulary().of(relation)
    assert len(words) == len({word.key for word in words}) == DESCRIBED["base_words"][relation] == 300
    for word in words:
        assert re.fullmatch("[a-z]{3,15}", word.key)
        assert word.id == f"{relation}:{word.key}"
        assert vocabulary().find(relation, word.key) is word
        assert word.text.endswith(f": {word.display.upper()}")
        assert re.fullmatch(r"wn30:\d{8}-[nva]", word.sense)
        assert word.gloss
        assert word.concreteness in (("concrete", "abstract") if word.pos == "n" else ("",))
    assert (FOLDER / f"{relation}.tsv").read_text().splitlines()[0] == "\t".join(COLUMNS)


def test_parts_are_asked_of_concrete_things_only():
    assert {word.concreteness for word in vocabulary().of("mero")} == {"concrete"}


def test_no_base_word_is_offensive():
    severity = vocabulary().lexicon.severity
    assert len(severity) > 300
    assert [word.id for word in vocabulary().words.values() if word.key in severity] == []


def test_every_base_word_has_enough_seeds():
    """And every seed is what its own text reads as, is accepted, and is no form of the base word."""
    words = vocabulary()
    assert words.seeds.keys() == words.words.keys()
    least = {"syn": 2, "ant": 1, "hypo": 5, "mero": 3}
    for word in words.words.values():
        assert len(words.seeds[word.id]) >= least[word.relation], word.id
    assert sum(map(len, words.seeds.values())) == DESCRIBED["seeds"]


@pytest.mark.parametrize("relation", RELATIONS)
def test_seeds_are_keys_that_answers_get(relation):
    words = vocabulary()
    for word in words.of(relation)[::10]:
        for key in list(words.seeds[word.id])[:200]:
            reading = normalise(key, word, words.lexicon)
            assert (reading.status, reading.key, reading.oov) == ("accepted", key, False), (word.id, key)


def test_some_seeds_are_as_expected():
    words = vocabulary()
    for id, key in (
        ("hypo:bird", "eagle"), ("hypo:bird", "penguin"), ("mero:bicycle", "wheel"), ("mero:car", "bumper"),
        ("ant:hot", "cold"), ("syn:big", "large"),
    ):  # fmt: skip
        assert words.is_seed(words.words[id], key), (id, key)
    assert not words.is_seed(words.words["hypo:bird"], "wheel")
    assert words.seeds["ant:heavy"]["light"] == 1
    assert min(words.seeds["hypo:bird"].values()) == 1
    assert max(words.seeds["hypo:bird"].values()) <= 6


def test_checksums_are_true():
    made = {name: hashlib.sha256(content(name)).hexdigest() for name in DESCRIBED["sha256"]}
    assert made == DESCRIBED["sha256"]
    assert {p.name for p in FOLDER.iterdir()} == {
        *made, "vocabulary.json", "LICENSE-WordNet", "invariant.txt", "blocked.tsv", "gold.tsv",
    }  # fmt: skip


def test_notice_of_wordnet_is_there():
    notice = (FOLDER / "LICENSE-WordNet").read_text()
    assert "WordNet 3.0 Copyright 2006 by Princeton University" in notice
    assert "the same appear on ALL copies" in notice
    assert DESCRIBED["source"]["licence"] == "LICENSE-WordNet"


def test_package_data_is_small():
    assert sum(p.stat().st_size for p in FOLDER.iterdir()) < 2_000_000


def test_lists_kept_by_hand_are_in_key_form():
    invariant, severity = read_invariant(FOLDER), vocabulary().lexicon.severity
    assert len(invariant) >= 40
    assert {"glasses", "pants", "scissors", "clothes", "news", "series", "species", "goods", "customs"} <= invariant
    lines = [line for line in (FOLDER / "blocked.tsv").read_text().splitlines() if not line.startswith("#")]
    assert len(lines) == len(severity), "a key is listed twice"
    assert set(severity.values()) == {"slur", "vulgar", "review"}
    assert [key for key in severity if not re.fullmatch("[a-z]+( [a-z]+)*", key)] == []


@pytest.fixture(scope="module")
def wordnet():
    return recipe("wndb").read(WORDNET)


@needs_wordnet
def test_relations_of_wordnet_have_the_known_sizes(wordnet):
    """Known sizes: 6,501 antonym pairs and one more, 100,820 meronym pairs. Pairs of a word with itself, where two of its
    senses or two spellings meet, are in those figures, and are taken out after.
    """
    wndb = recipe("wndb")
    antonyms = wndb.direct_pairs(wordnet, wndb.ANTONYM, parts="nva")
    meronyms = wndb.direct_pairs(wordnet, *wndb.MERONYMS, parts="n")
    hyponyms = wndb.direct_pairs(wordnet, wndb.HYPONYM, parts="n")
    assert (len(antonyms), len(meronyms), len(hyponyms)) == (6_502, 100_820, 256_896)
    assert len({base for base, _ in meronyms}) == 19_126
    assert len({base for base, _ in hyponyms}) == 25_422
    pairs = [wndb.without_self(found) for found in (antonyms, meronyms, hyponyms)]
    assert [len(found) for found in pairs] == [6_501, 100_026, 256_881]
    synonyms = wndb.without_self(wndb.synonym_pairs(wordnet, parts="nva"))
    assert (len(synonyms), len({base for base, _ in synonyms})) == (298_306, 108_051)
    assert all(base != answer for found in (*pairs, synonyms) for base, answer in found)


@needs_wordnet
def test_synsets_of_wordnet_are_all_read(wordnet):
    counts = {pos: sum(place[0] == pos for place in wordnet.synsets) for pos in "nvar"}
    assert counts == {"n": 82_115, "v": 13_767, "a": 18_156, "r": 3_621}
    bicycle = wordnet.synsets[wordnet.senses["bicycle"]["n"][0]]
    assert bicycle.place == ("n", "02834778")
    assert bicycle.words == ("bicycle", "bike", "wheel", "cycle")
    assert wordnet.irregular["n"]["teeth"] == ("tooth",)


@needs_wordnet
def test_kinds_of_bird_in_depth(wordnet):
    """41 one step down and 1,734 in six, names among them."""
    build, wndb = recipe("build_vocabulary"), recipe("wndb")
    for depth, size in ((1, 41), (6, 1_734)):
        places = build.reach(wordnet, wordnet.senses["bird"]["n"], depth, wndb.HYPONYM)
        assert len({word.lower() for p, n in places.items() if n for word in wordnet.synsets[p].words}) == size


@needs_wordnet
def test_slurs_that_wordnet_marks_are_listed(wordnet):
    """Words of one sense whose only use is a slur or an obscenity, by WordNet's own usage pointers."""
    marked = set()
    for synset in wordnet.synsets.values():
        for p in synset.pointers:
            if p.symbol == ";u" and wordnet.synsets[p.to].words[0] in ("ethnic slur", "obscenity"):
                marked |= {w.lower() for w in (synset.words[p.source - 1 : p.source] if p.source else synset.words)}
    only = {lemma for lemma in marked if sum(map(len, wordnet.senses[lemma].values())) == 1} - {"irish bull"}
    lexicon = vocabulary().lexicon
    readings = {lemma: normalise(lemma, Question("syn", "base word", "n"), lexicon) for lemma in only}
    assert sorted(lemma for lemma, r in readings.items() if r.status == "accepted" and not r.review) == []
    assert len(only) > 30


@needs_wordnet
@pytest.mark.slow
def test_package_data_is_what_the_recipe_makes(wordnet, tmp_path):
    build = recipe("build_vocabulary")
    made = build.build(wordnet, FOLDER)
    assert {name: hashlib.sha256(text.encode()).hexdigest() for name, text in made.items()} == DESCRIBED["sha256"]
    assert build.describe(made, WORDNET) == (FOLDER / "vocabulary.json").read_text()
    assert build.notice(WORDNET) == (FOLDER / "LICENSE-WordNet").read_text()
    for folder in (tmp_path / "once", tmp_path / "twice"):
        folder.mkdir()
        build.write(made, folder)
    assert all((tmp_path / "once" / name).read_bytes() == (tmp_path / "twice" / name).read_bytes() for name in made)


def test_no_excluded_word_is_asked():
    excluded = recipe("vocabulary_review").EXCLUDED
    for relation in RELATIONS:
        words = excluded[relation].split()
        assert len(words) == len(set(words)) > 50
        assert not {word.key for word in vocabulary().of(relation)} & set(words)
