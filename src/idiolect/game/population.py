"""What most people say: the baseline that a personal model has to beat, without the player and as of the time of the answer.

    NYM-1   the majority's verdict on the pair; without one, yes where others gave the answer; else the majority of all verdicts
    NYM-2   the candidate that most others gave
    NYM-3   the answers that most others gave, as many as they give on average

Real players alone where there are five of them, as everywhere in the game; before that, simulated ones fill in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from idiolect.game.score import MIN_OTHERS
from idiolect.store.game.reading import Votes
from idiolect.store.game.records import Given


@dataclass(frozen=True)
class Crowd:
    """What others gave for one base word.

    Attributes:
        n: how many others there are.
        given: how many of them gave each key.
        simulated: whether programs are among them.
    """

    n: int
    given: Mapping[str, int]
    simulated: bool = False

    @property
    def ranked(self) -> list[str]:
        """Keys, most frequent first; equals by alphabet."""
        return sorted(self.given, key=lambda key: (-self.given[key], key))

    def share(self, key: str) -> float:
        """Of others who gave a key, to two decimals."""
        return round(self.given.get(key, 0) / self.n, 2) if self.n else 0.0


def crowd(given: Given) -> Crowd:
    """Real players where there are enough of them, else all."""
    if given.n_real >= MIN_OTHERS:
        return Crowd(given.n_real, dict(given.real))
    both = {key: given.real.get(key, 0) + given.simulated.get(key, 0) for key in {*given.real, *given.simulated}}
    return Crowd(given.n_real + given.n_simulated, both, simulated=given.n_simulated > 0)


def counted(votes: Votes) -> tuple[int, int]:
    """(yes, no) of real players where enough of them voted, else of all."""
    if votes.yes + votes.no >= MIN_OTHERS:
        return votes.yes, votes.no
    return votes.yes + votes.simulated_yes, votes.no + votes.simulated_no


def likely_list(others: Crowd) -> list[str]:
    """The list that most people would give: their most frequent answers, as many as they give on average, at least one."""
    if not others.n:
        return []
    return others.ranked[: max(1, round(sum(others.given.values()) / others.n))]


def likely_verdict(pair: tuple[int, int], others: Crowd, key: str, all_pairs: tuple[int, int]) -> str:
    """What most people would say of a pair.

    Args:
        pair: (yes, no) on this pair.
        all_pairs: (yes, no) on all pairs of the relation; decides where nothing is known of this one.
    """
    yes, no = pair
    if yes == no and others.given.get(key):
        return "yes"
    if yes == no:
        yes, no = all_pairs
    return "yes" if yes >= no else "no"


def likely_first(candidates: Sequence[str], others: Crowd) -> str:
    """The candidate that most others gave; of equals, the first by alphabet."""
    return min(candidates, key=lambda key: (-others.given.get(key, 0), key))
