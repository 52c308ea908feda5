"""What leaderboards are made of, by SQL: of everybody who is listed, or of one player, listed or not.

Listed are accounts that asked for it and are in good standing. Rounds beyond a day's share count nowhere.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, and_, case, cast, func, select

from idiolect.store.game.ledger import Ledger
from idiolect.store.game.rounds import trusted
from idiolect.store.game.tables import players, prompts, rounds

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class FigureRow:
    """What a player did; `handle` is None for a guest.

    Attributes:
        total: all points: of words, of judgements, of accepted challenges.
        n_words, words_total: rounds of words at the usual pace, and their points.
        last_at: when the newest round was closed.
    """

    player: int
    handle: str | None
    listed: bool
    n_rounds: int
    total: int
    n_words: int
    words_total: int
    last_at: float


@dataclass(frozen=True, slots=True)
class StreakRow:
    """Days in a row, up to today or yesterday; `handle` is None for a guest."""

    player: int
    handle: str | None
    listed: bool
    days: int


@dataclass(frozen=True, slots=True)
class HardRow:
    """A base word by the mean score of its rounds; the hardest has the lowest."""

    place: int
    prompt: int
    mean: float
    n_rounds: int


class BoardBook(Ledger):
    """Who is how good."""

    def figures(self, player: int | None = None) -> list[FigureRow]:
        """Figures of all who are listed, or of one player."""
        c = rounds.c
        is_words = and_(c.mode.in_(("classic", "fresh")), c.timing == "1x")
        query = select(
            *_who(),
            func.count(),
            func.sum(_score()),
            func.sum(case((is_words, 1), else_=0)),
            func.sum(case((is_words, _score()), else_=0)),
            func.max(c.closed_at),
        )
        query = query.select_from(rounds).join(players, players.c.id == c.player)
        rows = self.connection.execute(query.where(*_played(), _of(player)).group_by(players.c.id))
        return [FigureRow(row[0], row[1], bool(row[2]), *row[3:]) for row in rows]

    def streaks(self, today: int, player: int | None = None) -> list[StreakRow]:
        """Days in a row of all who are listed, or of one player.

        Args:
            today: days since 1970, UTC.
        """
        c = rounds.c
        of_late = select(c.player).where(*_played(), c.closed_at >= (today - 1) * DAY_S)
        days = select(c.player, _day(c.closed_at).label("day")).join(players, players.c.id == c.player)
        days = days.where(*_played(), _of(player), c.player.in_(of_late), _day(c.closed_at) <= today).distinct().cte()
        # Days that follow each other keep their distance to the number of the row.
        place = func.row_number().over(partition_by=days.c.player, order_by=days.c.day)
        runs = select(days.c.player, days.c.day, (days.c.day - place).label("run")).cte()
        query = select(*_who(), func.count()).select_from(runs).join(players, players.c.id == runs.c.player)
        query = query.group_by(players.c.id, runs.c.run).having(func.max(runs.c.day) >= today - 1)
        return [StreakRow(row[0], row[1], bool(row[2]), row[3]) for row in self.connection.execute(query)]

    def listed_now(self, among: Collection[int]) -> dict[int, str | None]:
        """Those of these players who are listed, with their handles."""
        query = select(players.c.id, players.c.handle).where(players.c.id.in_(sorted(among)), is_listed())
        return {player: handle for player, handle in self.connection.execute(query)}

    def hard_board(self, least: int, limit: int) -> list[HardRow]:
        """Active base words with so many rounds of real players."""
        c = prompts.c
        mean = cast(c.score_sum, Float) / c.n_rounds
        place = func.rank().over(order_by=mean)
        query = select(place.label("place"), c.id, mean.label("mean"), c.n_rounds)
        query = query.where(c.status == "active", c.n_rounds >= least, c.n_rounds > 0)
        return [HardRow(*row) for row in self.connection.execute(query.order_by("place", c.id).limit(limit))]


def is_listed() -> ColumnElement[bool]:
    """Players whom everybody may see on a board."""
    return and_(players.c.kind == "account", players.c.listed == 1, trusted())


def _of(player: int | None) -> ColumnElement[bool]:
    return is_listed() if player is None else players.c.id == player


def _played() -> tuple[ColumnElement[bool], ...]:
    return rounds.c.beyond == 0, rounds.c.close_reason.in_(("finished", "expired"))


def _score() -> ColumnElement[int]:
    """As `RoundRow.score`."""
    return func.coalesce(rounds.c.score_final, rounds.c.score_provisional, 0) + rounds.c.bonus


def _day(at: ColumnElement[float]) -> ColumnElement[int]:
    """Days since 1970. Of a time after 1970: one database rounds when it casts, the other cuts."""
    day = cast(at / DAY_S, Integer)
    return day - case((day > at / DAY_S, 1), else_=0)


def _who() -> tuple[ColumnElement[Any], ...]:
    listed = case((is_listed(), 1), else_=0).label("listed")
    return players.c.id.label("player"), players.c.handle, listed
