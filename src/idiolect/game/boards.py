"""Leaderboards.

    mean      mean score of rounds of words at the usual pace: ten rounds or more, played within 30 days; the best ten
    total     all points; the best five
    rounds    rounds played; the best five
    streak    days in a row, up to today or yesterday (UTC); the best five
    hardest   base words with ten rounds or more, by the mean score; the five with the lowest

Only accounts that asked for it are listed, and only in good standing; simulated players never. Whoever looks sees their own
place as well: one plus the number of listed players who are strictly better; a limited or banned player sees themselves, and
nobody else sees them. Rounds beyond a day's share count nowhere.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from idiolect.game.clock import Clock
from idiolect.game.rules import DAY_S
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.books import Books, GameBooks
from idiolect.store.game.records import PlayerRow

BoardName = Literal["mean", "total", "rounds", "streak"]

MEAN_ROUNDS, MEAN_DAYS = 10, 30
HARD_ROUNDS = 10
N_MEAN, N_OTHER = 10, 5
KEPT_S: Final = 60.0
"""How old the lists may be."""
_SPARE: Final = 3
"""So many times what is shown is looked through, for some may be listed no longer."""


@dataclass(frozen=True)
class Place:
    """A line of a board; `own` is the line of whoever looks, whose handle is None for a guest."""

    place: int
    handle: str | None
    value: float
    n_rounds: int
    own: bool


@dataclass(frozen=True)
class Board:
    """The best, and whoever looks.

    Attributes:
        own: None without a viewer, or where they have not played enough. It is among the places only of an account that asked
            to be listed and is good enough; a limited one finds itself there like any other, and is alone in that.
    """

    name: BoardName
    places: tuple[Place, ...]
    own: Place | None


@dataclass(frozen=True)
class Hard:
    """A base word by the mean score of its rounds."""

    place: int
    word: BaseWord
    mean: float
    n_rounds: int


@dataclass(frozen=True)
class _Value:
    """A player's value on a board."""

    player: int
    handle: str | None
    listed: bool
    value: float
    n_rounds: int


@dataclass(frozen=True)
class _Lists:
    """What boards were at a time: of each all listed players, the best first, and their values, the least first."""

    at: float
    ranked: Mapping[BoardName, Sequence[_Value]]
    values: Mapping[BoardName, Sequence[float]]
    hardest: Sequence[Hard]


class Boards:
    """Reads leaderboards.

    What takes all rounds to know is at most a minute old. Who is shown, by what handle, and the figures of whoever looks are
    those of now.

    `viewer` is the row of the player who looks; None: nobody is signed in.
    """

    def __init__(self, books: GameBooks, words: Vocabulary, clock: Clock) -> None:
        self._books, self._words, self._clock = books, words, clock
        self._kept: _Lists | None = None
        self._reading = threading.Lock()

    def board(self, name: BoardName, viewer: int | None = None) -> Board:
        return self.boards((name,), viewer)[0]

    def boards(self, names: Sequence[BoardName], viewer: int | None = None) -> list[Board]:
        """Several boards, as of one time."""
        now = self._clock()
        lists = self._lists(now)
        spare = {name: lists.ranked[name][: _SPARE * _limit(name)] for name in names}
        with self._books.read() as books:
            looks = None if viewer is None else books.player(viewer)
            shown = books.listed_now({one.player for rows in spare.values() for one in rows})
            own = {} if viewer is None else _values(books, now, viewer)
        made: list[Board] = []
        for name in names:
            rows = [replace(one, handle=shown[one.player]) for one in spare[name] if one.player in shown]
            mine = next(iter(own.get(name, ())), None)
            made.append(_board(name, rows, lists, looks, mine))
        return made

    def hardest(self) -> list[Hard]:
        """Base words, the hardest first."""
        return list(self._lists(self._clock()).hardest)

    def _lists(self, now: float) -> _Lists:
        kept = self._kept
        if kept is not None and 0 <= now - kept.at < KEPT_S:
            return kept
        if not self._reading.acquire(blocking=kept is None):
            assert kept is not None
            return kept  # somebody else is reading them anew
        try:
            if self._kept is kept:
                self._kept = self._read(now)
            assert self._kept is not None
            return self._kept
        finally:
            self._reading.release()

    def _read(self, now: float) -> _Lists:
        with self._books.read() as books:
            ranked: dict[BoardName, list[_Value]] = {
                name: sorted(rows, key=_order) for name, rows in _values(books, now).items()
            }
            rows = [(row, books.prompt(row.prompt).prompt) for row in books.hard_board(HARD_ROUNDS, N_OTHER)]
        words = self._words.words
        hardest = [Hard(row.place, words[name], row.mean, row.n_rounds) for row, name in rows if name in words]
        values: dict[BoardName, list[float]] = {name: sorted(one.value for one in rows) for name, rows in ranked.items()}
        return _Lists(now, ranked, values, hardest)


def _values(books: Books, now: float, player: int | None = None) -> dict[BoardName, list[_Value]]:
    """Values on each board of all who are listed, or of one player."""
    found: dict[BoardName, list[_Value]] = {"mean": [], "total": [], "rounds": [], "streak": []}
    for row in books.figures(player):
        found["total"].append(_Value(row.player, row.handle, row.listed, float(row.total), row.n_rounds))
        found["rounds"].append(_Value(row.player, row.handle, row.listed, float(row.n_rounds), row.n_rounds))
        if row.n_words >= MEAN_ROUNDS and row.last_at >= now - MEAN_DAYS * DAY_S:
            mean = row.words_total / row.n_words
            found["mean"].append(_Value(row.player, row.handle, row.listed, mean, row.n_words))
    for row in books.streaks(int(now // DAY_S), player):
        found["streak"].append(_Value(row.player, row.handle, row.listed, float(row.days), row.days))
    return found


def _board(name: BoardName, rows: Sequence[_Value], lists: _Lists, looks: PlayerRow | None, mine: _Value | None) -> Board:
    """A board from listed players, the best first, and the value of whoever looks, by their rounds until now."""
    viewer = None if looks is None else looks.key
    was = next((one.value for one in lists.ranked[name] if one.player == viewer), None)
    values = lists.values[name]

    def placed(one: _Value) -> Place:
        n_better = len(values) - bisect_right(values, one.value) - (was is not None and was > one.value)
        n_better += mine is not None and mine.listed and mine.value > one.value
        return Place(1 + n_better, one.handle, one.value, one.n_rounds, own=one is mine)

    shown = [one for one in rows if one.player != viewer]
    asked = looks is not None and looks.kind == "account" and looks.listed
    if mine is not None and (mine.listed or asked):
        shown = sorted([*shown, mine], key=_order)
    return Board(name, tuple(map(placed, shown[: _limit(name)])), None if mine is None else placed(mine))


def _order(one: _Value) -> tuple[float, int]:
    return -one.value, one.player


def _limit(name: BoardName) -> int:
    return N_MEAN if name == "mean" else N_OTHER
