"""The game's fixed numbers: times, shares, limits. Scores have theirs in `score`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from idiolect.game.normalise import Relation

RULES = "1"
"""Version of the rules; a round keeps the one it was played under."""

Mode = Literal["classic", "fresh", "judge", "my_view"]
Timing = Literal["1x", "2x", "10x", "off"]
MODES: tuple[Mode, ...] = get_args(Mode)
TIMINGS: Mapping[Timing, int | None] = {"1x": 1, "2x": 2, "10x": 10, "off": None}
"""How much longer than usual a round takes; None: no end. Chosen before the round (WCAG 2.2, success criterion 2.2.1)."""

SECONDS: Mapping[Relation, int] = {"syn": 10, "ant": 10, "hypo": 15, "mero": 20}
JUDGE_SECONDS = 20
GRACE_S = 1.5
"""After the deadline an answer may still be on its way for so long."""
CLOSE_S = 5.0
"""So long after the deadline the server closes a round that nobody finished."""
IDLE_S = 24 * 3600.0
"""A round that was never started, or that has no deadline, is closed so long after it was handed out."""

SHARES: Mapping[Mode, float] = {"classic": 0.6, "fresh": 0.1, "judge": 0.2, "my_view": 0.1}
"""Of rounds where the player leaves the mode open; without consent to personal use, My view's go to Classic."""

MAX_ANSWERS = 40
MAX_RAW = 80
DAY_S = 24 * 3600.0
DAY_ROUNDS = 60
"""Rounds of one day whose points count."""
PASS_S = 30 * DAY_S
"""A skipped base word stays away so long."""
RETEST_SHARE, RETEST_S = 0.05, 7 * DAY_S
"""Of rounds that ask a base word again, and how long after the last time."""


def seconds_of(relation: Relation, mode: Mode, timing: Timing) -> float | None:
    """How long a round takes; None: it has no end."""
    factor = TIMINGS[timing]
    return None if factor is None else float(factor * (JUDGE_SECONDS if mode == "judge" else SECONDS[relation]))


def day_of(at: float) -> float:
    """When the day began (UTC), in seconds since 1970."""
    return at - at % DAY_S
