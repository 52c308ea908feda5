"""What a round scores. Whole numbers; nothing is ever taken away.

    U     other players who are trusted, each with their first round on this base word that holds an accepted answer
    n(w)  how many of them gave key w

    agreement  A(w) = ⌊100 n(w) / |U| + ½⌋  from |U| = 5 on; before that 0, and the round is provisional
    seed       S(w) = 50 where WordNet knows the pair; at most four times a round where nobody else gave it (A = 0)
    rare gem   R(w) = 30 from |U| = 20 on, where at most 5 % gave it and the pair is validated
    pioneer    40 for the first five rounds on a base word

A provisional round is settled once, when |U| first reaches 5, and keeps the better of its two scores. Everything here is a
function of plain values: who calls it brings rounds, seeds and validated pairs, and keeps what comes out.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Mode = Literal["classic", "fresh", "my_view"]
Verdict = Literal["yes", "no", "unsure"]

MIN_OTHERS = 5
SEED, MAX_SEED_ONLY = 50, 4
RARE, RARE_FROM, RARE_PERCENT = 30, 20, 5
TABOO_FROM, TABOO_PERCENT = 20, 50
PIONEER, PIONEER_ROUNDS = 40, 4
MAX_SCORED = 12
MY_VIEW = 20
JUDGED, JUDGED_VOTES = 7, 5
CHALLENGE = 25
"""Once, to all who gave an answer whose challenge was accepted."""
MIN_TRUST = 0.5


@dataclass(frozen=True)
class PlayedRound:
    """A closed round on one base word, as far as others' scores depend on it.

    Attributes:
        keys: of the accepted answers; none where all of them were pasted.
        closed_at: any value that orders a player's rounds.
        trust: of the player, now; below MIN_TRUST nothing of theirs counts.
        repeat: a base word that came back to the player; counts for nobody.
    """

    player: str
    keys: frozenset[str]
    closed_at: float
    mode: Mode = "classic"
    trust: float = 0.8
    repeat: bool = False


@dataclass(frozen=True)
class Agreement:
    """|U|, and how many of them gave each key."""

    n_others: int
    given: Mapping[str, int]

    def points(self, key: str) -> int:
        """A(w), half up."""
        if self.n_others < MIN_OTHERS:
            return 0
        return (200 * self.given.get(key, 0) + self.n_others) // (2 * self.n_others)

    def is_rare(self, key: str) -> bool:
        return self.n_others >= RARE_FROM and 100 * self.given.get(key, 0) <= RARE_PERCENT * self.n_others

    def taboo(self) -> frozenset[str]:
        """What a Fresh round lists, and scores 0."""
        if self.n_others < TABOO_FROM:
            return frozenset()
        return frozenset(key for key, n in self.given.items() if 100 * n >= TABOO_PERCENT * self.n_others)


@dataclass(frozen=True)
class Scored:
    """Points of one accepted answer."""

    key: str
    agree: int = 0
    seed: int = 0
    rare: int = 0

    @property
    def points(self) -> int:
        return self.agree + self.seed + self.rare


@dataclass(frozen=True)
class RoundScore:
    """A round's points; `answers` in the order in which they came. A provisional one is to be settled."""

    answers: tuple[Scored, ...]
    bonus: int
    provisional: bool

    @property
    def total(self) -> int:
        return sum(answer.points for answer in self.answers) + self.bonus


@dataclass(frozen=True)
class Settlement:
    """What became of a provisional round: its final score, how much that added, and how many others agreed with an answer."""

    final: int
    gained: int
    n_agreed: int


def counted(rounds: Iterable[PlayedRound], player: str) -> tuple[PlayedRound, ...]:
    """The rounds of U: of each other trusted player the first that holds an accepted answer, sorted by player."""
    first: dict[str, PlayedRound] = {}
    for played in sorted(rounds, key=lambda r: (r.closed_at, sorted(r.keys))):
        if played.player != player and _counts(played):
            first.setdefault(played.player, played)
    return tuple(first[name] for name in sorted(first))


def _counts(played: PlayedRound) -> bool:
    return bool(played.keys) and played.trust >= MIN_TRUST and played.mode != "my_view" and not played.repeat


