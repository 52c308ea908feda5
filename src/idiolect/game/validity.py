"""Whether a pair holds, by those who gave it and those who judged it.

    p_valid = (1 + Y) / (2 + Y + N)      Y, N: trust of those who said yes, no

    blocked     by a moderator
    validated   a challenge was accepted
    rejected    p_valid ≤ 0.2 with five judges or more
    validated   three players or more gave it, with trust of two or more together; or p_valid ≥ 0.8 with three judges or more
    candidate   otherwise

The first that holds is the state. It is a function of rows, so that counting again changes nothing. Real players of trust one
half or more count, and nobody else.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from idiolect.game.score import MIN_TRUST
from idiolect.game.trust import REJECTED, VALIDATED, earn, take_back
from idiolect.store.game.books import Books
from idiolect.store.game.judging import GiverRow, Pair, VoteRow
from idiolect.store.game.records import PairRow

State = Literal["candidate", "validated", "rejected", "blocked"]

MIN_GIVERS, MIN_GIVERS_TRUST = 3, 2.0
VALID_FROM, VALID_JUDGES = 0.8, 3
REJECT_TO, REJECT_JUDGES = 0.2, 5
_AT_ONCE = 200

Row = TypeVar("Row", VoteRow, GiverRow)


@dataclass(frozen=True)
class Tally:
    """What speaks for a pair, and against it.

    Attributes:
        givers: trust of each who gave it; of several in one network, of the most trusted.
        votes: (yes or no, trust) of each player who judged it; `unsure` is no vote.
    """

    givers: Sequence[float] = ()
    votes: Sequence[tuple[str, float]] = ()
    challenged: bool = False
    blocked: bool = False

    @property
    def yes_w(self) -> float:
        return self._weight("yes")

    @property
    def no_w(self) -> float:
        return self._weight("no")

    @property
    def n_judges(self) -> int:
        return sum(trust >= MIN_TRUST and verdict != "unsure" for verdict, trust in self.votes)

    @property
    def values(self) -> tuple[float, float, int, float, State]:
        """What is kept of it."""
        return self.yes_w, self.no_w, self.n_judges, self.p_valid, self.state

    @property
    def p_valid(self) -> float:
        return (1 + self.yes_w) / (2 + self.yes_w + self.no_w)

    def _weight(self, side: str) -> float:
        # fsum: the exact sum, so that the order of votes changes nothing.
        return math.fsum(trust for verdict, trust in self.votes if verdict == side and trust >= MIN_TRUST)

    @property
    def state(self) -> State:
        if self.blocked:
            return "blocked"
        if self.challenged:
            return "validated"
        n, p = self.n_judges, self.p_valid
        if n >= REJECT_JUDGES and p <= REJECT_TO:
            return "rejected"
        givers = [trust for trust in self.givers if trust >= MIN_TRUST]
        is_given = len(givers) >= MIN_GIVERS and math.fsum(givers) >= MIN_GIVERS_TRUST
        return "validated" if is_given or (n >= VALID_JUDGES and p >= VALID_FROM) else "candidate"


@dataclass(frozen=True)
class Transition:
    """A pair that got another state."""

    pair: int
    before: State
    after: State


def refresh(books: Books, wanted: Collection[Pair], at: float) -> list[Transition]:
    """Count the votes on these pairs again; what changed.

    Whoever gave a pair gains trust when it becomes validated, loses that again when it is so no more, and loses some when it
    becomes rejected. Players whose standing changes by that take all their pairs with them.
    """
    changed, moved = _refresh(books, wanted, at)
    return changed + reconsider(books, moved, at)


def reconsider(books: Books, players: Iterable[int], at: float) -> list[Transition]:
    """Count everything again that these players speak for or against, after their standing changed."""
    changed: list[Transition] = []
    waiting, seen = list(players), set[int]()
    while waiting:
        player = waiting.pop(0)
        if player in seen:  # once each: two players could otherwise lift and sink each other for ever
            continue
        seen.add(player)
        theirs = books.pairs_of(player)
        for prompt in sorted({prompt for prompt, _ in theirs}):
            books.recount_players(prompt, {key for of, key in theirs if of == prompt})
        more, moved = _refresh(books, theirs, at)
        changed += more
        waiting += moved
    return changed


def _refresh(books: Books, wanted: Collection[Pair], at: float) -> tuple[list[Transition], list[int]]:
    """What changed, and the players whose standing did."""
    changed: list[Transition] = []
    moved: list[int] = []
    ordered = sorted(wanted)
    for start in range(0, len(ordered), _AT_ONCE):
        part = set(ordered[start : start + _AT_ONCE])
        votes, givers = _by_pair(books.votes(part)), _by_pair(books.givers(part))
        tallies: list[tuple[PairRow, Tally]] = []
        for pair, row in sorted(books.pair_rows(part).items()):
            gave: dict[str, float] = {}
            for giver in givers.get(pair, ()):
                gave[giver.hand] = max(giver.trust, gave.get(giver.hand, 0.0))
            ballot = [(vote.verdict, vote.trust) for vote in votes.get(pair, ())]
            tallies.append((row, Tally(tuple(gave.values()), ballot, row.challenged, row.decided == "blocked")))
        books.keep_tallies([(row.key_, *tally.values) for row, tally in tallies if tally.values != _values(row)])
        for row, tally in tallies:
            if row.state != tally.state:
                changed.append(Transition(row.key_, row.state, tally.state))
                gave_it = [giver.player for giver in givers.get((row.prompt, row.key), ())]
                moved += _paid(books, gave_it, row.state, tally.state, at)
    return changed, moved


def _paid(books: Books, givers: Collection[int], before: State, after: State, at: float) -> list[int]:
    """Move the trust of those who gave a pair that got another state; whose standing changed by it."""
    evidence = {"validated": VALIDATED, "rejected": REJECTED}.get(after)
    moved: list[int] = []
    for player in sorted(set(givers)):
        fallen = before == "validated" and take_back(books, player, VALIDATED, at)
        risen = evidence is not None and earn(books, player, evidence, at)
        moved += [player] if fallen != risen else []
    return moved


def _by_pair(rows: Iterable[Row]) -> dict[Pair, list[Row]]:
    found: dict[Pair, list[Row]] = {}
    for row in rows:
        found.setdefault((row.prompt, row.key), []).append(row)
    return found


def _values(row: PairRow) -> tuple[float, float, int, float, State]:
    return row.yes_w, row.no_w, row.n_judges, row.p_valid, row.state
