"""The word game with its desks, on one store.

with Store.open() as store:
    game = Game(store)
    game.prepare()
    round = game.rounds.issue(player.key)
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cached_property

from idiolect.game import rounds
from idiolect.game.clock import Clock, server_clock
from idiolect.game.vocabulary import Vocabulary, vocabulary
from idiolect.store.game.books import GameBooks
from idiolect.store.store import Store


class Game:
    """All desks of the game.

    Args:
        clock: the server's; tests bring their own.
        rng: for names, choices and order; by default from the system, so that nobody can guess the next round.
        words: by default those that ship with the package.
        forget: deletes a person with everything that came of them, by id; by default their rows and files only.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        words: Vocabulary | None = None,
        forget: Callable[[str], object] | None = None,
    ) -> None:
        self.store = store
        self.clock = clock or server_clock()
        self.rng = rng or random.SystemRandom()
        self.words = words or vocabulary()
        self.forget = forget or store.delete_person

    @property
    def books(self) -> GameBooks:
        return self.store.game

    def prepare(self) -> int:
        """See to it that the store has every base word; how many are new."""
        with self.books.write() as books:
            return rounds.add_vocabulary(books, self.words)

    @cached_property
    def rounds(self) -> rounds.Rounds:
        return rounds.Rounds(self.books, self.words, self.clock, self.rng)
