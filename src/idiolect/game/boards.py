"""Leaderboards.

    mean      mean score of rounds of words at the usual pace: ten rounds or more, played within 30 days; the best ten
    total     all points; the best five
    rounds    rounds played; the best five
    streak    days in a row, up to today or yesterday (UTC); the best five
    hardest   base words with ten rounds or more, by the mean score; the five with the lowest

Only accounts that asked for it are listed, and only in good standing; simulated players never. Whoever looks sees their own
place as well: one plus the number of listed players who are strictly better. Rounds beyond a day's share count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from idiolect.game.clock import Clock
from idiolect.game.rules import DAY_S
from idiolect.game.vocabulary import BaseWord, Vocabulary
from idiolect.store.game.boards import PlaceRow
from idiolect.store.game.books import GameBooks
from idiolect.store.game.records import PlayerRow

BoardName = Literal["mean", "total", "rounds", "streak"]

MEAN_ROUNDS, MEAN_DAYS = 10, 30
HARD_ROUNDS = 10
N_MEAN, N_OTHER = 10, 5


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


class Boards:
    """Reads leaderboards.

    `viewer` is the row of the player who looks; None: nobody is signed in.
    """

    def __init__(self, books: GameBooks, words: Vocabulary, clock: Clock) -> None:
        self._books, self._words, self._clock = books, words, clock

    def board(self, name: BoardName, viewer: int | None = None) -> Board:
        now = self._clock()
        with self._books.read() as books:
            looks = None if viewer is None else books.player(viewer)
            if name == "mean":
                rows = books.mean_board(viewer, MEAN_ROUNDS, now - MEAN_DAYS * DAY_S, N_MEAN)
            elif name == "total":
                rows = books.total_board(viewer, N_OTHER)
            elif name == "rounds":
                rows = books.round_board(viewer, N_OTHER)
            else:
                rows = books.streak_board(viewer, int(now // DAY_S), N_OTHER)
        return _board(name, rows, looks, N_MEAN if name == "mean" else N_OTHER)

    def hardest(self) -> list[Hard]:
        """Base words, the hardest first."""
        with self._books.read() as books:
            rows = [(row, books.prompt(row.prompt).prompt) for row in books.hard_board(HARD_ROUNDS, N_OTHER)]
        return [
            Hard(row.place, self._words.words[name], row.mean, row.n_rounds) for row, name in rows if name in self._words.words
        ]


def _board(name: BoardName, rows: Sequence[PlaceRow], looks: PlayerRow | None, limit: int) -> Board:
    places = [
        Place(row.place, row.handle, row.value, row.n_rounds, own=looks is not None and row.player == looks.key) for row in rows
    ]
    asked = looks is not None and looks.kind == "account" and looks.listed
    shown = [place for place, row in zip(places, rows, strict=True) if row.listed or (place.own and asked)]
    return Board(name, tuple(shown[:limit]), next((place for place in places if place.own), None))
