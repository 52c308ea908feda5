"""Who learns from what, and is asked what.

A random split mostly measures which words are typical answers (Levy et al. 2015, "Do supervised distributional methods really
learn lexical inference relations?"). So there are two: the published one, for comparison, and a lexical one in which no word of
the test, base or answer, was seen in training. In neither do the two directions of a pair stand in different parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from idiolect.errors import ConfigError
from idiolect.relations.links import Link, ends
from idiolect.relations.readers import Benchmark
from idiolect.types import seed_of

SplitName = Literal["published", "lexical"]
SPLITS: tuple[SplitName, ...] = ("published", "lexical")

SHARES = (0.55, 0.15, 0.30)
"""Of words, to train, val and test. A pair stays if both its words fall together: about 0.30, 0.02 and 0.09 of the pairs."""


@dataclass(frozen=True)
class Split:
    """Parts of a set; `dropped` pairs are in none of them."""

    train: tuple[Link, ...]
    val: tuple[Link, ...]
    test: tuple[Link, ...]
    dropped: int = 0


def split(benchmark: Benchmark, name: SplitName, seed: int = 0) -> Split:
    """The benchmark's parts. The seed draws the words of the lexical split; the published one is what it is."""
    return published(benchmark) if name == "published" else lexical(benchmark.links, seed)


def published(benchmark: Benchmark) -> Split:
    """The parts as published, without what stands in a later part too, in either direction (`dropped`)."""
    test, val = ends(benchmark.test), ends(benchmark.val)
    train = tuple(link for link in benchmark.train if frozenset(link.words) not in test | val)
    kept = tuple(link for link in benchmark.val if frozenset(link.words) not in test)
    dropped = len(benchmark.train) - len(train) + len(benchmark.val) - len(kept)
    return Split(train, kept, benchmark.test, dropped)


def as_published(benchmark: Benchmark) -> Split:
    """The parts just as published, which published figures are of."""
    return Split(benchmark.train, benchmark.val, benchmark.test)


def lexical(links: Iterable[Link], seed: int, shares: Sequence[float] = SHARES) -> Split:
    """Every word belongs to one part, by its hash; pairs whose words belong to different ones are dropped.

    Raises:
        ConfigError: shares that are not three positive numbers that add up to 1.
    """
    if len(shares) != 3 or min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise ConfigError("shares of a split must be three positive numbers that add up to 1")
    parts: tuple[list[Link], list[Link], list[Link]] = ([], [], [])
    dropped = 0
    for link in links:
        base, answer = (part_of(word, seed, shares) for word in link.words)
        if base == answer:
            parts[base].append(link)
        else:
            dropped += 1
    return Split(tuple(parts[0]), tuple(parts[1]), tuple(parts[2]), dropped)


def part_of(word: str, seed: int, shares: Sequence[float] = SHARES) -> int:
    """0, 1 or 2: the part that a word belongs to."""
    at = seed_of(seed, "relations", "part", word) / 2**63
    return 0 if at < shares[0] else 1 if at < shares[0] + shares[1] else 2
