"""What a player typed → what the game makes of it: a status, the text that is shown, and the key that is counted.

    typed ──fold──▶ display ──▶ too long? malformed? ──key_of──▶ key ──▶ echo? blocked? hidden? duplicate? ──▶ accepted

Two answers are the same answer if their keys are equal. Keys are singular nouns by WordNet's morphology, not stems: a stemmer
takes universe for university, and foot and feet for two things. Keys are fixed points: the key of a key is itself.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from idiolect.game.lexicon import Lexicon, Severity, key_form

Relation = Literal["syn", "ant", "hypo", "mero"]
RELATIONS: tuple[Relation, ...] = ("syn", "ant", "hypo", "mero")

Status = Literal["accepted", "ignored", "too_long", "malformed", "echo", "blocked", "hidden", "duplicate"]

MAX_CHARS, MAX_TOKENS = 50, 5

_SAME_MARK = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "–": "-", "—": "-"})
_PUNCTUATION = "'-&."
# Ignorable, yet marks or letters by category: joiners, fillers, variation selectors.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_FUNCTION_WORDS = re.compile(
    r"(?:(?:a|an|the|some|any|my|your|his|her|its|our|their)|(?:kind|type|sort|part)s? of)(?: |$)",
)


@dataclass(frozen=True)
class Question:
    """What an answer is read against: a relation, and a base word as a key.

    `pos` is the base word's part of speech: n, v, a or r. Parts and kinds are of nouns.
    """

    relation: Relation
    key: str
    pos: str

    @property
    def of_nouns(self) -> bool:
        return self.relation in ("hypo", "mero") or self.pos == "n"


@dataclass(frozen=True)
class Reading:
    """What became of one answer.

    Attributes:
        display: the folded text, "" if nothing was typed. Shown to others only once moderation allows it.
        key: what is counted; "" where the answer has none (ignored, too long, malformed).
        oov: accepted, and neither in WordNet nor validated before.
        review: accepted, and to be seen by a moderator before anybody else sees it.
    """

    status: Status
    display: str
    key: str = ""
    oov: bool = False
    review: bool = False


def normalise(
    text: str, question: Question, lexicon: Lexicon, *, earlier: Collection[str] = (), validated: Collection[str] = ()
) -> Reading:
    """Read one answer.

    Args:
        earlier: keys of this round so far; the first of equal ones is kept.
        validated: keys that the question's pairs were validated with; they are not `oov`.
    """
    display = fold(text)
    if not display:
        return Reading("ignored", display)
    if _is_too_long(display):
        return Reading("too_long", display)
    key = key_of(display, lexicon, of_nouns=question.of_nouns) if all(map(_allowed, display)) else ""
    if not key:
        return Reading("malformed", display)
    # Hyphens have become spaces, and a plural may be shorter than its singular.
    if _is_too_long(key):
        return Reading("too_long", display)
    status = _status(key, question, lexicon, earlier)
    accepted = status == "accepted"
    return Reading(
        status,
        display,
        key,
        oov=accepted and key not in lexicon and key not in validated,
        review=accepted and _severity(key, lexicon) == "review",
    )


def _is_too_long(text: str) -> bool:
    return len(text) > MAX_CHARS or len(text.split(" ")) > MAX_TOKENS


def _status(key: str, question: Question, lexicon: Lexicon, earlier: Collection[str]) -> Status:
    if is_echo(key, question, lexicon):
        return "echo"
    severity = _severity(key, lexicon)
    if severity in ("slur", "vulgar"):
        return "blocked" if severity == "slur" else "hidden"
    return "duplicate" if key in earlier else "accepted"


def _severity(key: str, lexicon: Lexicon) -> Severity | None:
    """Of the key or its singular: questions that are not of nouns leave plurals as they are."""
    return lexicon.severity.get(key) or lexicon.severity.get(lexicon.singular(key))


def is_echo(key: str, question: Question, lexicon: Lexicon) -> bool:
    """Whether the key gives the base word back; for synonyms and antonyms, also any inflected form of it."""
    if key == question.key:
        return True
    return question.relation in ("syn", "ant") and lexicon.is_inflected(key, question.key, question.pos)


def fold(text: str) -> str:
    """NFKC, one kind of apostrophe and hyphen, no control or zero-width characters, single spaces, case folded.

    Each of these may undo another (a character that vanishes lets its neighbours join), so they are repeated until
    nothing changes; that is what makes it idempotent.
    """
    folded = _folded_once(text)
    while folded != text:
        text, folded = folded, _folded_once(folded)
    return folded


def _folded_once(text: str) -> str:
    # Before control characters go: a tab or a line break is white space.
    spaced = " ".join(unicodedata.normalize("NFKC", text).translate(_SAME_MARK).split())
    visible = "".join(c for c in spaced if unicodedata.category(c) not in ("Cc", "Cf"))
    return " ".join(_INVISIBLE.sub("", visible).split()).casefold()


def _allowed(character: str) -> bool:
    """Letters of any script with the marks that belong to them, digits, space, and `'-&.`."""
    return character in " " + _PUNCTUATION or unicodedata.category(character)[0] in "LM" or character.isdecimal()


def key_of(display: str, lexicon: Lexicon, *, of_nouns: bool) -> str:
    """The key of folded text: without leading function words and outer punctuation, in key form, and singular for nouns.

    Returns "" if no letter and no digit is left. Repeated until nothing changes: a hyphen that becomes a space may set an
    article free.
    """
    key, last = display, None
    while key != last:
        last, key = key, key_form(_stripped(key))
        key = lexicon.singular(key) if of_nouns and key else key
    return key if any(map(str.isalnum, key)) else ""


def _stripped(text: str) -> str:
    last = None
    while text != last:
        last, text = text, text.strip(_PUNCTUATION + " ")
        text = _FUNCTION_WORDS.sub("", text, count=1) if _FUNCTION_WORDS.match(text) else text
    return text


def did_you_mean(key: str, lexicon: Lexicon, expected: Collection[str] = ()) -> str | None:
    """One suggestion for a key outside the lexicon: an expected key one letter away if there is one, else the most frequent.

    It is offered after the round; nothing is corrected unless the player says so.
    """
    near = lexicon.near(key)
    return next((word for word in near if word in expected), near[0] if near else None)
