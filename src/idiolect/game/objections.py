"""What waits for moderators, as they see it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from idiolect.game.vocabulary import BaseWord
from idiolect.store.game.moderating import ChallengeRow, ComplaintRow, DislikedRow
from idiolect.store.game.records import PairRow, PlayerRow


@dataclass(frozen=True)
class Waiting:
    """An answer that waits for a moderator, or is complained about."""

    word: BaseWord
    pair: PairRow


@dataclass(frozen=True)
class OpenChallenge:
    """A challenge with its pair."""

    challenge: ChallengeRow
    word: BaseWord
    pair: PairRow


@dataclass(frozen=True)
class Complained:
    """A pair with the complaints about it that are open."""

    complaints: tuple[ComplaintRow, ...]
    word: BaseWord
    pair: PairRow


@dataclass(frozen=True)
class Disliked:
    """A base word proposed for retirement."""

    word: BaseWord
    row: DislikedRow


@dataclass(frozen=True)
class Flagged:
    """A player to look at; `flags` are patterns of their rounds, each with how many rounds show it."""

    player: PlayerRow
    n_rounds: int
    flags: tuple[str, ...]


def counted_patterns(flags: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Patterns of rounds, the most frequent first, e.g. "fast × 3"."""
    n = Counter(pattern for marks in flags for pattern in marks["patterns"])
    return tuple(f"{pattern} × {n[pattern]}" for pattern in sorted(n, key=lambda pattern: (-n[pattern], pattern)))
