"""Reading answers, on the lexicon that ships."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from idiolect.game.lexicon import Lexicon
from idiolect.game.normalise import MAX_CHARS, MAX_TOKENS, RELATIONS, Question, did_you_mean, fold, key_of, normalise
from idiolect.game.vocabulary import vocabulary

BICYCLE = Question("mero", "bicycle", "n")
TREE = Question("mero", "tree", "n")
BIRD = Question("hypo", "bird", "n")
RUN = Question("syn", "run", "v")
BIG = Question("ant", "big", "a")

wordlike = st.text(alphabet="abeginorst '-&.", max_size=24)
function_words = st.sampled_from(["a", "the", "my", "kinds of", "part of", "-", "'s", "the-", "dogs", "men", "axes", "s"])
typed = st.one_of(st.text(max_size=20), wordlike, st.lists(function_words, max_size=6).map(" ".join))
questions = st.sampled_from([BICYCLE, BIRD, RUN, BIG])


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return vocabulary().lexicon


def key(text: str, question: Question = BICYCLE) -> str:
    reading = normalise(text, question, vocabulary().lexicon)
    assert reading.status == "accepted", reading
    return reading.key


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Wheels ", "wheel"), ("the Steering-Wheels", "steering wheel"), ("teeth", "tooth"), ("a piece of pie", "piece of pie"),
        ("buses", "bus"), ("bus", "bus"), ("gas", "gas"), ("news", "news"), ("glasses", "glasses"), ("pants", "pants"),
        ("ｃａｆé", "café"),
        ("knives", "knife"), ("feet", "foot"), ("children", "child"), ("mice", "mouse"), ("geese", "goose"), ("boss", "boss"),
        ("physics", "physics"), ("means", "means"), ("shorts", "shorts"), ("scissors", "scissors"), ("series", "series"),
        ("women", "woman"), ("firemen", "fireman"), ("boxes", "box"), ("churches", "church"), ("dishes", "dish"),
        ("cities", "city"), ("doses", "dose"), ("senses", "sense"), ("omen", "omen"),
        ("my dog's", "dog"), ("driver’s seat", "drivers seat"), ("o’clock", "o'clock"), ("U.S.", "us"),
        ("mothers-in-law", "mother in law"), ("part of an – 'engine'.", "engine"),
        ("the-wheel", "wheel"), ("Kinds of types of wheel", "wheel"), ("whe\u200bels", "wheel"), ("two\twheels\n", "two wheel"),
        ("STRASSE", "strasse"), ("Straße", "strasse"), ("колёса", "колёса"), ("पहिया", "पहिया"), ("7 gears", "7 gear"),
    ],
)  # fmt: skip
def test_key(text, expected):
    assert key(text) == expected


def test_leaf_of_a_tree():
    assert key("leaves", TREE) == "leaf"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("universities", "universe"), ("organ", "organization"), ("animal", "animate"), ("general", "generation"),
        ("past", "paste"),
    ],
)  # fmt: skip
def test_keys_that_a_stemmer_would_merge_are_distinct(one, other):
    assert key(one) != key(other)


@pytest.mark.parametrize(
    ("text", "question", "status"),
    [
        ("   ", BICYCLE, "ignored"), ("\u200b", BICYCLE, "ignored"), ("", BICYCLE, "ignored"),
        ("<script>", BICYCLE, "malformed"), ("the", BICYCLE, "malformed"), ("--", BICYCLE, "malformed"),
        ("kind of", BIRD, "malformed"), ("wheel; drop", BICYCLE, "malformed"), ("🚲", BICYCLE, "malformed"),
        ("x" * 51, BICYCLE, "too_long"), ("x" * 50, BICYCLE, "accepted"),
        ("one two three four five six", BICYCLE, "too_long"), ("one two three four five", BICYCLE, "accepted"),
        ("one-two-three-four-five-six", BICYCLE, "too_long"), ("x" * 45 + " mice", BICYCLE, "too_long"),
        ("kinds of bird", BIRD, "echo"), ("Birds", BIRD, "echo"), ("bicycle", BICYCLE, "echo"),
        ("running", RUN, "echo"), ("ran", RUN, "echo"), ("runs", RUN, "echo"), ("runner", RUN, "accepted"),
        ("bigger", BIG, "echo"), ("biggest", BIG, "echo"), ("bigot", BIG, "accepted"),
        ("running", BICYCLE, "accepted"),
    ],
)  # fmt: skip
def test_status(lexicon, text, question, status):
    reading = normalise(text, question, lexicon)
    assert reading.status == status
    assert bool(reading.key) == (status in ("accepted", "echo"))


def test_verbs_and_adjectives_keep_their_s(lexicon):
    assert key("leaves", RUN) == "leaves"
    assert key("leaves", Question("syn", "page", "n")) == "leaf"


@pytest.mark.parametrize("question", [BICYCLE, RUN])
def test_blocked_words_are_exact_keys(lexicon, question):
    for severity, status in (("slur", "blocked"), ("vulgar", "hidden"), ("review", "accepted")):
        listed = [k for k, found in lexicon.severity.items() if found == severity]
        readings = [normalise(k, question, lexicon) for k in listed]
        assert {r.status for r in readings} == {status}
        assert {r.review for r in readings} == {severity == "review"}
    assert key("Scunthorpe") == "scunthorpe"
    assert key("craps") == "craps"


def test_plurals_of_blocked_words_are_blocked(lexicon):
    words = [k for k, severity in lexicon.severity.items() if severity == "slur" and lexicon.singular(k + "s") == k]
    assert words
    for question in (BICYCLE, RUN):
        assert {normalise(word + "s", question, lexicon).status for word in words} == {"blocked"}


def test_a_second_time_is_a_duplicate(lexicon):
    assert normalise("Wheels", BICYCLE, lexicon, earlier={"wheel"}).status == "duplicate"
    assert normalise("Wheels", BICYCLE, lexicon, earlier={"seat"}).status == "accepted"


def test_oov_is_neither_in_wordnet_nor_validated(lexicon):
    assert not normalise("wheels", BICYCLE, lexicon).oov
    assert not normalise("the United States", BICYCLE, lexicon).oov
    assert normalise("dropper posts", BICYCLE, lexicon).oov
    assert not normalise("dropper posts", BICYCLE, lexicon, validated={"dropper post"}).oov


def test_suggestion_is_an_expected_word_first(lexicon):
    assert did_you_mean("xyzzyx", lexicon) is None
    assert did_you_mean("spokke", lexicon) == "spoke"
    assert did_you_mean("chajn", lexicon) == "chain"
    near = lexicon.near("bost")
    assert "boat" in near
    assert near[0] != "boat"
    assert did_you_mean("bost", lexicon, expected={"boat"}) == "boat"
    assert not {word for bad in lexicon.severity for word in lexicon.near(bad[:-1])} & lexicon.severity.keys()


@given(typed)
def test_fold_is_idempotent(text):
    assert fold(fold(text)) == fold(text)


@given(typed, st.booleans())
def test_key_of_a_key_is_itself(text, of_nouns):
    lexicon = vocabulary().lexicon
    found = key_of(fold(text), lexicon, of_nouns=of_nouns)
    assert key_of(fold(found), lexicon, of_nouns=of_nouns) == found


@given(typed, questions)
def test_normalising_is_idempotent(text, question):
    lexicon = vocabulary().lexicon
    first = normalise(text, question, lexicon)
    again = normalise(first.key or first.display, question, lexicon)
    assert (again.status, again.key, again.oov, again.review) == (first.status, first.key, first.oov, first.review)
    assert len(first.key) <= MAX_CHARS
    assert len(first.key.split(" ")) <= MAX_TOKENS


def test_irregular_forms_lead_nowhere_but_to_words_that_stay(lexicon):
    """A cycle among them would make a key that never comes to rest."""
    for form in lexicon.irregular["n"]:
        found = key_of(form, lexicon, of_nouns=True)
        assert key_of(found, lexicon, of_nouns=True) == found


def test_every_relation_has_its_nouns():
    assert {r: Question(r, "x", "v").of_nouns for r in RELATIONS} == {"syn": False, "ant": False, "hypo": True, "mero": True}
