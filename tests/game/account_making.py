"""A game with few words whose accounts are cheap to make, on a clock that only tests move."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random
from typing import Any

from argon2 import PasswordHasher

from idiolect.game.accounts import Accounts
from idiolect.game.desk import Game
from idiolect.game.passwords import Passwords
from idiolect.game.vocabulary import BaseWord, Vocabulary, vocabulary
from idiolect.store.game.records import PlayerRow
from idiolect.store.store import Store
from idiolect.types import Item

BEGAN = 1_800_000_000.0
PASSWORD = "a long enough one"
NAMES = ("bicycle", "bird", "house", "ship")


@dataclass
class Hand:
    now: float = BEGAN

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


class Counting(PasswordHasher):
    """Argon2id at its cheapest, and how often it was asked."""

    def __init__(self, time_cost: int = 1) -> None:
        super().__init__(time_cost=time_cost, memory_cost=8, parallelism=1)
        self.n_verified = 0

    def verify(self, hash: Any, password: Any) -> Any:
        self.n_verified += 1
        return super().verify(hash, password)


def words() -> Vocabulary:
    made = {
        f"mero:{key}": BaseWord("mero", key, "n", f"mero:{key}", key, "wn30:0-n", "concrete", False, "a thing") for key in NAMES
    }
    return Vocabulary("test", made, {id: {} for id in made}, vocabulary().lexicon)


@dataclass
class Desk:
    """`broken`: what forgetting raises, as long as it is set. `read_by_others`: wiping does not come to an end."""

    store: Store
    clock: Hand = field(default_factory=Hand)
    hasher: Counting = field(default_factory=Counting)
    broken: Exception | None = None
    n_scrubbed: int = 0
    read_by_others: bool = False

    def __post_init__(self) -> None:
        self.game = Game(self.store, clock=self.clock, rng=Random(0), words=words())
        self.accounts = self.reopened(self.hasher)
        self.game.prepare()

    def reopened(self, hasher: PasswordHasher) -> Accounts:
        """The desk of accounts as after a restart."""
        words, passwords = self.game.words, Passwords(hasher)
        return Accounts(
            self.game.books, words.lexicon, self.clock, self.game.rng, self.forget, passwords=passwords, scrub=self.scrub
        )

    def forget(self, person: str) -> None:
        if self.broken is not None:
            raise self.broken
        self.store.delete_person(person)

    def scrub(self) -> bool:
        self.n_scrubbed += 1
        return not self.read_by_others

    def play(self, player: PlayerRow, *texts: str) -> int:
        """A whole round; the base word."""
        round = self.game.rounds.issue(player.key, mode="classic")
        self.game.rounds.start(player.key, round.round)
        for seq, text in enumerate(texts):
            self.game.rounds.answer(player.key, round.round, seq, text, 500 * seq)
        self.clock.tick(1.0)
        self.game.rounds.finish(player.key, round.round)
        assert round.prompt is not None
        return round.prompt

    def history(self, player: PlayerRow) -> str:
        """Make the player a person with one item; the person's id."""
        name = f"nyms-{player.player}"
        with self.game.books.write() as books:
            books.keep_items(player.key, name, [Item("r-1", {"text": "wheel"}, "2027-01-15")])
        return name

    def row(self, player: PlayerRow) -> PlayerRow | None:
        with self.game.books.read() as books:
            return books.find_player(player.key)

    def counts(self) -> dict[str, tuple[int, int, float, dict[str, int]]]:
        """Of each base word: players, rounds, sum of scores, and how many gave which key."""
        with self.game.books.read() as books:
            return {
                prompt.prompt: (
                    prompt.n_players,
                    prompt.n_rounds,
                    prompt.score_sum,
                    {key: pair.n_players for key, pair in books.pairs(prompt.key).items()},
                )
                for prompt in books.prompts()
            }
