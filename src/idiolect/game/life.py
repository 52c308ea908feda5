"""The life of a round, whatever is asked in it: whose it is, whether it is late or over, and when it ended."""

from __future__ import annotations

from collections.abc import Callable

from idiolect.game.refusals import NotYours, OneOpenRound
from idiolect.game.rules import CLOSE_S, GRACE_S, IDLE_S
from idiolect.store.game.books import Books
from idiolect.store.game.records import RoundRow
from idiolect.types import has_surrogate

Close = Callable[[RoundRow, str, float], None]
"""Closes a started round: the round, the reason, and when it was over."""


def own_round(books: Books, player: int, round: str) -> RoundRow:
    """A round of the player's. Raises NotYours, for others' rounds and for what is no name alike."""
    row = books.round(round) if not has_surrogate(round) and "\0" not in round else None
    if row is None or row.player != player:
        raise NotYours("there is no such round of yours")
    return row


def put_away(books: Books, player: int, now: float, close: Close) -> None:
    """Make room for another round: one that was never started goes, one that is over is closed.

    Raises:
        OneOpenRound: the player's round is running.
    """
    before = books.open_round(player)
    if before is None:
        return
    if before.started_at is None:
        books.change_round(before.key, closed_at=now, close_reason="abandoned")
        books.drop_unplayed(player)
    elif is_over(before, now):
        close(before, "expired", ended(before, now))
    else:
        raise still_running(before)


def still_running(row: RoundRow) -> OneOpenRound:
    """What is said of a round that has to be finished first."""
    return OneOpenRound("you have a round that is still running; finish it, or skip it", round=row.round)


def is_late(row: RoundRow, now: float) -> bool:
    """Whether what arrives now does not count any more."""
    return row.deadline_at is not None and now > row.deadline_at + GRACE_S


def is_over(row: RoundRow, now: float) -> bool:
    """Whether nothing that arrives now would count any more, so that the round may be closed."""
    if row.deadline_at is None:
        return now > (row.started_at or row.served_at) + IDLE_S
    return is_late(row, now)


def ended(row: RoundRow, now: float) -> float:
    """When a round that nobody finished was over: on the day it was played, however long the server was gone."""
    return now if row.deadline_at is None else min(now, row.deadline_at + CLOSE_S)


def round_ms(seconds: float) -> int:
    """Milliseconds, as they are kept."""
    return round(seconds * 1000)


def remaining_ms(row: RoundRow, now: float) -> int | None:
    """Until the deadline; None where there is none."""
    return None if row.deadline_at is None else max(0, round_ms(row.deadline_at - now))
