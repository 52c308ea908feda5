"""The sets that an audit asks about, and what must hold between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from idiolect.data.pairs import Pair
from idiolect.errors import ConfigError


@dataclass(frozen=True)
class Sets:
    """What is asked.

    Attributes:
        forget: what was trained on and should be gone; at least two pairs, since relearning teaches some and asks the rest.
        retain: what was trained on and should stay.
        holdout: pairs like the forget set that no model here has ever seen.
        neighbours: pairs close to the forget set that should stay.
        world: what everybody knows, trained on or not.
        texts: plain texts, for perplexity.
        unrelated: pairs of nothing here, for relearning without the forget set.
    """

    forget: Sequence[Pair]
    retain: Sequence[Pair]
    holdout: Sequence[Pair]
    neighbours: Sequence[Pair] = ()
    world: Sequence[Pair] = ()
    texts: Sequence[str] = ()
    unrelated: Sequence[Pair] = ()

    @property
    def pairs(self) -> Mapping[str, Sequence[Pair]]:
        """Every set of pairs by name."""
        names = ("forget", "retain", "holdout", "neighbours", "world", "unrelated")
        return {name: getattr(self, name) for name in names}

    @property
    def kept(self) -> Mapping[str, Sequence[Pair]]:
        """The sets that utility is taken of, where they are given."""
        return {name: self.pairs[name] for name in ("retain", "neighbours", "world") if self.pairs[name]}

    def check(self) -> None:
        """Refuse sets that no audit can be made of.

        Raises:
            ConfigError: a set is empty, has an id twice or a blank prompt or answer, or two sets share pairs or a group; all
                problems at once.
        """
        problems = [f"the {name} set is empty" for name in ("forget", "retain", "holdout") if not self.pairs[name]]
        if len(self.forget) == 1:
            problems.append("the forget set has one pair, and relearning needs two")
        for name, pairs in self.pairs.items():
            problems += _within(name, pairs)
        for (one, mine), (other, theirs) in combinations(self.pairs.items(), 2):
            problems += _between(one, mine, other, theirs)
        if problems:
            raise ConfigError(f"sets to audit: {'; '.join(problems)}")


def _within(name: str, pairs: Sequence[Pair]) -> list[str]:
    twice = [key for key, n in Counter(pair.id for pair in pairs).items() if n > 1]
    blank = [
        pair.id
        for pair in pairs
        if not all(text.strip() for text in (pair.prompt, pair.answer, *pair.paraphrases, *pair.wrong))
    ]
    found = [f"the {name} set has {len(twice)} ids more than once (first: {twice[0]!r})"] if twice else []
    return found + ([f"the {name} set has {len(blank)} pairs with a blank text (first: {blank[0]!r})"] if blank else [])


def _between(one: str, mine: Sequence[Pair], other: str, theirs: Sequence[Pair]) -> list[str]:
    """Neighbours, world and retained pairs may overlap: they are only asked about. Nothing else may."""
    if not {one, other} & {"forget", "holdout"}:
        return []
    same = {_key(pair) for pair in mine} & {_key(pair) for pair in theirs}
    groups = {pair.group for pair in mine if pair.group} & {pair.group for pair in theirs if pair.group}
    found = [f"{len(same)} pairs stand in the {one} set and in the {other} set"] if same else []
    return found + ([f"{len(groups)} groups are split between the {one} set and the {other} set"] if groups else [])


def _key(pair: Pair) -> tuple[str, str]:
    prompt, answer = (" ".join(text.casefold().split()) for text in (pair.prompt, pair.answer))
    return prompt, answer
