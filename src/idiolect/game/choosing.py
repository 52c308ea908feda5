"""Which base word a player gets next.

    featured  60 %   the same few for everybody, so that answers meet: in the list's order, until each was played by 30
    begun     20 %   played by one to four
    settled   10 %   played by 30 or more: what trust is measured on
    new       10 %   played by nobody

An empty bucket gives its turn to the next one in this order. Once a player has 20 rounds, words whose mean score suits them
come first in their bucket. When nothing is left that is new to the player, the word they have not had for longest comes again,
marked as a repeat.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from idiolect.game.rules import RETEST_S, RETEST_SHARE
from idiolect.store.game.records import PromptRow

N_FEATURED, SETTLED_FROM, BEGUN_BELOW = 40, 30, 5
SHARES = {"featured": 0.6, "begun": 0.2, "settled": 0.1, "new": 0.1}
PLAYER_ROUNDS, PROMPT_ROUNDS = 20, 10
REACH, MAX_Z = 0.3, 2.0


@dataclass(frozen=True)
class Record:
    """How a player did in one relation: rounds, and mean score."""

    n_rounds: int = 0
    mean: float = 0.0


@dataclass(frozen=True)
class Choice:
    """The base word; `repeat` if the player had it before."""

    prompt: PromptRow
    repeat: bool = False


def choose(
    prompts: Sequence[PromptRow],
    played: Mapping[int, float],
    passed: Collection[int],
    now: float,
    rng: Random,
    record: Record | None = None,
) -> Choice | None:
    """The next base word of a relation; None if there is none at all.

    Args:
        prompts: of the relation, in the vocabulary's order.
        played: base words the player had, and when last.
        passed: those skipped of late.
        record: of the player, to match difficulty.
    """
    active = [p for p in prompts if p.status == "active"]
    known = sorted((p for p in active if p.key in played and p.key not in passed), key=lambda p: (played[p.key], p.place))
    ripe = [p for p in known if now - played[p.key] >= RETEST_S]
    if ripe and rng.random() < RETEST_SHARE:
        return Choice(rng.choice(ripe), repeat=True)
    eligible = [p for p in active if p.key not in played and p.key not in passed]
    if not eligible:
        return Choice(known[0], repeat=True) if known else None
    bucket = _bucket(active, eligible, rng)
    return Choice(rng.choice(matched(bucket, active, record) if record else bucket))


def featured(active: Sequence[PromptRow]) -> list[PromptRow]:
    """The words that everybody meets now."""
    return [p for p in active if p.n_players < SETTLED_FROM][:N_FEATURED]


def buckets(active: Sequence[PromptRow], eligible: Sequence[PromptRow]) -> dict[str, list[PromptRow]]:
    """Eligible words by bucket; a featured word may be begun or new as well."""
    shown = {p.key for p in featured(active)}
    return {
        "featured": [p for p in eligible if p.key in shown],
        "begun": [p for p in eligible if 1 <= p.n_players < BEGUN_BELOW],
        "settled": [p for p in eligible if p.n_players >= SETTLED_FROM],
        "new": [p for p in eligible if p.n_players == 0],
    }


def _bucket(active: Sequence[PromptRow], eligible: Sequence[PromptRow], rng: Random) -> list[PromptRow]:
    found = buckets(active, eligible)
    drawn = rng.choices(list(SHARES), weights=list(SHARES.values()))[0]
    return next((found[name] for name in (drawn, *SHARES) if found[name]), list(eligible))


def matched(bucket: Sequence[PromptRow], active: Sequence[PromptRow], record: Record) -> list[PromptRow]:
    """Words whose mean score is near what suits the player, and those that are not known yet; all, where none is near.

    With μ and σ over the words' mean scores, and z the player's standardised mean: near is within 0.3 σ of μ - z σ. Good
    players get words with lower scores.
    """
    rated = [p for p in active if p.n_rounds >= PROMPT_ROUNDS]
    n_all = sum(p.n_rounds for p in rated)
    if record.n_rounds < PLAYER_ROUNDS or len(rated) < 2:
        return list(bucket)
    mean = math.fsum(p.mean for p in rated) / len(rated)
    spread = math.sqrt(math.fsum((p.mean - mean) ** 2 for p in rated) / len(rated))
    centre = math.fsum(p.score_sum for p in rated) / n_all
    deviation = math.sqrt(max(math.fsum(p.score_squares for p in rated) / n_all - centre**2, 0.0))
    z = max(-MAX_Z, min(MAX_Z, (record.mean - centre) / deviation)) if deviation else 0.0
    goal = mean - z * spread
    near = [p for p in bucket if p.n_rounds < PROMPT_ROUNDS or abs(p.mean - goal) <= REACH * spread]
    return near or list(bucket)
