"""Leaderboards, by SQL: `rank()` is one plus the number of those strictly better.

Everybody sees accounts that asked to be listed and are in good standing; ranks are among them. Whoever looks also gets their
own row, with the place that they have or would have: a limited or banned player sees themselves, and nobody else sees them.
Rounds beyond a day's share count nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Float, Integer, Select, and_, case, cast, func, or_, select

from idiolect.store.game.ledger import Ledger
from idiolect.store.game.rounds import trusted
from idiolect.store.game.tables import players, prompts, rounds

DAY_S = 86400.0


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """A player's place; `handle` is None for a guest. `listed`: everybody sees it; otherwise it is the viewer's own."""

    place: int
    player: int
    handle: str | None
    value: float
    n_rounds: int
    listed: bool


@dataclass(frozen=True, slots=True)
class HardRow:
    """A base word by the mean score of its rounds; the hardest has the lowest."""

    place: int
    prompt: int
    mean: float
    n_rounds: int


class BoardBook(Ledger):
    """Who is how good."""

    def mean_board(self, viewer: int | None, least: int, since: float, limit: int) -> list[PlaceRow]:
        """Mean score of rounds of words at the usual pace, of those with so many of them who played since then."""
        c = rounds.c
        recent = select(c.player).where(c.closed_at >= since, *_played()).scalar_subquery()
        mean = func.avg(cast(_score(), Float)).label("value")
        query = _by_player(mean, viewer).where(c.mode.in_(("classic", "fresh")), c.timing == "1x", c.player.in_(recent))
        return self._board(query.having(func.count() >= least), viewer, limit)

    def total_board(self, viewer: int | None, limit: int) -> list[PlaceRow]:
        """All points: of words, of judgements, of accepted challenges."""
        return self._board(_by_player(func.sum(_score()).label("value"), viewer), viewer, limit)

    def round_board(self, viewer: int | None, limit: int) -> list[PlaceRow]:
        """Rounds played."""
        return self._board(_by_player(func.count().label("value"), viewer), viewer, limit)

    def streak_board(self, viewer: int | None, today: int, limit: int) -> list[PlaceRow]:
        """Days in a row, up to today or yesterday.

        Args:
            today: days since 1970, UTC.
        """
        c = rounds.c
        days = select(c.player, _day(c.closed_at).label("day")).join(players, players.c.id == c.player)
        days = days.where(*_played(), _is_seen(viewer), _day(c.closed_at) <= today).distinct().subquery()
        # Days that follow each other keep their distance to the number of the row.
        place = func.row_number().over(partition_by=days.c.player, order_by=days.c.day)
        runs = select(days.c.player, days.c.day, (days.c.day - place).label("run")).subquery()
        n_days = func.count().label("value")
        query = select(*_who(), n_days, n_days.label("n")).select_from(runs).join(players, players.c.id == runs.c.player)
        query = query.group_by(players.c.id, runs.c.run).having(func.max(runs.c.day) >= today - 1)
        return self._board(query, viewer, limit)

    def hard_board(self, least: int, limit: int) -> list[HardRow]:
        """Active base words with so many rounds of real players."""
        c = prompts.c
        mean = cast(c.score_sum, Float) / c.n_rounds
        place = func.rank().over(order_by=mean)
        query = select(place.label("place"), c.id, mean.label("mean"), c.n_rounds)
        query = query.where(c.status == "active", c.n_rounds >= least, c.n_rounds > 0)
        return [HardRow(*row) for row in self.connection.execute(query.order_by("place", c.id).limit(limit))]

    def _board(self, values: Select[Any], viewer: int | None, limit: int) -> list[PlaceRow]:
        """The best of those listed, and the viewer wherever they are; best first."""
        v = values.subquery()
        better = v.alias()
        n_better = select(func.count()).where(better.c.listed == 1, better.c.value > v.c.value).scalar_subquery()
        rank = func.rank().over(partition_by=v.c.listed, order_by=v.c.value.desc())
        place = case((v.c.listed == 1, rank), else_=1 + n_better).label("place")
        order = func.row_number().over(partition_by=v.c.listed, order_by=(v.c.value.desc(), v.c.player))
        r = select(v, place, order.label("row")).subquery().c
        wanted = and_(r.listed == 1, r.row <= limit)
        wanted = wanted if viewer is None else or_(wanted, r.player == viewer)
        query = select(r.place, r.player, r.handle, cast(r.value, Float), r.n, r.listed).where(wanted)
        rows = self.connection.execute(query.order_by(r.value.desc(), r.player))
        return [PlaceRow(*row[:5], listed=bool(row[5])) for row in rows]


def is_listed() -> ColumnElement[bool]:
    """Players whom everybody may see on a board."""
    return and_(players.c.kind == "account", players.c.listed == 1, trusted())


def _is_seen(viewer: int | None) -> ColumnElement[bool]:
    return is_listed() if viewer is None else or_(is_listed(), players.c.id == viewer)


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


def _by_player(value: ColumnElement[Any], viewer: int | None) -> Select[Any]:
    query = select(*_who(), value, func.count().label("n")).select_from(rounds).join(players, players.c.id == rounds.c.player)
    return query.where(*_played(), _is_seen(viewer)).group_by(players.c.id)
