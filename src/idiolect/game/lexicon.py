"""What the game knows of English words: which there are, their irregular forms, and which are not to be shown.

Words are held in key form (`key_form`): lower case, hyphens as spaces. Recognising inflected forms follows WordNet's own
morphology (`morphy(7WN)`): irregular forms from a list, then endings that are detached if what is left is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

Severity = Literal["slur", "vulgar", "review"]
SEVERITIES: tuple[Severity, ...] = ("slur", "vulgar", "review")
"""A slur is kept from everybody; a vulgar word is kept, but neither shown nor scored; others wait for a moderator."""

COMMON_NOUN = "N"
"""The mark of a noun that is written without capitals; n, v, a and r say which parts of speech a word has."""

# Longer endings first. Nouns: morphy's, which the singular of an answer is made with.
_NOUN_ENDINGS = (
    ("ches", "ch"),
    ("shes", "sh"),
    ("ses", "s"),
    ("xes", "x"),
    ("zes", "z"),
    ("ies", "y"),
    ("men", "man"),
    ("s", ""),
)
_ENDINGS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "n": _NOUN_ENDINGS,
    "v": (("ies", "y"), ("ing", "e"), ("ing", ""), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""), ("s", "")),
    "a": (("est", "e"), ("est", ""), ("er", "e"), ("er", "")),
    "r": (),
}
_NEVER_PLURAL = ("ss", "us", "is", "ics")
_SHORTEST_SINGULAR = 3
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def key_form(text: str) -> str:
    """Folded text as a key writes it: hyphens are spaces, full stops go, `'s` is `s`."""
    return " ".join(re.sub(r"'s\b", "s", text.replace("-", " ").replace(".", "")).split())


@dataclass(frozen=True)
class Lexicon:
    """Words in key form.

    Attributes:
        marks: word → its parts of speech (letters of "nvar", and COMMON_NOUN); "" for a key that only answers have.
        tags: word → how often it was tagged in running text; words without a count are absent.
        irregular: part of speech → irregular form → its base forms; the first is the one that counts where one must be chosen.
        invariant: nouns that keep their final s.
        severity: key → how bad it is; exact keys, never parts of words.
    """

    marks: Mapping[str, str]
    tags: Mapping[str, int]
    irregular: Mapping[str, Mapping[str, tuple[str, ...]]]
    invariant: frozenset[str]
    severity: Mapping[str, Severity]

    def __contains__(self, key: object) -> bool:
        return key in self.marks

    def singular(self, key: str) -> str:
        """The key with its last word in the singular; unchanged where none is known."""
        if whole := self.irregular["n"].get(key):
            return whole[0]
        head, space, last = key.rpartition(" ")
        return f"{head}{space}{self._singular_word(last)}"

    def _singular_word(self, word: str) -> str:
        if word in self.invariant:
            return word
        # Before asking whether the plural is a word itself: "teeth" is one.
        if bases := self.irregular["n"].get(word):
            return bases[0]
        if word.endswith(_NEVER_PLURAL):
            return word
        stems = [s for s in _detached(word, _NOUN_ENDINGS) if len(s) >= _SHORTEST_SINGULAR]
        nouns = [s for s in stems if "n" in self.marks.get(s, "")]
        return max(nouns, key=self._rank, default=word)

    def _rank(self, noun: str) -> tuple[bool, int]:
        """Common nouns first ("doses" is of "dose", not of DOS), then frequent ones ("senses" is of "sense", not of "sens")."""
        return COMMON_NOUN in self.marks[noun], self.tags.get(noun, 0)

    def is_inflected(self, key: str, base: str, pos: str) -> bool:
        """Whether `key` is a form of the word `base`, that part of speech: runs and running of run, bigger of big."""
        return base in self.irregular[pos].get(key, ()) or base in _detached(key, _ENDINGS[pos])

    def near(self, key: str) -> tuple[str, ...]:
        """Words one letter away (added, lost or another), the most frequent first, then by alphabet. None of the blocked."""
        found = {word for word in _one_letter_off(key) if self.marks.get(word) and word not in self.severity}
        return tuple(sorted(found - {key}, key=lambda word: (-self.tags.get(word, 0), word)))


def _detached(word: str, endings: tuple[tuple[str, str], ...]) -> list[str]:
    return [word.removesuffix(ending) + instead for ending, instead in endings if word.endswith(ending)]


def _one_letter_off(word: str) -> Iterator[str]:
    for i in range(len(word) + 1):
        before, after = word[:i], word[i:]
        yield from (before + letter + after for letter in _LETTERS)
        if after:
            yield before + after[1:]
            yield from (before + letter + after[1:] for letter in _LETTERS)
