"""Pairs whose verdict is known: what a player's judgements are measured on.

200 ship with the package, written and checked by hand, as many right as wrong in each relation. Play adds more: what at least
half of many players answered, and WordNet knows, is right; an answer to a far base word that none of as many players gave is
wrong.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, cast

from idiolect.errors import FileFormatError
from idiolect.game.normalise import RELATIONS, Relation, is_echo
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.records import PairRow, PromptRow
from idiolect.types import seed_of

COLUMNS = ("relation", "base", "key", "display", "verdict")
"""Of `gold.tsv`."""

FROM_PLAYERS, FROM_PERCENT = 20, 50
"""A base word's players from which play makes gold, and how many of them have to give an answer."""

N_FAR = 3
"""Wrong answers that a base word has; the same for everybody, so that votes meet."""
_NEAR_ENOUGH = 2
_OF_FAR = 4


@dataclass(frozen=True)
class GoldPair:
    """A pair, and what is true of it."""

    relation: Relation
    base: str
    key: str
    display: str
    verdict: Literal["yes", "no"]

    @property
    def prompt(self) -> str:
        """Id of the base word."""
        return f"{self.relation}:{self.base}"


@cache
def gold() -> tuple[GoldPair, ...]:
    """The pairs that ship with the package; read once."""
    return read_gold(files("idiolect") / "assets" / "vocabulary" / "gold.tsv")


def read_gold(file: Traversable) -> tuple[GoldPair, ...]:
    """Pairs of a file.

    Raises:
        FileFormatError: a line is not what it should be.
    """
    head, *lines = file.read_text(encoding="utf-8").splitlines()
    if tuple(head.split("\t")) != COLUMNS:
        raise FileFormatError(f"{file.name}, line 1: the columns are {', '.join(COLUMNS)}")
    return tuple(_pair(line.split("\t"), f"{file.name}, line {n}") for n, line in enumerate(lines, 2))


def _pair(fields: list[str], place: str) -> GoldPair:
    if len(fields) != len(COLUMNS) or fields[0] not in RELATIONS or fields[4] not in ("yes", "no"):
        raise FileFormatError(f"{place}: five fields are needed, a known relation first and yes or no last")
    relation, base, key, display, verdict = fields
    return GoldPair(cast(Relation, relation), base, key, display, cast(Literal["yes", "no"], verdict))


def is_far(word: BaseWord, other: BaseWord, words: Vocabulary) -> bool:
    """Whether two base words of a relation have nothing to do with each other as far as WordNet knows: neither is a seed of the
    other, and no answer is a seed of both.
    """
    mine, theirs = words.seeds[word.id], words.seeds[other.id]
    return word.key != other.key and word.key not in theirs and other.key not in mine and mine.keys().isdisjoint(theirs)


def is_linked(word: BaseWord, key: str, words: Vocabulary) -> bool:
    """Whether the pair is a seed pair, in its direction or the other, of any relation."""
    for relation in RELATIONS:
        there, back = words.find(relation, word.key), words.find(relation, key)
        if there is not None and words.is_seed(there, key):
            return True
        if back is not None and words.is_seed(back, word.key):
            return True
    return False


def known_seeds(word: BaseWord, words: Vocabulary, n: int) -> list[str]:
    """The seeds that people are most likely to know: one link away or two, and frequent in text. None that is offensive."""
    lexicon = words.lexicon
    seeds = words.seeds[word.id]
    near = [key for key, depth in seeds.items() if depth <= _NEAR_ENOUGH and lexicon.tags.get(key) and _is_decent(key, words)]
    return sorted(near, key=lambda key: (seeds[key], -lexicon.tags[key], key))[:n]


def far_answers(word: BaseWord, words: Vocabulary, n: int = N_FAR) -> list[str]:
    """Wrong answers: what people would say to a far base word of the same relation. The same ones every time."""
    rng = random.Random(seed_of("far answers", words.version, word.id))
    others = list(words.of(word.relation))
    rng.shuffle(others)
    found: list[str] = []
    for other in others:
        known = known_seeds(other, words, _OF_FAR) if is_far(word, other, words) else []
        key = rng.choice(known) if known else ""
        if key and key not in found and not is_linked(word, key, words) and not is_echo(key, word, words.lexicon):
            found.append(key)
        if len(found) == n:
            break
    return found


def _is_decent(key: str, words: Vocabulary) -> bool:
    return key not in words.lexicon.severity


def common_answers(
    common: Collection[PairRow], prompts: Mapping[int, PromptRow], words: Vocabulary
) -> Iterator[tuple[int, GoldPair]]:
    """Right pairs that play has made, with the row of the base word.

    Args:
        common: answers that half of at least 20 players gave.
        prompts: active base words by row.
    """
    for pair in common:
        word = words.words[prompts[pair.prompt].prompt]
        if words.is_seed(word, pair.key):
            yield pair.prompt, GoldPair(word.relation, word.key, pair.key, pair.display, "yes")


def foreign_answers(prompts: Collection[PromptRow], words: Vocabulary) -> Iterator[tuple[int, GoldPair]]:
    """Wrong pairs of base words that at least 20 players answered, with the row of the base word; wrong if nobody gave them."""
    for row in prompts:
        word = words.words[row.prompt]
        for key in far_answers(word, words):
            yield row.key, GoldPair(word.relation, word.key, key, key, "no")
