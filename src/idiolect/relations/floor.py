"""Tier 1: what WordNet's shipped seeds, the lexicon and the letters say of a pair. No model, no download, no torch.

The seeds of the game cover 1,200 questions, so of most pairs elsewhere only letters, parts of speech and frequencies speak:
a floor in the plain sense.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from idiolect.game.normalise import RELATIONS
from idiolect.game.vocabulary import Vocabulary, vocabulary

_PREFIXES = ("un", "non", "in", "im", "il", "ir", "dis", "anti", "de", "mis", "under", "over", "re", "sub", "super")
_SUFFIXES = (
    "ness", "ity", "tion", "ment", "er", "ing", "ly", "y", "ful", "less", "able", "al", "ic", "ous", "ive", "ed", "ism",
)  # fmt: skip
_MARKS = "nvarN"


class Floor:
    """Features of tier 1. Equal vocabularies give equal numbers."""

    def __init__(self, words: Vocabulary | None = None) -> None:
        self._words = words or vocabulary()
        self._seeds = _by_relation(self._words)
        self._turned = {relation: _turned(seeds) for relation, seeds in self._seeds.items()}
        self._glosses = {word.key: frozenset(word.gloss.split()) for word in self._words.words.values()}
        self._concrete = {word.key for word in self._words.words.values() if word.concreteness == "concrete"}

        self._rows: dict[tuple[str, str], NDArray[np.float32]] = {}

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
        """(N, F) for N pairs of (base, answer) in key form. Rows are kept: a study asks for the same ones again and again."""
        for pair in pairs:
            if pair not in self._rows:
                self._rows[pair] = np.array(list(self._of(*pair)), dtype=np.float32)
        return np.stack([self._rows[pair] for pair in pairs])

    def _of(self, base: str, answer: str) -> Iterator[float]:
        yield from self._known(base, answer)
        yield from self._known(answer, base)
        yield from self._shared(base, answer)
        yield from _letters(base, answer)
        for word in (base, answer):
            yield from self._word(word)
        yield math.log1p(self._tags(base)) - math.log1p(self._tags(answer))

    def _known(self, base: str, answer: str) -> Iterator[float]:
        """Of each relation: 1 / depth where the answer is a seed of the base, and whether anything is known of the base."""
        for relation in RELATIONS:
            seeds = self._seeds[relation].get(base, {})
            yield 1 / seeds[answer] if answer in seeds else 0.0
            yield float(bool(seeds))
            # A seed's last word: a "dining table" is a table, and "arm" is in "arm rest".
            yield float(any(answer in key.split() for key in seeds if key != answer))
        yield float(answer in self._glosses.get(base, ()))

    def _shared(self, base: str, answer: str) -> Iterator[float]:
        """Of each relation: how much of the seeds the two have in common, and of what they are both seeds of."""
        for relation in RELATIONS:
            for table in (self._seeds[relation], self._turned[relation]):
                one, two = table.get(base, {}), table.get(answer, {})
                common = len(one.keys() & two.keys())
                yield common / math.sqrt(len(one) * len(two)) if common else 0.0

    def _word(self, word: str) -> Iterator[float]:
        mark = self._words.lexicon.marks.get(word, "")
        yield from (float(letter in mark) for letter in _MARKS)
        yield float(word in self._words.lexicon)
        yield float(self._words.lexicon.singular(word) != word)
        yield math.log1p(self._tags(word))
        yield float(word in self._concrete)
        yield len(word) / 10
        yield float(" " in word)
        yield from (float(word.endswith(suffix)) for suffix in _SUFFIXES)

    def _tags(self, word: str) -> int:
        return self._words.lexicon.tags.get(word, 0)


@cache
def floor() -> Floor:
    """The features of the shipped vocabulary; its tables are made once."""
    return Floor()


def _letters(base: str, answer: str) -> Iterator[float]:
    """What the spelling of the two words has in common."""
    longest = max(len(base), len(answer), 1)
    yield edit_distance(base, answer) / longest
    yield _common(base, answer) / longest
    yield _common(base[::-1], answer[::-1]) / longest
    yield (len(base) - len(answer)) / 10
    for long, short in ((base, answer), (answer, base)):
        yield float(long.endswith(" " + short))  # head word: dining table, table
        yield float(long != short and long.endswith(short))
        yield float(long != short and long.startswith(short))
        yield from (float(long == prefix + short) for prefix in _PREFIXES)
    yield float(_swapped(base, answer, "ful", "less") or _swapped(base, answer, "in", "out", front=True))


def _swapped(one: str, two: str, a: str, b: str, *, front: bool = False) -> bool:
    """Whether the words differ in this affix alone: hopeful, hopeless; inside, outside."""
    cut = str.removeprefix if front else str.removesuffix
    return any(cut(x, a) != x and cut(y, b) != y and cut(x, a) == cut(y, b) for x, y in ((one, two), (two, one)))


def _common(one: str, two: str) -> int:
    """Length of the common prefix."""
    return next((i for i, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def edit_distance(one: str, two: str) -> int:
    """Levenshtein's: letters to add, drop or exchange."""
    row = list(range(len(two) + 1))
    for i, a in enumerate(one, 1):
        above, row[0] = row[0], i
        for j, b in enumerate(two, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (a != b))
    return row[-1]


def _by_relation(words: Vocabulary) -> dict[str, dict[str, Mapping[str, int]]]:
    """Relation → base word's key → its seeds with their depth."""
    found: dict[str, dict[str, Mapping[str, int]]] = {relation: {} for relation in RELATIONS}
    for word in words.words.values():
        found[word.relation][word.key] = words.seeds.get(word.id, {})
    return found


def _turned(seeds: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Seed → the base words that have it."""
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for base, keys in seeds.items():
        for key, depth in keys.items():
            found[key][base] = depth
    return dict(found)
