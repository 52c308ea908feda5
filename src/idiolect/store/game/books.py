"""The game's rows: one transaction at a time.

    with store.game.write() as books:
        round = books.open_round(player.key)

What happens in one `with` happens altogether or not at all.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from idiolect.store.database import Area, Database
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

    def count_again(self, prompts: Collection[int]) -> None:
        """Make what is kept of players in sum on these base words again from the players who are there, but for states.

        Nothing of those who left stays: pairs that nobody gives or judged any more go, and forms that only they wrote.
        """
        self.recount_prompts(prompts)
        self.drop_orphaned_pairs(prompts)
        for prompt in sorted(prompts):
            self.recount_players(prompt)
        self.respell_judgements(prompts)


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
    def write(self, *areas: Area) -> Iterator[Books]:
        """A transaction that is alone in the game's rows; on any exception, nothing of it happened.

        Args:
            areas: where else it writes, and is to be alone, e.g. "histories".

        Raises:
            StoreBusy: if another writer does not finish in time.
        """
        with self._rows.write("game", *areas) as connection:
            yield Books(connection)
