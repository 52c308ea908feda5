"""The game's rows: one transaction at a time.

    with store.game.write() as books:
        round = books.open_round(player.key)

What happens in one `with` happens altogether or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from idiolect.store.database import Database
from idiolect.store.game.accounts import AccountBook
from idiolect.store.game.boards import BoardBook
from idiolect.store.game.filling import FillBook
from idiolect.store.game.judging import JudgeBook
from idiolect.store.game.leaving import LeavingBook
from idiolect.store.game.limits import LimitBook
from idiolect.store.game.moderating import ModerationBook
from idiolect.store.game.pairs import PairBook
from idiolect.store.game.players import PlayerBook
from idiolect.store.game.reading import ReadingBook
from idiolect.store.game.rounds import RoundBook


class Books(
    PlayerBook,
    RoundBook,
    PairBook,
    LeavingBook,
    AccountBook,
    LimitBook,
    JudgeBook,
    ModerationBook,
    BoardBook,
    ReadingBook,
    FillBook,
):
    """All books of the game, in one transaction."""


class GameBooks:
    """Opens the books."""

    def __init__(self, rows: Database) -> None:
        self._rows = rows

    @contextmanager
    def read(self) -> Iterator[Books]:
        """A transaction in which every look sees the same state."""
        with self._rows.read() as connection:
            yield Books(connection)

    @contextmanager
    def write(self) -> Iterator[Books]:
        """A transaction that is alone in the game's rows; on any exception, nothing of it happened.

        Raises:
            StoreBusy: if another writer does not finish in time.
        """
        with self._rows.write("game") as connection:
            yield Books(connection)
