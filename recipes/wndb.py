"""WordNet's database files, read as they stand: synsets, their pointers, tag counts and irregular forms.

The format is `wndb(5WN)`. One line of `data.noun`:

    02084071 05 n 03 dog 0 domestic_dog 0 Canis_familiaris 0 023 @ 02083346 n 0000 … | a member of the genus Canis …
    offset   │  │ │  words, each with a lexical id          │   pointers: symbol, offset, part of speech, source and target
             │  │ how many words, hexadecimal              how many pointers
             │  part of speech (s: an adjective that stands with a head)
             lexicographer's file

A pointer whose source and target are 0000 joins synsets; else they number the words, from 1. Nothing here knows of the game.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
HYPERNYM, HYPONYM, ANTONYM, SIMILAR, INSTANCE_OF = "@", "~", "!", "&", "@i"
MERONYMS = ("%p", "%m", "%s")

# lexnames(5WN): the file in which a lexicographer put the synset.
LEXICOGRAPHER_FILES = {
    "05": "animal", "06": "artifact", "08": "body", "13": "food", "17": "object", "20": "plant", "27": "substance",
}  # fmt: skip

Place = tuple[str, str]
"""A synset: part of speech (n, v, a, r) and offset."""


class Pointer(NamedTuple):
    """`source` and `target` number words from 1; both 0 where the pointer joins synsets."""

    symbol: str
    to: Place
    source: int
    target: int


class Synset(NamedTuple):
    """One line of a data file. `words` keep their capitals; `satellite` says that an adjective stands with a head."""

    place: Place
    file: str
    satellite: bool
    words: tuple[str, ...]
    pointers: tuple[Pointer, ...]
    gloss: str

    def to(self, *symbols: str) -> Iterator[Place]:
        return (p.to for p in self.pointers if p.symbol in symbols)


@dataclass(frozen=True)
class WordNet:
    """All of the database.

    Attributes:
        synsets: by place.
        senses: lower-case lemma → part of speech → its synsets, most frequent sense first.
        tags: (lemma, part of speech, sense number from 1) → how often it was tagged in running text.
        irregular: part of speech → irregular form → its base forms, in the file's order.
    """

    synsets: Mapping[Place, Synset]
    senses: Mapping[str, Mapping[str, tuple[Place, ...]]]
    tags: Mapping[tuple[str, str, int], int]
    irregular: Mapping[str, Mapping[str, tuple[str, ...]]] = field(repr=False)

    def tag_count(self, lemma: str, pos: str) -> int:
        """How often the lemma was tagged, all its senses together."""
        return sum(self.tags_by_sense(lemma, pos))

    def tags_by_sense(self, lemma: str, pos: str) -> list[int]:
        return [self.tags.get((lemma, pos, n + 1), 0) for n in range(len(self.senses[lemma][pos]))]

    @cached_property
    def spellings(self) -> Mapping[str, frozenset[str]]:
        """Lower-case lemma → how its synsets write it, capitals kept."""
        found: dict[str, set[str]] = defaultdict(set)
        for synset in self.synsets.values():
            for word in synset.words:
                found[word.lower()].add(word)
        return {lemma: frozenset(words) for lemma, words in found.items()}


def read(folder: Path) -> WordNet:
    """The database in `folder`: its data, index and exception files, and `cntlist.rev`."""
    synsets = {s.place: s for pos, name in FILES.items() for s in _synsets(folder / f"data.{name}", pos)}
    senses: dict[str, dict[str, tuple[Place, ...]]] = {}
    for pos, name in FILES.items():
        for lemma, places in _index(folder / f"index.{name}", pos):
            senses.setdefault(lemma, {})[pos] = places
    irregular = {pos: dict(_exceptions(folder / f"{name}.exc")) for pos, name in FILES.items()}
    return WordNet(synsets, senses, dict(_tags(folder / "cntlist.rev")), irregular)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a database file, without the licence on top, which is indented."""
    with path.open(encoding="utf-8") as lines:
        yield from (line for line in lines if not line.startswith("  "))


def _synsets(path: Path, pos: str) -> Iterator[Synset]:
    for line in _lines(path):
        data, _, gloss = line.partition(" | ")
        offset, file, kind, n_words, *rest = data.split()
        end = 2 * int(n_words, 16)
        words = tuple(_spelt(word) for word in rest[:end:2])
        pointers = rest[end + 1 : end + 1 + 4 * int(rest[end])]
        yield Synset((pos, offset), file, kind == "s", words, tuple(_pointers(pointers)), gloss.strip())


def _pointers(fields: list[str]) -> Iterator[Pointer]:
    for symbol, offset, pos, ends in zip(*(fields[i::4] for i in range(4)), strict=True):
        yield Pointer(symbol, (pos, offset), int(ends[:2], 16), int(ends[2:], 16))


def _spelt(word: str) -> str:
    """Without underscores, and without the place that an adjective must stand in: (a), (p) or (ip)."""
    return re.sub(r"\((a|p|ip)\)$", "", word).replace("_", " ")


def _index(path: Path, pos: str) -> Iterator[tuple[str, tuple[Place, ...]]]:
    for line in _lines(path):
        lemma, _, n_senses, *rest = line.split()
        yield lemma.replace("_", " "), tuple((pos, offset) for offset in rest[-int(n_senses) :])


def _exceptions(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in path.read_text(encoding="utf-8").splitlines():
        form, *bases = (word.replace("_", " ") for word in line.split())
        yield form, tuple(bases)


def _tags(path: Path) -> Iterator[tuple[tuple[str, str, int], int]]:
    """`lemma%kind:file:id:head:id sense-number count`; kinds 1 to 5 are n, v, a, r, and an adjective with a head."""
    for line in path.read_text(encoding="utf-8").splitlines():
        key, number, count = line.split()
        lemma, _, rest = key.partition("%")
        yield (lemma.replace("_", " "), "nvara"[int(rest[0]) - 1], int(number)), int(count)


Pairs = set[tuple[str, str]]
"""(base, answer), in lower case."""


def direct_pairs(wordnet: WordNet, *symbols: str, parts: str) -> Pairs:
    """Pairs over pointers out of the parts of speech named.

    A pointer between words gives one pair, a pointer between synsets every word of one with every word of the other. Words
    that differ in their capitals alone become one, so a genus and its animal (Turkey, turkey) may give a pair with itself.
    """
    pairs = set()
    for synset in wordnet.synsets.values():
        for p in synset.pointers if synset.place[0] in parts else ():
            if p.symbol in symbols:
                bases, answers = _ends(synset.words, p.source), _ends(wordnet.synsets[p.to].words, p.target)
                pairs |= {(b.lower(), a.lower()) for b in bases for a in answers}
    return pairs


def _ends(words: tuple[str, ...], number: int) -> tuple[str, ...]:
    return words[number - 1 : number] if number else words


def synonym_pairs(wordnet: WordNet, *, parts: str) -> Pairs:
    """Pairs of words in one synset."""
    synsets = (s for s in wordnet.synsets.values() if s.place[0] in parts)
    return {(b.lower(), a.lower()) for s in synsets for b in s.words for a in s.words}


def without_self(pairs: Pairs) -> Pairs:
    return {(base, answer) for base, answer in pairs if base != answer}
