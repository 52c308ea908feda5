"""A small game: few words, a clock that only tests move, and players who play a round in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from idiolect.game.desk import Game
from idiolect.game.normalise import Relation
from idiolect.game.reports import Report
from idiolect.game.vocabulary import BaseWord, Vocabulary, vocabulary
from idiolect.store.game.records import PlayerRow
from idiolect.store.store import Store

BEGAN = 1_800_000_000.0


@dataclass
class Hand:
    """A clock for tests."""

    now: float = BEGAN

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        self.now += seconds


def small(words: Sequence[tuple[Relation, str]], seeds: dict[str, dict[str, int]] | None = None) -> Vocabulary:
    """Base words of one's own, with the shipped lexicon."""
    made = {
        f"{relation}:{key}": BaseWord(relation, key, "n", f"{relation}:{key}", key, "wn30:0-n", "concrete", False, "a thing")
        for relation, key in words
    }
    return Vocabulary("test", made, {id: (seeds or {}).get(id, {}) for id in made}, vocabulary().lexicon)


BICYCLE = small([("mero", "bicycle")], {"mero:bicycle": {"wheel": 1, "chain": 1, "spoke": 1}})


@dataclass
class Table:
    """A game on a store, and who sits at it."""

    store: Store
    words: Vocabulary = BICYCLE
    clock: Hand = field(default_factory=Hand)
    seed: int = 0

    def __post_init__(self) -> None:
        self.game = self.open()
        self.game.prepare()

    def open(self) -> Game:
        """The same game as after a restart."""
        return Game(self.store, clock=self.clock, rng=Random(self.seed), words=self.words)

    def player(self, name: str, kind: Any = "guest", **values: Any) -> PlayerRow:
        with self.game.books.write() as books:
            return books.add_player(name, kind, self.clock(), **values)

    def play(self, player: PlayerRow, *texts: str, mode: Any = "classic", pasted: bool = False) -> Report:
        """A whole round."""
        round = self.game.rounds.issue(player.key, mode=mode)
        self.game.rounds.start(player.key, round.round)
        for seq, text in enumerate(texts):
            self.clock.tick(0.5)
            self.game.rounds.answer(player.key, round.round, seq, text, 500 * seq, pasted=pasted)
        self.clock.tick(0.5)
        return self.game.rounds.finish(player.key, round.round)

    def crowd(self, n: int, *texts: str, kind: Any = "guest", start: int = 0) -> list[PlayerRow]:
        """Players who all give the same answers."""
        made = [self.player(f"{kind}-{start + i}", kind) for i in range(n)]
        for player in made:
            self.play(player, *texts)
        return made
