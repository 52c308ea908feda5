"""Two words and what joins them, always as the game asks it: (base, answer).

    syn   the answer means the same       hypo   the answer is a kind of the base       mero   the answer is a part of the base
    ant   it means the opposite           hyper  the base is a kind of the answer       holo   the base is a part of the answer

The game asks for syn, ant, hypo and mero. hyper and holo are those two the wrong way round, kept apart so that a classifier
which knows the words and not the direction is found out. Benchmarks write their columns either way (`BENCHMARKS`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

Label = Literal["syn", "ant", "hypo", "hyper", "mero", "holo", "none"]
LABELS: tuple[Label, ...] = ("syn", "ant", "hypo", "hyper", "mero", "holo", "none")

CLASSES: tuple[Label, ...] = ("syn", "ant", "hypo", "mero", "none")
"""What benchmarks and the game hold once they are oriented; a hyper or holo in a prediction is an error of direction."""

MIRROR: Mapping[Label, Label] = {
    "syn": "syn", "ant": "ant", "hypo": "hyper", "hyper": "hypo", "mero": "holo", "holo": "mero", "none": "none",
}  # fmt: skip
"""What holds from answer to base."""

BENCHMARKS: Mapping[str, Mapping[str, tuple[Label, bool]]] = {
    "EVALution": {
        "IsA": ("hypo", True), "Antonym": ("ant", False), "Synonym": ("syn", False), "PartOf": ("mero", True),
        "HasA": ("mero", False), "MadeOf": ("mero", False), "HasProperty": ("none", False),
    },
    "BLESS": {
        "hyper": ("hypo", True), "mero": ("mero", False), "coord": ("none", False), "event": ("none", False),
        "attri": ("none", False), "random": ("none", False),
    },
    "ROOT09": {"HYPER": ("hypo", True), "COORD": ("none", False), "RANDOM": ("none", False)},
    "K&H+N": {"hypo": ("hypo", True), "mero": ("mero", False), "sibl": ("none", False), "false": ("none", False)},
    "CogALex-V": {
        "HYPER": ("hypo", True), "PART_OF": ("mero", True), "ANT": ("ant", False), "SYN": ("syn", False),
        "RANDOM": ("none", False),
    },
}  # fmt: skip
"""Benchmark → its label → (ours, whether its words stand the other way round). Checked against each set's own rows."""


@dataclass(frozen=True, slots=True)
class Link:
    """One pair of words with what joins them.

    Attributes:
        weight: what it counts in training.
        native: the label that its benchmark gives it; "" for other sources.
        turned: its benchmark writes (answer, base).
        votes: players who gave it; 0 where nobody counted.
    """

    base: str
    answer: str
    label: Label
    weight: float = 1.0
    native: str = ""
    turned: bool = False
    votes: int = 0

    @property
    def words(self) -> tuple[str, str]:
        return self.base, self.answer

    @property
    def written(self) -> tuple[str, str]:
        """The words in the order of the file they came from."""
        return (self.answer, self.base) if self.turned else (self.base, self.answer)

    def mirrored(self) -> Link:
        """The same fact from the answer's side."""
        return replace(self, base=self.answer, answer=self.base, label=MIRROR[self.label], turned=not self.turned)


def orient(benchmark: str, first: str, second: str, native: str) -> Link:
    """A benchmark's row as the game would ask it.

    Raises:
        KeyError: the benchmark has no such label.
    """
    label, turned = BENCHMARKS[benchmark][native]
    base, answer = (second, first) if turned else (first, second)
    return Link(base, answer, label, native=native, turned=turned)


def both_ways(links: Iterable[Link]) -> list[Link]:
    """Every link and its mirror, so that nothing can be learnt from which column a word stands in."""
    return [way for link in links for way in (link, link.mirrored())]


def ends(links: Iterable[Link]) -> set[frozenset[str]]:
    """The pairs of words, whichever stands first."""
    return {frozenset(link.words) for link in links}


def softened(base: str, answer: str, label: Label, p: float, weight: float = 1.0, votes: int = 0) -> Sequence[Link]:
    """A link that holds with probability p: so much of it counts as its label, the rest as none."""
    yes = Link(base, answer, label, weight * p, votes=votes)
    no = Link(base, answer, "none", weight * (1 - p))
    return [link for link in (yes, no) if link.weight > 0]
