"""The game's words as they ship with the package: base words of each relation, their seed pairs, and the lexicon.

`recipes/build_vocabulary.py` makes the files from WordNet 3.0; `vocabulary.json` beside them says from what and how, and
`LICENSE-WordNet` is the notice that goes with every copy. Seeds are answers that WordNet knows. They earn a bonus, they are not
the truth: with inherited parts and kinds of kinds, some are odd.

Versions only add: a base word is named by its id, never by its place in a list.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, cast

from idiolect.game.lexicon import Lexicon, Severity
from idiolect.game.normalise import RELATIONS, Question, Relation

WORDING: Mapping[Relation, str] = {
    "syn": "Another word for: {}",
    "ant": "The opposite of: {}",
    "hypo": "Name kinds of: {}",
    "mero": "Name parts of: {}",
}
"""Wordings that need no article."""

COLUMNS = ("id", "key", "display", "pos", "sense", "concreteness", "ambiguous", "gloss")
"""Of `syn.tsv`, `ant.tsv`, `hypo.tsv` and `mero.tsv`."""


@dataclass(frozen=True)
class BaseWord(Question):
    """One question of the game.

    Attributes:
        id: `relation:key`, for ever.
        display: the word as players see it.
        sense: the commonest sense, as `wn30:offset-pos`.
        concreteness: by the lexicographer's file of that sense, which tells roughly; "" for
            words that are no nouns.
        ambiguous: two senses are frequent, so that the gloss is to be shown.
        gloss: what the commonest sense means.
    """

    id: str
    display: str
    sense: str
    concreteness: Literal["concrete", "abstract", ""]
    ambiguous: bool
    gloss: str

    @property
    def text(self) -> str:
        return WORDING[self.relation].format(self.display.upper())


@dataclass(frozen=True)
class Vocabulary:
    """All words of one version.

    Attributes:
        words: id → base word, each relation's in its order.
        seeds: id → key of a seed → how many links WordNet needs from the base word to it.
    """

    version: str
    words: Mapping[str, BaseWord]
    seeds: Mapping[str, Mapping[str, int]]
    lexicon: Lexicon

    def of(self, relation: Relation) -> tuple[BaseWord, ...]:
        return tuple(word for word in self.words.values() if word.relation == relation)

    def find(self, relation: Relation, key: str) -> BaseWord | None:
        return self.words.get(f"{relation}:{key}")

    def is_seed(self, word: BaseWord, key: str) -> bool:
        return key in self.seeds[word.id]


@cache
def vocabulary() -> Vocabulary:
    """The vocabulary that ships with the package; read once."""
    return read_vocabulary(files("idiolect") / "assets" / "vocabulary")


def read_vocabulary(folder: Traversable) -> Vocabulary:
    """The vocabulary in a folder that the recipe wrote."""
    version = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))["version"]
    words = {word.id: word for relation in RELATIONS for word in _base_words(folder / f"{relation}.tsv", relation)}
    return Vocabulary(version, words, _seeds(folder / "seeds.tsv.gz"), read_lexicon(folder))


def read_lexicon(folder: Traversable) -> Lexicon:
    """The words of `lexicon.tsv.gz` and `irregular.tsv.gz`, and the two lists that are kept by hand."""
    marks, tags = {}, {}
    for key, mark, count in _rows(folder / "lexicon.tsv.gz"):
        marks[key] = mark
        if count:
            tags[key] = int(count)
    irregular: dict[str, dict[str, tuple[str, ...]]] = {pos: {} for pos in "nvar"}
    for pos, form, *bases in _rows(folder / "irregular.tsv.gz"):
        irregular[pos][form] = tuple(bases)
    return Lexicon(marks, tags, irregular, read_invariant(folder), read_severity(folder))


def read_invariant(folder: Traversable) -> frozenset[str]:
    """Nouns that keep their s, from `invariant.txt`."""
    return frozenset(word for line in _lines(folder / "invariant.txt") for word in line.split())


def read_severity(folder: Traversable) -> dict[str, Severity]:
    """Key → severity, from `blocked.tsv`."""
    return {key: cast(Severity, severity) for severity, key in _rows(folder / "blocked.tsv")}


def _base_words(path: Traversable, relation: Relation) -> Iterator[BaseWord]:
    rows = _rows(path)
    next(rows)  # the columns' names
    for id, key, display, pos, sense, concreteness, ambiguous, gloss in rows:
        concrete = cast(Literal["concrete", "abstract", ""], concreteness)
        yield BaseWord(relation, key, pos, id, display, sense, concrete, ambiguous == "1", gloss)


def _seeds(path: Traversable) -> dict[str, dict[str, int]]:
    """Lines of id, depth, and all keys at that depth."""
    seeds: dict[str, dict[str, int]] = {}
    for id, depth, keys in _rows(path):
        seeds.setdefault(id, {}).update(dict.fromkeys(keys.split("|"), int(depth)))
    return seeds


def _rows(path: Traversable) -> Iterator[list[str]]:
    return (line.split("\t") for line in _lines(path))


def _lines(path: Traversable) -> Iterator[str]:
    """Lines of a text file, packed or plain, without comments."""
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode("utf-8")
    return (line for line in text.split("\n") if line and not line.startswith("#"))
