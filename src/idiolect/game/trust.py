"""How far a player's word counts.

    trust = a / (a + b), from 4 and 1

                                             a      b
    gold judged right                       +1
    gold judged wrong                              +2
    an accepted answer is validated later   +0.2
    an accepted answer is rejected later           +0.5
    a slur                                         +1

An answer that is valid no more, because those left who spoke for it, takes its share back: coming and going gains nothing.

Below one half a player's answers and votes count for nobody, and nobody sees them on a board; they play on as before. They
come back by the same rule. Patterns of rounds are marked, never punished: people read them, and analyses leave them out.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from idiolect.game.score import MIN_TRUST, Verdict
from idiolect.store.game.books import Books
from idiolect.store.game.records import AnswerRow

RULES_ACTOR = "rules"
"""Who is named in the audit where no moderator acted."""


@dataclass(frozen=True)
class Evidence:
    """What speaks for a player, and what against."""

    a: float = 0.0
    b: float = 0.0

    def __add__(self, other: Evidence) -> Evidence:
        return Evidence(self.a + other.a, self.b + other.b)

    def __mul__(self, n: int) -> Evidence:
        return Evidence(self.a * n, self.b * n)

    @property
    def trust(self) -> float:
        return self.a / (self.a + self.b)


START = Evidence(4.0, 1.0)
GOLD_RIGHT, GOLD_WRONG = Evidence(a=1.0), Evidence(b=2.0)
VALIDATED, REJECTED = Evidence(a=0.2), Evidence(b=0.5)
SLUR = Evidence(b=1.0)

MIN_CONSTANT, MIN_TIMED, MIN_TYPED, MIN_LIST, MIN_OOV = 10, 5, 5, 6, 4
"""So many judgements, timed judgements, typed answers, listed answers and answers it takes to see a pattern."""
FAST_MS = 300
FAST_PER_S = 1.2
_NOTHING = Evidence()


def of_gold(judged: Iterable[tuple[Verdict, Verdict]]) -> Evidence:
    """Evidence of (verdict, what is true) on gold; `unsure` is none."""
    total = _NOTHING
    for verdict, truth in judged:
        if verdict != "unsure":
            total += GOLD_RIGHT if verdict == truth else GOLD_WRONG
    return total


def earn(books: Books, player: int, evidence: Evidence, at: float) -> bool:
    """Add evidence; whether the player's standing changed by it."""
    if evidence == _NOTHING:
        return False
    books.add_trust(player, evidence.a, evidence.b)
    return reassess(books, player, at)


def take_back(books: Books, player: int, evidence: Evidence, at: float) -> bool:
    """Take evidence away that does not hold any more; whether the player's standing changed by it.

    Nobody has less than they began with: who gave an answer when it was valid already never got what is taken here.
    """
    row = books.player(player)
    a, b = max(0.0, min(evidence.a, row.trust_a - START.a)), max(0.0, min(evidence.b, row.trust_b - START.b))
    return earn(books, player, Evidence(-a, -b), at)


def reassess(books: Books, player: int, at: float) -> bool:
    """See to it that a player's standing follows from their trust; whether it changed.

    Whom a moderator limited stays limited, whatever their trust.
    """
    row = books.player(player)
    subject = f"player {player}"
    if row.state == "ok" and row.trust < MIN_TRUST:
        state = "limited"
    elif row.state == "limited" and row.trust >= MIN_TRUST and _limited_by_rules(books, subject):
        state = "ok"
    else:
        return False
    books.change_player(player, state=state)
    books.add_act(RULES_ACTOR, state, subject, at)
    return True


def _limited_by_rules(books: Books, subject: str) -> bool:
    last = books.acts(1, subject)
    return bool(last) and last[0].actor == RULES_ACTOR


# -- patterns ------------------------------------------------------------------------------------------------------------------


def judging_patterns(judged: Sequence[tuple[Verdict, int | None]]) -> list[str]:
    """What is odd about a round of Nym or Not, sorted by name.

    Args:
        judged: verdict, and milliseconds since the one before where the browser said so.
    """
    verdicts = Counter(verdict for verdict, _ in judged)
    times = [ms for _, ms in judged if ms is not None]
    found = {
        "constant": len(judged) >= MIN_CONSTANT and len(verdicts) == 1,
        "fast": len(times) >= MIN_TIMED and statistics.median(times) < FAST_MS,
    }
    return sorted(name for name, holds in found.items() if holds)


def answering_patterns(answers: Sequence[AnswerRow], others: Iterable[tuple[str, ...]] = ()) -> list[str]:
    """What is odd about a round of words, sorted by name.

    Args:
        answers: in the order in which they came.
        others: what other players answered on the base word, each list in its order.
    """
    accepted = [answer for answer in answers if answer.status == "accepted"]
    keys = tuple(answer.key for answer in accepted)
    found = {
        "fast": _per_second(answers) > FAST_PER_S,
        "oov": len(accepted) >= MIN_OOV and 2 * sum(answer.oov for answer in accepted) > len(accepted),
        "pasted": bool(accepted) and all(answer.pasted for answer in accepted),
        "alphabetical": len(keys) >= MIN_LIST and list(keys) == sorted(keys),
        "identical": len(keys) >= MIN_LIST and keys in set(others),
    }
    return sorted(name for name, holds in found.items() if holds)


def _per_second(answers: Sequence[AnswerRow]) -> float:
    """Answers typed per second, from the first to the last; by the browser's clock where it told, else by the server's."""
    typed = [answer for answer in answers if not answer.pasted and answer.status != "late"]
    if len(typed) < MIN_TYPED:
        return 0.0
    told = [answer.ms / 1000 for answer in typed if answer.ms is not None]
    times = told if len(told) == len(typed) else [answer.received_at for answer in typed]
    if len(set(times)) == 1:  # a page without JavaScript sends all at once
        return 0.0
    return (len(typed) - 1) / (max(times) - min(times))
