"""The word game with its desks, on one store.

with Store.open() as store:
    game = Game(store)
    game.prepare()
    player = game.accounts.guest()
    round = game.rounds.issue(player.key)

rounds       base words, answers, scores          accounts    guests, accounts, consents, leaving
judging      Nym or Not                           histories   rounds → items of the player's own history
moderation   objections and decisions             exports     the dataset, and all of one's own
boards       leaderboards                         mirrors     how a player sees words
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cached_property

from idiolect.game import rounds
from idiolect.game.accounts import Accounts
from idiolect.game.boards import Boards
from idiolect.game.clock import Clock, server_clock
from idiolect.game.exports import Exports
from idiolect.game.histories import Histories
from idiolect.game.judging import Judging
from idiolect.game.mirror import Mirrors
from idiolect.game.moderating import Moderation
from idiolect.game.pooling import Candidates
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
        candidates: a model's answers to be judged in Nym or Not; None: there is no model.
    """

    def __init__(
        self,
        store: Store,
        *,
        clock: Clock | None = None,
        rng: random.Random | None = None,
        words: Vocabulary | None = None,
        forget: Callable[[str], object] | None = None,
        candidates: Candidates | None = None,
    ) -> None:
        self.store = store
        self.clock = clock or server_clock()
        self.rng = rng or random.SystemRandom()
        self.words = words or vocabulary()
        self._forget = forget or store.delete_person
        self._candidates = candidates

    @property
    def books(self) -> GameBooks:
        return self.store.game

    def prepare(self) -> int:
        """See to it that the store has every base word; how many are new."""
        with self.books.write() as books:
            return rounds.add_vocabulary(books, self.words)

    @cached_property
    def rounds(self) -> rounds.Rounds:
        desk = self.judging
        return rounds.Rounds(self.books, self.words, self.clock, self.rng, on_closed=desk.on_closed, judge=desk.offer)

    @cached_property
    def judging(self) -> Judging:
        return Judging(self.books, self.words, self.clock, self.rng, self._candidates)

    @cached_property
    def moderation(self) -> Moderation:
        return Moderation(self.books, self.words, self.clock)

    @cached_property
    def boards(self) -> Boards:
        return Boards(self.books, self.words, self.clock)

    @cached_property
    def accounts(self) -> Accounts:
        scrub = self.store.scrub
        return Accounts(self.books, self.words.lexicon, self.clock, self.rng, self._forget, scrub=scrub)

    @cached_property
    def histories(self) -> Histories:
        return Histories(self.books, self.words)

    @cached_property
    def mirrors(self) -> Mirrors:
        return Mirrors(self.books, self.words, self.clock)

    @cached_property
    def exports(self) -> Exports:
        return Exports(self.books, self.words, self.clock)