def agreement(rounds: Iterable[PlayedRound], player: str) -> Agreement:
    """What others answered, without the player's own rounds.

    Args:
        rounds: all closed rounds on the base word, in any order; the player's own may be among them.
    """
    others = counted(rounds, player)
    return Agreement(len(others), Counter(key for played in others for key in played.keys))


def score_round(
    keys: Sequence[str],
    others: Agreement,
    *,
    seeds: Collection[str],
    n_closed: int,
    validated: Collection[str] = (),
    mode: Mode = "classic",
    unscored: Collection[str] = (),
) -> RoundScore:
    """Score a round's accepted answers.

    Args:
        keys: of accepted answers, in the order in which they came; late, blocked, hidden and other ones are not among them.
        others: what others answered.
        seeds: keys that WordNet knows for the base word.
        n_closed: rounds on the base word that were closed when this one was; settling uses the same number.
        validated: keys whose pair with the base word is validated.
        unscored: accepted keys that earn nothing, because they were pasted, or listed as taboo in a Fresh round.
    """
    if mode == "my_view":
        return RoundScore(tuple(map(Scored, keys)), MY_VIEW if keys else 0, provisional=False)
    answers: list[Scored] = []
    for place, key in enumerate(keys):
        earns = place < MAX_SCORED and key not in unscored
        answers.append(_scored(key, others, seeds, validated, answers) if earns else Scored(key))
    pioneer = PIONEER if keys and n_closed <= PIONEER_ROUNDS else 0
    return RoundScore(tuple(answers), pioneer, provisional=others.n_others < MIN_OTHERS)


def _scored(
    key: str, others: Agreement, seeds: Collection[str], validated: Collection[str], before: Sequence[Scored]
) -> Scored:
    agree = others.points(key)
    is_left = agree or sum(answer.seed > 0 and answer.agree == 0 for answer in before) < MAX_SEED_ONLY
    seed = SEED if key in seeds and is_left else 0
    return Scored(key, agree, seed, RARE if key in validated and others.is_rare(key) else 0)


def settle(provisional: RoundScore, settled: RoundScore, rounds: Iterable[PlayedRound], player: str) -> Settlement | None:
    """The end of a provisional round, once there are enough others; None before that, and for a round that was not provisional.

    Args:
        provisional: the score when the round was closed.
        settled: the score of the same answers with today's others.
        rounds: all closed rounds on the base word.
    """
    if not provisional.provisional or settled.provisional:
        return None
    final = max(provisional.total, settled.total)
    scored = {answer.key for answer in settled.answers if answer.agree}
    n_agreed = sum(not scored.isdisjoint(played.keys) for played in counted(rounds, player))
    return Settlement(final, final - provisional.total, n_agreed)


def may_skip(n_accepted: int, closed: bool) -> bool:
    """A round is skipped before its first accepted answer, or not at all. It scores nothing and counts for nobody."""
    return not closed and n_accepted == 0


@dataclass(frozen=True)
class Vote:
    """One judgement of a pair in Nym or Not; `unsure` is an answer, and weighs nothing."""

    player: str
    verdict: Verdict
    trust: float = 0.8


@dataclass(frozen=True)
class JudgedScore:
    """Points of a judgement; provisional ones are looked at again when there are enough votes."""

    points: int
    provisional: bool = False


def score_judgement(verdict: Verdict, player: str, votes: Iterable[Vote], gold: Verdict | None = None) -> JudgedScore:
    """Seven points for agreeing with the others' weighted majority, or with gold where there is some.

    Nobody's vote and a tie count as agreeing, provisionally until there are five votes.
    """
    if verdict == "unsure":
        return JudgedScore(0)
    if gold is not None:
        return JudgedScore(JUDGED if verdict == gold else 0)
    others = [v for v in votes if v.player != player and v.trust >= MIN_TRUST and v.verdict != "unsure"]
    # fsum: the exact sum, so that the order of votes cannot break a tie.
    lead = math.fsum(v.trust if v.verdict == verdict else -v.trust for v in others)
    if lead == 0:
        return JudgedScore(JUDGED, provisional=len(others) < JUDGED_VOTES)
    return JudgedScore(JUDGED if lead > 0 else 0)
