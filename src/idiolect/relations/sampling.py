"""Pairs in which a relation does not hold, one of each kind for every pair in which it does.

    other      another answer of the same base, joined to it by something else     keeps its own label
    elsewhere  the same answer under another base                                  none
    reversed   answer and base change places                                       hyper or holo; nothing for syn and ant
    random     any base and any answer                                             none

Nothing is drawn that is known to be joined, in either direction.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Literal

from idiolect.relations.links import Link, ends
from idiolect.types import seed_of

Kind = Literal["other", "elsewhere", "reversed", "random"]
KINDS: tuple[Kind, ...] = ("other", "elsewhere", "reversed", "random")

_TRIES = 20
"""Draws before a pair goes without a negative of some kind: its base or answer is joined to nearly everything."""


def negatives(links: Sequence[Link], seed: int, known: Iterable[Link] = (), kinds: Sequence[Kind] = KINDS) -> list[Link]:
    """One negative of each kind for every link, where there is one. Each depends on its link and the seed alone.

    Args:
        known: what is joined besides the links themselves; also where `other` is taken from.
    """
    everything = [*links, *known]
    joined, bases = ends(everything), sorted({link.base for link in links})
    answers = sorted({link.answer for link in links})
    of_base: dict[str, list[Link]] = defaultdict(list)
    for link in everything:
        of_base[link.base].append(link)
    found = []
    for link in links:
        rng = random.Random(seed_of(seed, "relations", "negative", *link.words, link.label))
        for kind in kinds:
            made = _one(kind, link, rng, of_base, bases, answers, joined)
            if made is not None:
                found.append(made)
    return found


def _one(
    kind: Kind,
    link: Link,
    rng: random.Random,
    of_base: dict[str, list[Link]],
    bases: Sequence[str],
    answers: Sequence[str],
    joined: set[frozenset[str]],
) -> Link | None:
    if kind == "reversed":
        mirrored = link.mirrored()
        return mirrored if mirrored.label != link.label else None
    if kind == "other":
        others = [other for other in of_base[link.base] if other.label != link.label and other.answer != link.answer]
        return rng.choice(others) if others else None
    for _ in range(_TRIES):
        base = rng.choice(bases)
        answer = link.answer if kind == "elsewhere" else rng.choice(answers)
        if base != answer and frozenset((base, answer)) not in joined:
            return Link(base, answer, "none", link.weight)
    return None
